"""A container registry on a free port: the distribution protocol as far as whoever pulls needs it.

Manifests by tag and digest, blobs by ranges and through a storage of another host, tokens that end, and Basic.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from threaded import listening

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
TITLE = "org.opencontainers.image.title"


@dataclass
class Registry:
    host: str
    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    login: str | None = None
    """`name:password` that a token is given for; None gives one to anybody."""
    auth: str = "none"
    """none, basic or bearer"""
    token: str = "token-1"
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range."""
    tokens_given: int = 0
    break_after: list[int] = field(default_factory=list)
    expire_after: int | None = None
    """So many blob requests later the token of then is taken no more."""

    def push(self, repo: str, tag: str, files: Mapping[str, bytes], **more: Any) -> str:
        """As `oras push` does. Returns the manifest's digest."""
        layers = [self.layer(raw, "application/octet-stream", {TITLE: name}) for name, raw in files.items()]
        return self.put(repo, tag, {"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers, **more})

    def layer(self, raw: bytes, kind: str, annotations: Mapping[str, str] | None = None) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        self.blobs[digest] = raw
        return {"mediaType": kind, "digest": digest, "size": len(raw), "annotations": dict(annotations or {})}

    def put(self, repo: str, tag: str, manifest: Mapping[str, Any]) -> str:
        raw = json.dumps(manifest).encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        self.manifests[repo, tag] = self.manifests[repo, digest] = raw
        return digest


@contextmanager
def serving() -> Iterator[Registry]:
    with listening(_Handler) as server:
        registry = Registry(f"127.0.0.1:{server.server_address[1]}")
        server.registry = registry  # type: ignore[attr-defined]
        yield registry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        registry: Registry = self.server.registry  # type: ignore[attr-defined]
        parts = urlsplit(self.path)
        registry.requests.append((parts.path, self.headers.get("Range")))
        if parts.path == "/token":
            return self.give_token(registry, parse_qs(parts.query))
        if match := re.fullmatch(r"/storage/(.+)", parts.path):
            return self.storage(registry, match[1])
        if not self.may(registry):
            return None
        if match := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", parts.path):
            raw = registry.manifests.get((match[1], match[2]))
            kind = json.loads(raw).get("mediaType", MANIFEST) if raw else ""
            if raw is None or kind not in self.headers.get("Accept", ""):
                return self.answer(404)
            return self.answer(200, raw, {"Content-Type": kind})
        if match := re.fullmatch(r"/v2/.+/blobs/(sha256:[0-9a-f]+)", parts.path):
            port = self.server.server_address[1]
            return self.answer(307, b"", {"Location": f"http://localhost:{port}/storage/{match[1]}"})
        return self.answer(404)

    def may(self, registry: Registry) -> bool:
        given = self.headers.get("Authorization")
        if registry.auth == "basic":
            wanted = "Basic " + base64.b64encode((registry.login or "").encode()).decode()
            challenge = 'Basic realm="registry"'
        elif registry.auth == "bearer":
            wanted = f"Bearer {registry.token}"
            challenge = f'Bearer realm="http://{registry.host}/token",service="test",scope="repository:acme/tiny:pull"'
        else:
            return True
        if given != wanted:
            self.answer(401, b"", {"WWW-Authenticate": challenge})
        return given == wanted

    def give_token(self, registry: Registry, asked: dict[str, list[str]]) -> None:
        assert asked == {"service": ["test"], "scope": ["repository:acme/tiny:pull"]}
        if registry.login:
            wanted = "Basic " + base64.b64encode(registry.login.encode()).decode()
            if self.headers.get("Authorization") != wanted:
                return self.answer(401)
        registry.tokens_given += 1
        return self.answer(200, json.dumps({"token": registry.token, "expires_in": 60}).encode())

    def storage(self, registry: Registry, digest: str) -> None:
        """Another host, which takes no proof of the registry's; its addresses end with the token of the time."""
        if self.headers.get("Authorization"):
            return self.answer(400)
        raw = registry.blobs[digest]
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
        assert match
        start, end = int(match[1]), min(int(match[2]) + 1, len(raw))
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(raw)}"}
        if registry.expire_after is not None:
            registry.expire_after -= 1
            if registry.expire_after < 0:
                registry.expire_after = None
                registry.token = "token-2"
                return self.answer(403)
        if registry.break_after:
            self.send_response(206)
            self.send_header("Content-Range", headers["Content-Range"])
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            self.wfile.write(raw[start:end][: registry.break_after.pop(0)])
            self.close_connection = True
            return None
        return self.answer(206, raw[start:end], headers)

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
