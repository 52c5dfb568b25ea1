"""Anthropic Messages (`/v1/messages` and `/v1/messages/count_tokens`): a translation to chat and back.

What it is not: prompt caching on demand, citations, documents, images, and tools that run on a server. The first three
are passed over where they change no answer; the others are refused with a sentence that says what to do.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from inhouse.errors import ApiError
from inhouse.wire.chat import ChatRequest, Rendering
from inhouse.wire.messages_errors import error_object
from inhouse.wire.messages_render import MessagesRendering
from inhouse.wire.messages_request import decode_count, decode_create
from inhouse.wire.messages_translate import count_request, create_request


@dataclass(frozen=True, slots=True)
class MessagesCall:
    """A parsed request for a message: the model it names, and the chat request that it means."""

    model: str
    stream: bool
    request: ChatRequest

    def rendering(self, id_hex: str, now_s: float) -> Rendering:
        """How the answer is shown. A message carries no time, so `now_s` is there for the form only."""
        return MessagesRendering(id_hex, self.model)


@dataclass(frozen=True, slots=True)
class CountCall:
    """A parsed request for a count of tokens: how many would the model read of `request`?"""

    model: str
    request: ChatRequest


class TokenCount(msgspec.Struct):
    """The answer to a request for a count."""

    input_tokens: int


def parse(body: bytes | bytearray) -> MessagesCall:
    """Raises BadRequest, which names the place in the request, and InvalidJson."""
    asked = decode_create(body)
    return MessagesCall(asked.model, bool(asked.stream), create_request(asked))


def parse_count(body: bytes | bytearray) -> CountCall:
    """Raises BadRequest, which names the place in the request, and InvalidJson."""
    asked = decode_count(body)
    return CountCall(asked.model, count_request(asked))


def render_count(tokens: int) -> bytes:
    return msgspec.json.encode(TokenCount(tokens))


def render_error(error: ApiError, request_id: str | None = None) -> bytes:
    """The JSON body of a refusal. `request_id` is the one that the response's header carries."""
    return msgspec.json.encode(error_object(error, request_id))
