"""The head of a hot request, as far as it concerns its exchange; and a head that comes again. Pure.

Theory of operation. A program sends the same head with each of its requests, but for the length of the body. So a
connection keeps what was made of its last head, with the bytes that it was made from (`Again`): those before the
digits of `content-length`, and those behind. A read that begins with the same bytes around other digits, and holds all
of the body and nothing more, is a whole request, and means what the parser found before; it need not look again. What
differs in any other way goes to the parser.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from inhouse.engines.known_head import HeadBytes
from inhouse.gateway import timing
from inhouse.gateway.apis import Api
from inhouse.tenancy.auth import proof_of
from inhouse.wire.records import sane_request_id

_NAME_BYTES_MAX = 128
_LIBRARY_TIMEOUTS = (b"x-stainless-read-timeout", b"x-stainless-timeout")
_LENGTH = re.compile(rb"\r\ncontent-length: ?([0-9]{1,12})\r\n", re.IGNORECASE)
_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """See the module. Made once, for as many requests as it comes with."""

    api: Api
    keep_alive: bool
    chunked: bool
    """The client can take an answer in chunks."""
    expects_continue: bool
    length: int | None
    """What it says of the body's length in bytes; of a head that comes again, the first time."""
    credentials: tuple[bytes | None, bytes | None]
    """The raw values of `Authorization` and `x-api-key`."""
    json: bool
    """The body is declared to be JSON, or not declared."""
    request_id: str | None
    """The client's own, if it is sane."""
    prefer_wait_s: float
    timeout: bytes | None
    library_s: float
    plain: bool
    """Nothing is said about time."""
    proof: bytes
    """What its caller is remembered by (`Authenticator.again`)."""
    usual: bool
    """Its requests may go the straight line: chats, of which nothing is wanted that has to be looked at."""
    cors: bytes
    demanded: str
    session: str


def head_of(
    api: Api,
    headers: dict[bytes, bytes],
    *,
    origins: Collection[str],
    keep_alive: bool,
    chunked: bool,
    expects_continue: bool,
) -> Head:
    """`headers` are the raw ones, names in lower case; `origins` are those whose pages may read the answers."""
    get = headers.get
    media, length, prefer, origin = get(b"content-type"), get(b"content-length"), get(b"prefer"), get(b"origin")
    own_id, demanded, session = get(b"x-request-id"), get(b"x-inhouse-model"), get(b"x-inhouse-session")
    library_s = math.inf
    for name in _LIBRARY_TIMEOUTS:
        if (value := get(name)) is not None:
            library_s = min(library_s, timing.seconds(value) or math.inf)
    prefer_s = 0.0 if prefer is None else timing.prefer_wait_s(prefer)
    timeout = get(b"x-inhouse-timeout")
    credentials = get(b"authorization"), get(b"x-api-key")
    json = media is None or media == b"application/json" or b"json" in media.lower()
    return Head(
        api=api,
        keep_alive=keep_alive,
        chunked=chunked,
        expects_continue=expects_continue,
        length=int(length) if length is not None and length.isdigit() else None,
        credentials=credentials,
        json=json,
        request_id=None if own_id is None else sane_request_id(own_id),
        prefer_wait_s=prefer_s,
        timeout=timeout,
        library_s=library_s,
        plain=timeout is None and prefer_s == 0.0 and library_s == math.inf,
        proof=proof_of(*credentials),
        usual=api.name == "chat" and json and timeout is None and not (demanded or session),
        cors=b"" if origin is None else _cors(origin, origins),
        demanded=_name(demanded),
        session=_name(session),
    )


@dataclass(frozen=True, slots=True)
class Again:
    """A head, and the bytes that it was made from."""

    head: Head
    bytes: HeadBytes


def again(head: Head, data: bytes) -> Again | None:
    """What to know `head` by when it comes again; `data` is the read that it was parsed from.

    None where it cannot be known by bytes alone: the head did not come whole in that read and as its first bytes, does
    not say how long the body is, or asks for something that has to be looked at each time.
    """
    end = data.find(_END)
    if end < 0 or not data.startswith(b"POST ") or head.expects_continue or not (head.keep_alive and head.chunked):
        return None
    lines = data[:end].lower()
    if lines.count(b"\r\ncontent-length") != 1 or b"\r\ntransfer-encoding" in lines:
        return None
    match = _LENGTH.search(data, 0, end + 2)
    if match is None or int(match[1]) != head.length:
        return None
    return Again(head, HeadBytes(data[: match.start(1)], data[match.end(1) : end + len(_END)]))


def without_upgrade(method: bytes, url: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A head that offers to change the protocol, written without the offer."""
    lines = [b"%b %b HTTP/1.1" % (method, url)]
    for name, value in headers:
        if name == b"connection":
            offers = (b"upgrade", b"http2-settings")
            value = b", ".join(word for word in value.split(b",") if word.strip().lower() not in offers)
        if name not in (b"upgrade", b"http2-settings"):
            lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join([*lines, b"", b""])


def _name(value: bytes | None) -> str:
    return "" if value is None else value[:_NAME_BYTES_MAX].decode("latin-1")


def _cors(origin: bytes, allowed: Collection[str]) -> bytes:
    if "*" in allowed:
        return b"access-control-allow-origin: *\r\n"
    if origin.decode("latin-1") in allowed:
        return b"access-control-allow-origin: %b\r\nvary: origin\r\n" % origin
    return b""


def size_of(url: bytes, headers: list[tuple[bytes, bytes]]) -> int:
    """Bytes of a head, as its limit counts them."""
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)
