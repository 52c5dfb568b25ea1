"""A web server of files on a free port, with the ways in which servers of files go wrong.

`/name` answers with the file, by ranges; `/moved/name` and `/elsewhere/name` redirect, the latter to another host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Literal
from urllib.parse import unquote, urlsplit

from threaded import listening

Way = Literal["ranges", "whole", "no length", "few bytes", "breaks off", "wrong place", "no place", "grows", "endless"]


@dataclass
class Web:
    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    way: Way = "ranges"
    status: int | None = None
    """Every request is answered so."""
    breaks: int = 0
    """So many answers break off in the middle, with `breaks off`."""
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    """Path, Range and Authorization of each, in order."""
    sent: int = 0
    """Bytes of bodies."""


@contextmanager
def serving() -> Iterator[Web]:
    with listening(_Handler) as server:
        web = Web(f"http://127.0.0.1:{server.server_address[1]}")
        server.web = web  # type: ignore[attr-defined]
        yield web


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        web: Web = self.server.web  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        web.requests.append((path, self.headers.get("Range"), self.headers.get("Authorization")))
        if web.status:
            return self.answer(web.status)
        port = self.server.server_address[1]
        if path.startswith(("/moved/", "/elsewhere/")):
            host = "127.0.0.1" if path.startswith("/moved/") else "localhost"
            return self.answer(302, headers={"Location": f"http://{host}:{port}/{path.split('/', 2)[2]}"})
        if path == "/round":
            return self.answer(302, headers={"Location": "/round"})
        raw = web.files.get(path.removeprefix("/"))
        if raw is None:
            return self.answer(404)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        assert wanted is not None
        first, last = int(wanted[1]), min(int(wanted[2]), len(raw) - 1)
        if web.way == "whole" or web.way == "no length":
            return self.whole(web, raw)
        if first >= len(raw):
            return self.answer(416, headers={"Content-Range": f"bytes */{len(raw)}"})
        if web.way == "few bytes":
            last = min(last, first + 99)
        size = len(raw) + (len(web.requests) if web.way == "grows" else 0)
        place = f"bytes {first + (web.way == 'wrong place')}-{last}/{size}"
        headers = {} if web.way == "no place" else {"Content-Range": place}
        body = raw[first : last + 1]
        if web.way == "endless":
            body += bytes(2**20)
        web.sent += len(body)
        if web.way == "breaks off" and web.breaks:
            web.breaks -= 1
            return self.answer(206, body, headers, cut=len(body) // 2)
        return self.answer(206, body, headers)

    def whole(self, web: Web, raw: bytes) -> None:
        self.send_response(200)
        if web.way == "whole":
            self.send_header("Content-Length", str(len(raw)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for at in range(0, len(raw), 2**16):
                self.wfile.write(raw[at : at + 2**16])
                web.sent += 2**16
        except OSError:
            return  # the client has seen enough

    def answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None, *, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = cut is not None
