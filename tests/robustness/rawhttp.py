"""A client of raw sockets: says exactly these bytes, in exactly these pieces, and reads what comes back."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from serving import KEY, Gateway

DEADLINE_S = 60.0
Start = Callable[..., Gateway]
"""Of the fixture `start`: (stack, ready=True, args=()) → a running gateway."""


class Gone(Exception):
    """The server closed the connection before an answer was whole."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code, after a look at the whole shape of it."""
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert error["type"]
        return str(error["code"])


class Client:
    """One connection. Every read gives up after `DEADLINE_S`."""

    def __init__(self, gateway: Gateway, *, receive_buffer: int | None = None) -> None:
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(DEADLINE_S)
        self._socket.connect(gateway.address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = bytearray()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()

    def read_until(self, mark: bytes) -> bytes:
        """Everything up to and with the next `mark`."""
        start = 0
        while (at := self._data.find(mark, start)) < 0:
            start = max(0, len(self._data) - len(mark))
            self._more()
        return self._take(at + len(mark))

    def answer(self, *, bodiless: bool = False) -> Answer:
        """The next response on this connection."""
        head = self.read_until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, _ = head[0].split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
        if bodiless:
            return Answer(int(status), headers, b"")
        return Answer(int(status), headers, self._body(headers))

    def answer_body(self) -> bytes:
        """What is left of a chunked answer whose beginning was read already, framing included."""
        return self.read_until(b"\r\n0\r\n\r\n")

    def is_closed(self) -> bool:
        """Waits for the server's end of the connection; False when it says something more instead."""
        if self._data:
            return False
        try:
            self._more()
        except (Gone, ConnectionError):
            return True
        return False

    def read_to_the_end(self) -> bytes:
        """All that comes until the server closes."""
        with contextlib.suppress(Gone, ConnectionError):
            while True:
                self._more()
        return self._take(len(self._data))

    def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return self._take(int(headers["content-length"]))
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.read_until(b"\r\n"), 16):
                body += self._take(size)
                assert self._take(2) == b"\r\n"
            assert self._take(2) == b"\r\n"
            return body
        with contextlib.suppress(Gone):
            while True:
                self._more()
        return self._take(len(self._data))

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            self._more()
        found = bytes(self._data[:size])
        del self._data[:size]
        return found

    def _more(self) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise Gone(bytes(self._data[:200]))
        self._data += data


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, **fields}


def long_chat(**fields: Any) -> dict[str, Any]:
    """An answer of thousands of tokens, whatever the model would like to say."""
    return chat(max_tokens=1900, ignore_eos=True, **fields)


def head(method: str, path: str, *lines: str, version: str = "1.1", key: str | None = KEY) -> bytes:
    own = ["Host: test", *([f"Authorization: Bearer {key}"] if key else []), *lines]
    return "\r\n".join([f"{method} {path} HTTP/{version}", *own, "", ""]).encode()


def post(
    body: dict[str, Any] | bytes,
    *lines: str,
    path: str = "/v1/chat/completions",
    version: str = "1.1",
    key: str | None = KEY,
) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    own = ["Content-Type: application/json", f"Content-Length: {len(data)}", *lines]
    return head("POST", path, *own, version=version, key=key) + data


def ask(gateway: Gateway, request: bytes) -> Answer:
    """One request on a connection of its own."""
    with Client(gateway) as client:
        client.send(request)
        return client.answer()


def events(body: bytes) -> list[Any]:
    """The data of a stream's events; what is not JSON (`[DONE]`) as text."""
    found: list[Any] = []
    for line in body.decode().splitlines():
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


def until(fact: Callable[[], Any], what: str, *, within_s: float = DEADLINE_S) -> Any:
    """Polls until `fact()` is true; its value. Connections that are refused meanwhile count as not true."""
    end_s = time.monotonic() + within_s
    while True:
        try:
            value = fact()
        except OSError:
            value = None
        if value:
            return value
        assert time.monotonic() < end_s, f"not within {within_s:g} s: {what}"
        time.sleep(0.02)


def lane(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.get("/slots")[0]
    return found


def gauge(gateway: Gateway, name: str, model: str = "demo") -> float:
    """One value of /metrics: unlike /slots, it asks nothing of the engine."""
    text = ask(gateway, head("GET", "/metrics", key=None)).body.decode()
    for line in text.splitlines():
        if line.startswith(f'{name}{{model="{model}"}}'):
            return float(line.rsplit(" ", 1)[1])
    raise AssertionError(f"no {name} in /metrics")


def in_service(gateway: Gateway, model: str = "demo") -> int:
    return int(gauge(gateway, "inhouse_requests_in_service", model))


def waiting(gateway: Gateway, model: str = "demo") -> int:
    return int(gauge(gateway, "inhouse_requests_waiting", model))


def free_within_a_second(gateway: Gateway) -> None:
    """The gateway's slots are free within a second, nobody waits, and the engine works for nobody any more."""
    until(lambda: in_service(gateway) == 0 and waiting(gateway) == 0, "the slot is free again", within_s=1.0)
    until(lambda: not any(slot["is_processing"] for slot in lane(gateway)["slots"]), "the engine is idle")


def still_works(gateway: Gateway, asked_for: str = "") -> None:
    """`asked_for`: the code of failures that its engine was told to bring about now and then."""
    for _ in range(8):
        found = ask(gateway, post(chat()))
        if found.status == 200:
            return
        assert found.code == asked_for, found
    raise AssertionError(found)


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie, which nobody here can reap, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except OSError:
        return False


def descendants(pid: int) -> list[int]:
    """Children, and theirs."""
    try:
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return children + [below for child in children for below in descendants(child)]


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process stands still for the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")
