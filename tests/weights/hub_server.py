"""A hub on a free port of this machine: what `huggingface_hub` asks for when it fetches a file, and every refusal.

Paths: HEAD and GET `/{repo}/resolve/{revision}/{file}` with ETag, X-Repo-Commit and the X-Linked pair, a redirect for
another host, ranges; GET `/api/models/{repo}/tree/{revision}` and `/api/models/{repo}/revision/{revision}?blobs=true`.
Refusals carry X-Error-Code, as the hub's do.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from threaded import listening

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Repo:
    files: dict[str, bytes]
    revisions: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    token: str | None = None
    """Wanted from whoever reads; without it the repository is gated, or hidden if `private`."""
    private: bool = False
    small: set[str] = field(default_factory=set)
    """Files that git itself keeps: known by the hash of a git blob, and handed out without a storage."""


@dataclass
class Hub:
    url: str
    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and Range of each, in order."""
    break_after: list[int] = field(default_factory=list)
    """The next downloads break off after so many bytes."""
    bad_bytes: int = 0
    """So many of the next downloads have a wrong byte in them."""
    no_ranges: bool = False
    """Ranges are not known: the whole file comes, whatever is asked for."""
    signature: str = "first"
    """Addresses of the storage are signed so; those of another signature are refused."""
    gate: threading.Event | None = None
    """Downloads stop in their middle until it is set."""
    halfway: threading.Event = field(default_factory=threading.Event)
    """Set when a download stands at the gate."""
    claimed_size: int | None = None
    """Said of every file in place of its true size."""
    fail_with: int | None = None
    """Every request is answered so."""
    plain: bool = False
    """Answers as a web server that knows nothing of hubs."""

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Until it holds, which requests may bring about."""
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "it never came to that"
            time.sleep(0.01)

    def asked(self, method: str) -> list[str]:
        return [path for verb, path, _ in self.requests if verb == method]


@contextmanager
def serving() -> Iterator[Hub]:
    with listening(_Handler) as server:
        hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
        server.hub = hub  # type: ignore[attr-defined]
        yield hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        path = unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path, self.headers.get("Range")))
        if hub.fail_with:
            return self.answer(hub.fail_with)
        if hub.plain:
            return self.answer(200, b"<html>hello</html>")
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            return self.tree(hub, match[1], match[2])
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/([^/]+)", path):
            return self.info(hub, match[1], match[2])
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(hub, match[1], match[2], match[3])
        if match := re.fullmatch(r"/blobs/([^/]+/[^/]+)/(.+)", path):
            if urlsplit(self.path).query != f"signed={hub.signature}":
                return self.answer(403)
            return self.blob(hub, hub.repos[match[1]].files[match[2]])
        return self.refuse(404, "NotFound")

    def repo_of(self, hub: Hub, name: str) -> Repo | None:
        """The repository, or None after a refusal was sent."""
        repo = hub.repos.get(name)
        if repo is None:
            self.refuse(401, "RepoNotFound")
        elif repo.token and self.headers.get("Authorization") != f"Bearer {repo.token}":
            self.refuse(401 if repo.private else 403, "RepoNotFound" if repo.private else "GatedRepo")
            return None
        return repo

    def tree(self, hub: Hub, name: str, revision: str) -> None:
        repo = self.repo_of(hub, name)
        if repo is None:
            return None
        if revision not in repo.revisions:
            return self.refuse(404, "RevisionNotFound")
        entries = [
            {"type": "file", "path": path, "size": len(raw), "oid": hashlib.sha1(raw).hexdigest()}
            for path, raw in repo.files.items()
        ]
        return self.answer(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

    def info(self, hub: Hub, name: str, revision: str) -> None:
        repo = hub.repos.get(name)  # shown of gated ones too
        if repo is None or (repo.private and self.repo_of(hub, name) is None):
            return None if repo else self.refuse(401, "RepoNotFound")
        if revision not in repo.revisions and revision not in repo.revisions.values():
            return self.refuse(404, "RevisionNotFound")
        siblings = []
        for path, raw in repo.files.items():
            oid = hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()
            sibling: dict[str, object] = {"rfilename": path, "size": len(raw), "blobId": oid}
            if path not in repo.small:
                size = hub.claimed_size or len(raw)
                sibling["lfs"] = {"sha256": hashlib.sha256(raw).hexdigest(), "size": size, "pointerSize": 130}
            siblings.append(sibling)
        commit = repo.revisions.get(revision, revision)
        answer = {"id": name, "sha": commit, "siblings": siblings, "private": repo.private, "tags": []}
        return self.answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def resolve(self, hub: Hub, name: str, revision: str, path: str) -> None:
        repo = self.repo_of(hub, name)
        if repo is None:
            return None
        commit = repo.revisions.get(revision) or (revision if revision in repo.revisions.values() else None)
        if commit is None:
            return self.refuse(404, "RevisionNotFound")
        raw = repo.files.get(path)
        if raw is None:
            return self.refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
        if path in repo.small:
            oid = hashlib.sha1(b"blob %d\0" % len(raw) + raw).hexdigest()
            return self.bytes_of(raw, {"X-Repo-Commit": commit, "ETag": f'"{oid}"'})
        linked = {
            "X-Repo-Commit": commit,
            "X-Linked-Etag": f'"{hashlib.sha256(raw).hexdigest()}"',
            "X-Linked-Size": str(hub.claimed_size or len(raw)),
            "ETag": f'"{hashlib.sha1(raw).hexdigest()}"',
            "Location": f"http://localhost:{self.server.server_address[1]}/blobs/{name}/{path}?signed={hub.signature}",
        }
        return self.answer(302, b"", linked)

    def blob(self, hub: Hub, raw: bytes) -> None:
        """The storage behind the hub: another host, which takes signed addresses and no tokens."""
        if self.headers.get("Authorization"):
            return self.answer(400, b"one authentication only")
        return self.bytes_of(raw, {"ETag": f'"{hashlib.sha256(raw).hexdigest()}"'})

    def bytes_of(self, raw: bytes, headers: dict[str, str]) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        wanted = None if hub.no_ranges else re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start, end = (int(wanted[1]), int(wanted[2] or len(raw) - 1) + 1) if wanted else (0, len(raw))
        body = raw[start:end]
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{start + len(body) - 1}/{len(raw)}"
        if self.command == "GET" and hub.bad_bytes:
            hub.bad_bytes -= 1
            body = bytes([body[0] ^ 1]) + body[1:]
        if self.command == "GET" and hub.break_after:
            return self.send_part(body, headers, hub.break_after.pop(0))
        if self.command == "GET" and hub.gate:
            return self.send_part(body, headers, len(body) // 2, hub.gate)
        return self.answer(206 if wanted else 200, body, headers)

    def send_part(self, body: bytes, headers: dict[str, str], after: int, gate: threading.Event | None = None) -> None:
        """Breaks off after so many bytes, or goes on when the gate opens."""
        self.send_response(206 if "Content-Range" in headers else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:after])
        if gate is None:
            self.close_connection = True
            return
        self.wfile.flush()
        self.server.hub.halfway.set()  # type: ignore[attr-defined]
        gate.wait(60)
        with suppress(OSError):
            self.wfile.write(body[after:])

    def refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.answer(status, b"", {"X-Error-Code": code, **(headers or {})})

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
