"""Text completions on their way back: each prompt's choices, their log probabilities in the shape of this older API."""

from __future__ import annotations

import msgspec

from inhouse.core import Usage
from inhouse.errors import ApiError
from inhouse.wire import errors, sse
from inhouse.wire.completions_shapes import Completion, EngineChoice, EngineChunk, Logprobs, TextChoice
from inhouse.wire.openai_chat_answer import usage_body
from inhouse.wire.views import Tracking, raise_failure

_chunk = msgspec.json.Decoder(EngineChunk)
_encode = msgspec.json.Encoder().encode


class TextView(Tracking):
    """Text completions, streamed or whole."""

    __slots__ = ("_choices", "_echoes", "_head", "_include_usage", "_offsets", "_top_logprobs", "streams")

    def __init__(
        self,
        *,
        id: str,
        created: int,
        model: str,
        echoes: list[str],
        streams: bool,
        include_usage: bool,
        top_logprobs: int | None,
        choices: int,
    ) -> None:
        super().__init__(choices)
        self.streams = streams
        self._head = (id, created, model)
        self._echoes = list(echoes)
        self._include_usage = include_usage
        self._top_logprobs = top_logprobs
        self._choices = [TextChoice(text, index, None, None) for index, text in enumerate(echoes)]
        self._offsets = [0] * len(echoes)

    def _echo(self, job: int) -> bytes:
        text, self._echoes[job] = self._echoes[job], ""
        return self._event([TextChoice(text, job, None, None)]) if text and self.streams else b""

    def events(self, job: int, data: bytes) -> bytes:
        out = [self._echo(job)]
        for payload in sse.payloads(data):
            if payload == b"[DONE]":
                self._ended += (job,)
                continue
            for choice in self._read(job, payload):
                piece = TextChoice(choice.text, job, self._logprobs(job, choice), choice.finish_reason)
                if self.streams:
                    out.append(self._event([piece]))
                else:
                    self._keep(job, piece)
        return b"".join(out)

    def _read(self, job: int, payload: bytes) -> list[EngineChoice]:
        try:
            chunk = _chunk.decode(payload)
        except sse.UNREADABLE:
            raise_failure(payload)
            return []
        if chunk.usage is not None:
            self._counted(job, chunk.usage.noun())
        if chunk.choices:
            self.events_seen += 1
        return chunk.choices

    def _logprobs(self, job: int, choice: EngineChoice) -> Logprobs | None:
        if self._top_logprobs is None or choice.logprobs is None or not choice.logprobs.content:
            return None
        found = Logprobs([], [], [], [])
        for token in choice.logprobs.content:
            found.tokens.append(token.token)
            found.token_logprobs.append(token.logprob)
            found.top_logprobs.append({top.token: top.logprob for top in token.top_logprobs[: self._top_logprobs]})
            found.text_offset.append(self._offsets[job])
            self._offsets[job] += len(token.token)
        return found

    def _keep(self, job: int, piece: TextChoice) -> None:
        kept = self._choices[job]
        kept.text += piece.text
        kept.finish_reason = piece.finish_reason or kept.finish_reason
        if piece.logprobs is not None:
            if kept.logprobs is None:
                kept.logprobs = Logprobs([], [], [], [])
            for name in Logprobs.__struct_fields__:
                getattr(kept.logprobs, name).extend(getattr(piece.logprobs, name))

    def _event(self, choices: list[TextChoice], usage: Usage | None = None) -> bytes:
        shown = usage_body(usage) if usage is not None else None
        return b"data: " + _encode(Completion(*self._head, choices, usage=shown)) + b"\n\n"

    def end(self) -> bytes:
        if self.streams:
            return (self._event([], self.usage) if self._include_usage else b"") + sse.DONE
        return _encode(Completion(*self._head, self._choices, usage=usage_body(self.usage)))

    def fail(self, error: ApiError) -> bytes:
        return errors.event(error)
