"""How engines answer who only wants to know of tokens: each in its own shape. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from inhouse.fake.text import Vocabulary
from inhouse.fake.wire import ChatAsk, Refused, chat_tokens

_chat = msgspec.json.Decoder(ChatAsk)


class _Content(Struct):
    content: str


class _Prompt(Struct):
    prompt: str


class _Inputs(Struct):
    inputs: str


class _Tokens(Struct):
    tokens: list[int]


class _Either(Struct):
    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def answer(path: bytes, body: bytes, speaks: str, vocabulary: Vocabulary, context: int) -> Any:
    """The JSON value of a 200. Raises Refused, and msgspec.DecodeError where the body has not the engine's shape."""
    if path == b"/detokenize":
        text = vocabulary.text(msgspec.json.decode(body, type=_Tokens).tokens)
        if text is None:
            raise Refused(400, "invalid_request_error", "a token that this engine has never cut")
        return {{"vllm": "prompt", "sglang": "text"}.get(speaks, "content"): text}
    if path == b"/chat_tokenize":
        return {"tokenize_response": _of_tgi(vocabulary.numbers(chat_tokens(_chat.decode(body)))), "templated_text": ""}
    if path != b"/tokenize":
        return {"input_tokens": len(chat_tokens(_chat.decode(body)))}
    if speaks == "tgi":
        return _of_tgi(vocabulary.ids(msgspec.json.decode(body, type=_Inputs).inputs))
    if speaks == "llamacpp":
        return {"tokens": vocabulary.ids(msgspec.json.decode(body, type=_Content).content)}
    if msgspec.json.decode(body, type=_Either).messages is not msgspec.UNSET:
        tokens = vocabulary.numbers(chat_tokens(_chat.decode(body)))
    else:
        tokens = vocabulary.ids(msgspec.json.decode(body, type=_Prompt).prompt)
    return {"count": len(tokens), "max_model_len": context, "tokens": tokens}


def _of_tgi(tokens: list[int]) -> list[dict[str, Any]]:
    return [{"id": token, "text": "", "start": 0, "stop": 0} for token in tokens]
