"""How engines count tokens for others: what each is asked, and how its answer reads. Pure.

llama-server and our transformers engine: `input_tokens` of a chat, /tokenize and /detokenize. vLLM: one /tokenize for
chats and texts (vllm/entrypoints/serve/tokenize/protocol.py); SGLang the same, though older ones refuse chats. TGI:
/chat_tokenize and /tokenize (router/src/server.rs), and no way back from tokens to text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

T = TypeVar("T")
_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class Question(Generic[T]):
    """A POST. `read` takes the body of a 200; it raises msgspec.DecodeError where that is no answer to it."""

    path: bytes
    body: bytes
    read: Callable[[bytes], T]


class Counting(Protocol):
    """The questions that one kind of engine answers."""

    def chat(self, body: bytes) -> Question[int]:
        """How many tokens a chat has, with what its template puts around it; `body` is that of the chat request."""

    def text(self, content: str, special: bool) -> Question[list[int]]:
        """A text's tokens; `special`: with those that open a prompt."""

    def words(self, tokens: list[int]) -> Question[str] | None:
        """The text of tokens; None: it does not tell."""


class OfLlama:
    def chat(self, body: bytes) -> Question[int]:
        return Question(b"/v1/chat/completions/input_tokens", body, lambda raw: _input_tokens(raw).input_tokens)

    def text(self, content: str, special: bool) -> Question[list[int]]:
        body = _encode({"content": content, "add_special": special})
        return Question(b"/tokenize", body, lambda raw: _tokens(raw).tokens)

    def words(self, tokens: list[int]) -> Question[str]:
        return Question(b"/detokenize", _encode({"tokens": tokens}), lambda raw: _content(raw).content)


class OfVllm:
    """SGLang's as well, which differs in what it calls the text of tokens."""

    def chat(self, body: bytes) -> Question[int]:
        return Question(b"/tokenize", _encode(_chat(body)), lambda raw: _count(raw).count)

    def text(self, content: str, special: bool) -> Question[list[int]]:
        body = _encode({"prompt": content, "add_special_tokens": special})
        return Question(b"/tokenize", body, lambda raw: _tokens(raw).tokens)

    def words(self, tokens: list[int]) -> Question[str]:
        # SGLang leaves out the marks of a template where it is not told otherwise, vLLM never does
        body = _encode({"tokens": tokens, "skip_special_tokens": False})
        return Question(b"/detokenize", body, _prompt_or_text)


class OfTgi:
    """It always puts in front of a text what opens a prompt."""

    def chat(self, body: bytes) -> Question[int]:
        return Question(b"/chat_tokenize", body, lambda raw: len(_templated(raw).tokenize_response))

    def text(self, content: str, special: bool) -> Question[list[int]]:
        return Question(b"/tokenize", _encode({"inputs": content}), lambda raw: [token.id for token in _list(raw)])

    def words(self, tokens: list[int]) -> None:
        return None


class _InputTokens(Struct):
    input_tokens: int


class _Tokens(Struct):
    tokens: list[int]


class _Content(Struct):
    content: str


class _Count(Struct):
    count: int


class _Words(Struct):
    prompt: str | None = None
    text: str | None = None


class _Token(Struct):
    id: int


class _Templated(Struct):
    tokenize_response: list[_Token]


class _Chat(Struct, omit_defaults=True):
    """What decides on a chat's tokens; the rest of a request is about its answer. Any model will do: there is one."""

    messages: Raw
    tools: Raw | UnsetType = UNSET
    tool_choice: Raw | UnsetType = UNSET
    add_generation_prompt: Raw | UnsetType = UNSET
    continue_final_message: Raw | UnsetType = UNSET
    chat_template_kwargs: Raw | UnsetType = UNSET


_chat = msgspec.json.Decoder(_Chat).decode
_input_tokens = msgspec.json.Decoder(_InputTokens).decode
_tokens = msgspec.json.Decoder(_Tokens).decode
_content = msgspec.json.Decoder(_Content).decode
_count = msgspec.json.Decoder(_Count).decode
_words = msgspec.json.Decoder(_Words).decode
_list = msgspec.json.Decoder(list[_Token]).decode
_templated = msgspec.json.Decoder(_Templated).decode


def _prompt_or_text(raw: bytes) -> str:
    """vLLM says `prompt`, SGLang `text`."""
    found = _words(raw)
    text = found.text if found.prompt is None else found.prompt
    if text is None:
        raise msgspec.ValidationError("neither `prompt` nor `text`")
    return text
