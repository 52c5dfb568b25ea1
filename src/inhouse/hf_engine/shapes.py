"""What the engine says: rows' pieces in OpenAI's shapes, streamed and whole. Pure.

One class for each API, with the same four methods: `start`, `piece` and `end` for a stream, `whole` for a document.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from inhouse.errors import ApiError, ContextTooLong
from inhouse.hf_engine.rows import Piece, Told
from inhouse.wire import errors, sse

_encode = msgspec.json.encode
Json = dict[str, Any]


class Shape(Protocol):
    """How one API shows the rows of one request."""

    def start(self) -> bytes:
        """The events before the first piece."""

    def piece(self, index: int, piece: Piece) -> bytes:
        """The events for a piece of row `index`; may be none."""

    def end(self, usage: Json) -> bytes:
        """The events behind the last piece."""

    def whole(self, rows: Sequence[Sequence[Piece]], usage: Json) -> bytes:
        """The document, from all pieces of each row."""


class ChatShape:
    """`chat.completion` and its chunks."""

    def __init__(self, id_hex: str, created_s: int, model: str, choices: int, *, include_usage: bool) -> None:
        self._head = {"id": f"chatcmpl-{id_hex}", "created": created_s, "model": model}
        self._choices = choices
        self._include_usage = include_usage

    def start(self) -> bytes:
        said = {"role": "assistant", "content": ""}
        return b"".join([self._event([_delta(index, said)]) for index in range(self._choices)])

    def piece(self, index: int, piece: Piece) -> bytes:
        out = b""
        if piece.text or piece.told:
            out = self._event([_delta(index, {"content": piece.text}, piece.told)])
        if piece.finish:
            out += self._event([{"index": index, "delta": {}, "finish_reason": piece.finish}])
        return out

    def end(self, usage: Json) -> bytes:
        return (self._event([], usage) if self._include_usage else b"") + sse.DONE

    def whole(self, rows: Sequence[Sequence[Piece]], usage: Json) -> bytes:
        choices = []
        for index, pieces in enumerate(rows):
            told = [one for piece in pieces for one in piece.told]
            message = {"role": "assistant", "content": "".join(piece.text for piece in pieces), "refusal": None}
            choices.append(
                {
                    "index": index,
                    "message": message,
                    "finish_reason": pieces[-1].finish,
                    "logprobs": _logprobs(told) if told else None,
                }
            )
        return _encode({**self._head, "object": "chat.completion", "choices": choices, "usage": usage})

    def _event(self, choices: list[Json], usage: Json | None = None) -> bytes:
        return _event({**self._head, "object": "chat.completion.chunk", "choices": choices}, usage)


class TextShape:
    """`text_completion` and its chunks."""

    def __init__(self, id_hex: str, created_s: int, model: str, choices: int, *, include_usage: bool) -> None:
        self._head = {"id": f"cmpl-{id_hex}", "created": created_s, "model": model, "object": "text_completion"}
        self._offsets = [0] * choices
        self._include_usage = include_usage

    def start(self) -> bytes:
        return b""

    def piece(self, index: int, piece: Piece) -> bytes:
        if not (piece.text or piece.told or piece.finish):
            return b""
        return _event({**self._head, "choices": [self._choice(index, piece.text, piece.told, piece.finish)]})

    def end(self, usage: Json) -> bytes:
        return (_event({**self._head, "choices": []}, usage) if self._include_usage else b"") + sse.DONE

    def whole(self, rows: Sequence[Sequence[Piece]], usage: Json) -> bytes:
        choices = []
        for index, pieces in enumerate(rows):
            told = tuple(one for piece in pieces for one in piece.told)
            text = "".join(piece.text for piece in pieces)
            choices.append(self._choice(index, text, told, pieces[-1].finish))
        return _encode({**self._head, "choices": choices, "usage": usage})

    def _choice(self, index: int, text: str, told: Sequence[Told], finish: str | None) -> Json:
        logprobs = None
        if told:
            offsets = []
            for one in told:
                offsets.append(self._offsets[index])
                self._offsets[index] += len(one.token)
            logprobs = {
                "tokens": [one.token for one in told],
                "token_logprobs": [one.logprob for one in told],
                "top_logprobs": [dict(one.top) for one in told],
                "text_offset": offsets,
                **_logprobs(told),  # llama-server's way of saying it, which gateways read
            }
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}


class GenerateShape:
    """`/generate`: text only."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._finish: str | None = None

    def start(self) -> bytes:
        return b""

    def piece(self, index: int, piece: Piece) -> bytes:
        self._finish = piece.finish
        return _event({"text": piece.text}) if piece.text else b""

    def end(self, usage: Json) -> bytes:
        return _event({"text": "", "finish_reason": self._finish}, usage) + sse.DONE

    def whole(self, rows: Sequence[Sequence[Piece]], usage: Json) -> bytes:
        pieces = rows[0]
        text = "".join(piece.text for piece in pieces)
        return _encode({"text": text, "model": self._model, "finish_reason": pieces[-1].finish, "usage": usage})


def usage(prompt_tokens: int, answer_tokens: int) -> Json:
    """`usage`; nothing is ever taken from a cache of prefixes."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": answer_tokens,
        "total_tokens": prompt_tokens + answer_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def embeddings(
    model: str, vectors: Sequence[list[float]], prompt_tokens: int, *, base64_wanted: bool, dimensions: int | None
) -> bytes:
    """The list of vectors; with `dimensions`, their beginnings, brought to length 1 again."""
    data = []
    for index, vector in enumerate(vectors):
        shown: list[float] | str = vector if dimensions is None else _shortened(vector, dimensions)
        if base64_wanted:
            shown = base64.b64encode(struct.pack(f"<{len(shown)}f", *shown)).decode()
        data.append({"object": "embedding", "index": index, "embedding": shown})
    used = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return _encode({"object": "list", "model": model, "data": data, "usage": used})


def refusal(error: ApiError) -> bytes:
    """The body of an error. What is too long is told in numbers too, under llama-server's names for them."""
    if not isinstance(error, ContextTooLong):
        return errors.body(error)
    told = msgspec.json.decode(errors.body(error))
    told["error"] |= {"n_prompt_tokens": error.prompt_tokens, "n_ctx": error.context_tokens}
    return _encode(told)


def _shortened(vector: list[float], dimensions: int) -> list[float]:
    kept = vector[:dimensions]
    length = sum(value * value for value in kept) ** 0.5 or 1.0
    return [value / length for value in kept]


def _delta(index: int, said: Json, told: Sequence[Told] = ()) -> Json:
    found: Json = {"index": index, "delta": said, "finish_reason": None}
    if told:
        found["logprobs"] = _logprobs(told)
    return found


def _logprobs(told: Sequence[Told]) -> Json:
    return {
        "content": [
            {**_one(one.token, one.logprob), "top_logprobs": [_one(token, value) for token, value in one.top]}
            for one in told
        ],
        "refusal": None,
    }


def _one(token: str, logprob: float) -> Json:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _event(body: Json, used: Json | None = None) -> bytes:
    return b"data: " + _encode(body if used is None else {**body, "usage": used}) + b"\n\n"
