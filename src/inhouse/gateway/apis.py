"""The hot endpoints: those that make an engine work. A literal table; a new one is one line here and one codec.

Each says how a body becomes a `Call`, and in which shape its clients expect an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import httptools
from msgspec.structs import replace

from inhouse.config import RequestsSpec
from inhouse.errors import ApiError
from inhouse.wire import completions, embeddings, errors, generate, messages, openai_chat, rerank, responses
from inhouse.wire.call import Call
from inhouse.wire.lenient import leniently

_RESUMING = frozenset({b"x-inhouse-resume", b"last-event-id"})
"""Headers of streams that can be resumed: those are not hot (`background`)."""
Parse = Callable[[bytes, RequestsSpec, str, float], Call]
"""(body, limits, request id in hex, seconds since the epoch) → Call. Raises BadRequest."""


@dataclass(frozen=True, slots=True)
class Api:
    name: str
    """As it stands in logs and metrics."""
    parse: Parse
    error_body: Callable[[ApiError, str], bytes]
    """(error, request id) → body."""


def parsed(api: Api, body: bytes, limits: RequestsSpec, id_hex: str, now_s: float) -> tuple[Call, tuple[str, ...]]:
    """The call, and the names of the fields that were passed over. Raises BadRequest."""
    return leniently(api.parse, body, limits, limits, id_hex, now_s)


def _chat(body: bytes, limits: RequestsSpec, id_hex: str, now_s: float) -> Call:
    return openai_chat.parse(body, limits)


def _completions(body: bytes, limits: RequestsSpec, id_hex: str, now_s: float) -> Call:
    return completions.parse(body, limits, id_hex=id_hex, now_s=now_s)


def _embeddings(body: bytes, limits: RequestsSpec, id_hex: str, now_s: float) -> Call:
    return embeddings.parse(body)


def _rerank(body: bytes, limits: RequestsSpec, id_hex: str, now_s: float) -> Call:
    return rerank.parse(body)


def _responses(body: bytes, limits: RequestsSpec, id_hex: str, now_s: float) -> Call:
    found = responses.parse(body)
    call = openai_chat.call(
        found.request, limits, stream=found.stream, rendering=found.rendering(id_hex, now_s), prompt_param="input"
    )
    return call if found.may_trim is None else replace(call, may_trim=found.may_trim)


def _messages(body: bytes, limits: RequestsSpec, id_hex: str, now_s: float) -> Call:
    found = messages.parse(body)
    return openai_chat.call(
        found.request,
        limits,
        stream=found.stream,
        rendering=found.rendering(id_hex, now_s),
        prompt_param="messages",
        stop_param="stop_sequences",
    )


def _generate(body: bytes, limits: RequestsSpec, id_hex: str, now_s: float) -> Call:
    found = generate.parse(body)
    return openai_chat.call(
        found.request, limits, stream=found.stream, rendering=found.rendering(id_hex, now_s), prompt_param="text"
    )


def _openai_error(error: ApiError, request_id: str) -> bytes:
    return errors.body(error)


APIS: dict[bytes, Api] = {
    b"/v1/chat/completions": Api("chat", _chat, _openai_error),
    b"/v1/completions": Api("completions", _completions, _openai_error),
    b"/v1/embeddings": Api("embeddings", _embeddings, _openai_error),
    b"/v1/rerank": Api("rerank", _rerank, _openai_error),
    b"/v1/responses": Api("responses", _responses, _openai_error),
    b"/v1/messages": Api("messages", _messages, messages.render_error),
    b"/generate": Api("generate", _generate, _openai_error),
}


def hot_of(method: bytes, url: bytes, headers: list[tuple[bytes, bytes]]) -> Api | None:
    """The hot endpoint that a request is for, however its path is written (RFC 9112, 3.2; RFC 3986, 6.2.2)."""
    if method != b"POST" or any(name in _RESUMING for name, _ in headers):
        return None
    path = url.partition(b"?")[0]
    if not path.startswith(b"/"):
        path = httptools.parse_url(url).path or b""
    return APIS.get(unquote_to_bytes(path) if b"%" in path else path)
