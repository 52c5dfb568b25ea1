"""What the tests of the command line run against: a gateway that answers by script, and a terminal that types."""

from __future__ import annotations

import codecs
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

DEADLINE_S = 30.0


class FakeGateway(ThreadingHTTPServer):
    """Speaks the OpenAI API. The last message says what happens: fail, busy, midway, cut, hang, think …; or echo."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.key: str | None = None
        self.requests: list[dict[str, Any]] = []
        self.keys_seen: list[str | None] = []
        self.streaming = threading.Event()
        self.hung_up = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: FakeGateway
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self._is_allowed():
            models = [
                {"id": "alpha", "object": "model", "inhouse": {"state": "ready", "slots": 3, "context_tokens": 512}},
                {"id": "beta", "object": "model"},
            ]
            self._reply(200, {"object": "list", "data": models})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._is_allowed():
            return
        self.server.requests.append(body)
        question = body["messages"][-1]["content"]
        if question == "fail":
            error = {
                "message": "the prompt is too long",
                "type": "invalid_request_error",
                "code": "context_length_exceeded",
            }
            self._reply(400, {"error": error})
        elif question == "busy":
            self._reply(429, {"error": {"message": "the queue is full", "code": "queue_full"}}, {"Retry-After": "2"})
        else:
            self._stream(question)

    def _stream(self, question: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if question == "think":
            self._delta({"reasoning_content": "hmm"})
        if question == "escape":
            self._delta({"content": "\x1b]0;owned\x07\x9b31mred"})
        if question == "hang":
            self._delta({"content": "first words"})
            self.server.streaming.set()
            if self.connection.recv(1) == b"":
                self.server.hung_up.set()
            self.close_connection = True
            return
        for word in f"you said: {question}".split(" "):
            self._delta({"content": f"{word} "})
        if question == "midway":
            self._event({"error": {"message": "the engine ended", "code": "engine_failed"}})
        if question == "cut":
            self.close_connection = True
            return
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}})
        self._chunk(b": a comment\n\ndata: [DONE]\n\n")
        self._chunk(b"")

    def _delta(self, delta: dict[str, str]) -> None:
        self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    def _event(self, event: dict[str, Any]) -> None:
        self._chunk(f"data: {json.dumps(event)}\n\n".encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def _is_allowed(self) -> bool:
        header = self.headers["Authorization"]
        self.server.keys_seen.append(header.removeprefix("Bearer ") if header else None)
        if self.server.key is None or header == f"Bearer {self.server.key}":
            return True
        self._reply(401, {"error": {"message": "the key is not known", "code": "invalid_api_key"}})
        return False

    def _reply(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    server = FakeGateway()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of one's own making, for a name that is not the address, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "models.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return tmp_path / "cert.pem", tmp_path / "key.pem"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A person's environment without anything of inhouse, and a state folder of their own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")}
    dull = {"NO_COLOR": "1", "COLUMNS": "80", "TERM": "xterm", "HOME": str(tmp_path), "PYTHONWARNINGS": "error"}
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "GITHUB_ACTIONS", "XDG_STATE_HOME", "http_proxy"):
        kept.pop(name, None)
    return {**kept, **dull, "XDG_STATE_HOME": str(tmp_path / "state")}


Inhouse = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def inhouse(tmp_path: Path, environment: dict[str, str]) -> Inhouse:
    """Runs a command to its end, in an empty folder; keyword arguments are variables."""

    def run(*args: str, text: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "inhouse", *args],
            input=text,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**environment, **variables},
            timeout=DEADLINE_S,
            check=False,
        )

    return run


class Terminal:
    """A command on a terminal of its own, where ^C is typed and becomes a signal."""

    _LAUNCH = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv)"

    def __init__(self, args: list[str], cwd: Path, env: dict[str, str]) -> None:
        self.master, slave = os.openpty()
        launch = self._LAUNCH.replace("sys.argv)", "[sys.executable, *sys.argv[1:]])")
        self.process = subprocess.Popen(
            [sys.executable, "-c", launch, *args],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""
        self._mark = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        """Types ^C once the command waits for something, as a person would.

        Python's readline loses a signal that comes after it has echoed a key and before it waits for the next one.
        """
        state = Path(f"/proc/{self.process.pid}/stat")
        while state.exists() and state.read_text().rpartition(")")[2].split()[0] != "S":
            os.sched_yield()
        self.type("\x03")

    def expect(self, text: str) -> str:
        """Waits for `text`; returns what came since the last one, it included."""
        deadline = time.monotonic() + DEADLINE_S
        while (at := self.seen.find(text, self._mark)) < 0:
            ready, _, _ = select.select([self.master], [], [], deadline - time.monotonic())
            assert ready, f"no {text!r} in {self.seen[self._mark :]!r}"
            assert self._read(), f"ended without {text!r}: {self.seen[self._mark :]!r}"
        start, self._mark = self._mark, at + len(text)
        return self.seen[start : self._mark]

    def ended(self) -> int:
        """Waits for the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(DEADLINE_S)

    def _read(self) -> bool:
        try:
            data = os.read(self.master, 65536)
        except OSError:  # Linux says so when the other side has closed
            return False
        self.seen += self._decoder.decode(data)
        return bool(data)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
        os.close(self.master)


@pytest.fixture
def terminal(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_(*args: str, run: tuple[str, ...] = ("-m", "inhouse")) -> Terminal:
        opened.append(Terminal([*run, *args], tmp_path, environment))
        return opened[-1]

    yield open_
    for one in opened:
        one.close()
