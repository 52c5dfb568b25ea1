"""A proxy before an S3 server, on a free port: requests go on as they came, answers to GET of an object can go wrong.

Addresses are signed for the proxy, so it is the endpoint; Host goes on unchanged.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from threaded import listening

Short = Literal["cut off", "nothing"]

EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"


@dataclass
class Proxy:
    url: str
    behind: str
    """Host and port of the server."""
    ranges: list[str | None] = field(default_factory=list)
    """Range of each GET of an object, in order."""
    tokens: list[str] = field(default_factory=list)
    """The session token of each of their addresses; empty where it has none."""
    cut_after: list[int] = field(default_factory=list)
    """The connections of the next answers are cut after so many bytes of the body."""
    short: Short | None = None
    """The object seems to have ended in its middle; or ranges have no bytes, whatever their heads say."""
    expire_at: int | None = None
    """With so many GETs, the tokens known until then end, and the GET is refused."""
    expired: set[str] = field(default_factory=set)
    refused: int = 0
    """So many were, for their token."""
    before: dict[int, Callable[[], object]] = field(default_factory=dict)
    """Called before the GET of that number, from 1, is handed on."""
    busy: dict[int, str] = field(default_factory=dict)
    """GETs, by number, that are told to slow down, with this Retry-After."""
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def standing_before(endpoint: str) -> Iterator[Proxy]:
    with listening(_Handler) as server:
        proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}", urlsplit(endpoint).netloc)
        server.proxy = proxy  # type: ignore[attr-defined]
        yield proxy


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(*self.handed_on())

    def do_GET(self) -> None:
        at = urlsplit(self.path)
        query = parse_qs(at.query)
        if at.path.count("/") < 2 or "list-type" in query:
            return self.answer(*self.handed_on())
        proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
        token = query.get("X-Amz-Security-Token", [""])[0]
        with proxy.lock:
            proxy.ranges.append(self.headers.get("Range"))
            proxy.tokens.append(token)
            number = len(proxy.ranges)
            if number == proxy.expire_at:
                proxy.expired |= set(proxy.tokens)
            if token in proxy.expired:
                proxy.refused += 1
                return self.answer(400, {"Content-Type": "application/xml"}, EXPIRED)
            if number in proxy.before:
                proxy.before[number]()
            cut = proxy.cut_after.pop(0) if proxy.cut_after else None
        if number in proxy.busy:
            return self.answer(503, {"Retry-After": proxy.busy[number]}, b"<Error><Code>SlowDown</Code></Error>")
        status, headers, body = self.handed_on()
        if proxy.short and status == 206:
            place, _, size = headers["Content-Range"].partition("/")
            if proxy.short == "cut off":
                headers["Content-Range"] = f"{place}/{int(size) // 2}"
            body = b"" if proxy.short == "nothing" else body[: len(body) // 2]
        return self.answer(status, headers, body, cut)

    def handed_on(self) -> tuple[int, dict[str, str], bytes]:
        proxy: Proxy = self.server.proxy  # type: ignore[attr-defined]
        connection = http.client.HTTPConnection(proxy.behind, timeout=60)
        try:
            connection.request(self.command, self.path, headers=dict(self.headers))
            response = connection.getresponse()
            headers = {name.title(): value for name, value in response.headers.items()}
            return response.status, headers, response.read()
        finally:
            connection.close()

    def answer(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response_only(status)
        length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(body))
        for name, value in headers.items():
            if name not in ("Content-Length", "Transfer-Encoding", "Connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = cut is not None
