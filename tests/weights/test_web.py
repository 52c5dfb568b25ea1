"""Files of a plain web server, with whatever such servers get wrong."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.weights import gguf_bytes

from inhouse.config import WeightsSpec
from inhouse.errors import WeightsError, WeightsUnreachable
from inhouse.weights.sources import obtain
from inhouse.weights.wanted import Got, Wanted, silent

MODEL = gguf_bytes.model() + bytes(range(256)) * 300


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.files = {"/m/tiny.gguf": MODEL}
        self.login: str | None = None
        self.etags = True
        self.ranges = True
        self.lengths = True
        self.changes_after: int | None = None
        self.requests: list[str | None] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(self.headers.get("Range"))
        raw = server.files.get(self.path.partition("?")[0])
        if raw is None:
            return self.answer(404)
        if server.login and self.headers.get("Authorization") != server.login:
            return self.answer(401)
        if server.changes_after is not None:
            server.changes_after -= 1
            if server.changes_after < 0:
                raw += b"changed"
        etag = f'"{hashlib.md5(raw).hexdigest()}"'
        headers = {"ETag": etag} if server.etags else {}
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
        if match and server.ranges and self.headers.get("If-Range") in (None, etag):
            start, end = int(match[1]), min(int(match[2]) + 1, len(raw))
            return self.answer(206, raw[start:end], headers | {"Content-Range": f"bytes {start}-{end - 1}/{len(raw)}"})
        return self.answer(200, raw, headers)

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.server.lengths:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


class Fetch:
    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.spec = WeightsSpec(folder=folder / "hub", range_bytes=10_000, retry_pause=0, tries_max=1)

    def __call__(self, path: str = "/m/tiny.gguf", *, offline: bool = False, sha256: str | None = None) -> Got:
        return obtain(self.server.url + path, Wanted(Path.cwd(), silent, offline, sha256=sha256, spec=self.spec))

    def refused(self, path: str = "/m/tiny.gguf", *, offline: bool = False, sha256: str | None = None) -> WeightsError:
        with pytest.raises(WeightsError) as caught:
            self(path, offline=offline, sha256=sha256)
        return caught.value


@pytest.fixture
def fetch(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "*")
    return Fetch(server, tmp_path)


def test_a_file_comes_in_ranges_and_is_asked_for_once(server: Server, fetch: Fetch) -> None:
    """A second time one byte tells that nothing has changed; offline nobody is asked."""
    got = fetch()
    assert got.path.read_bytes() == MODEL
    assert got.path.name == "tiny.gguf"
    assert got.files[0].digest == f"sha256:{hashlib.sha256(MODEL).hexdigest()}"
    server.requests.clear()
    assert fetch().path == got.path
    assert server.requests == ["bytes=0-0"]
    assert fetch(offline=True).path == got.path
    assert len(server.requests) == 1


def test_another_file_at_the_address_is_fetched(server: Server, fetch: Fetch) -> None:
    fetch()
    server.files["/m/tiny.gguf"] = MODEL + b"new"
    assert fetch().path.read_bytes() == MODEL + b"new"


def test_a_file_that_changes_midway_is_never_pieced_together(server: Server, fetch: Fetch) -> None:
    server.changes_after = 3
    assert "was replaced where it lies" in fetch.refused().message
    server.changes_after = None
    assert fetch().path.read_bytes() == MODEL


@pytest.mark.parametrize("etags", [True, False])
def test_a_server_without_ranges_gives_it_whole(server: Server, fetch: Fetch, etags: bool) -> None:
    server.ranges, server.etags = False, etags
    assert fetch().path.read_bytes() == MODEL


def test_a_size_that_is_not_told_is_an_error(server: Server, fetch: Fetch) -> None:
    """Nothing would tell a file that was cut off."""
    server.ranges = server.lengths = False
    assert "does not say how large it is" in fetch.refused().message


def test_a_pinned_digest_is_met_before_the_file_has_its_name(server: Server, fetch: Fetch, tmp_path: Path) -> None:
    error = fetch.refused(sha256="0" * 64)
    assert hashlib.sha256(MODEL).hexdigest() in error.message
    assert not list(tmp_path.rglob("*.gguf"))
    assert fetch(sha256=hashlib.sha256(MODEL).hexdigest().upper()).path.read_bytes() == MODEL


def test_parts_of_a_split_model_lie_beside_each_other(server: Server, fetch: Fetch) -> None:
    names = [f"big-0000{number}-of-00002.gguf" for number in (1, 2)]
    server.files |= {f"/m/{name}": MODEL + name.encode() for name in names}
    got = fetch(f"/m/{names[1]}?download=true")
    assert [file.name for file in got.files] == names
    assert got.path.with_name(names[1]).read_bytes() == MODEL + names[1].encode()
    del server.files[f"/m/{names[0]}"]
    assert "there is no http://" in fetch.refused(f"/m/{names[0]}").message


def test_a_login_is_that_of_netrc(server: Server, fetch: Fetch, tmp_path: Path) -> None:
    server.login = "Basic " + base64.b64encode(b"me:secret").decode()
    error = fetch.refused()
    assert isinstance(error, WeightsUnreachable)
    assert "~/.netrc" in str(error.hint)
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert fetch().path.read_bytes() == MODEL


def test_a_signature_in_the_address_is_not_shown(server: Server, fetch: Fetch) -> None:
    """Neither in messages nor in what is kept."""
    for path in ("/m/none.gguf?sig=secret", "/m/tiny.gguf?sig=secret"):
        if "none" in path:
            error = fetch.refused(path)
            assert "secret" not in f"{error.message} {error.hint}"
        else:
            source = next(fetch(path).path.parents[2].glob("source.json"))
            assert "secret" not in source.read_text()
    assert "secret" not in fetch.refused("/m/tiny.gguf?sig=secret", sha256="f" * 64).message
