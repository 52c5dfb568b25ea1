"""Clients that keep connections busy with next to nothing, and bytes that have no place in HTTP."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from rawhttp import Client, ask, chat, head, post, still_works, until

from serving import Gateway

CONNECTIONS_MAX = 8  # of the gateway `strict`
HOT = "/v1/chat/completions"


class Dripping:
    """A connection on which a byte is sent now and then, for as long as it is open."""

    def __init__(self, gateway: Gateway, opening: bytes, drip: bytes) -> None:
        self.client = Client(gateway)
        self.client.send(opening)
        self._drip = drip
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.1):
            with contextlib.suppress(OSError):
                self.client.send(self._drip)

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        self.client.close()


DRIPS = {
    "head": (b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Slow: ", b"a"),
    "headers": (b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n", b"X-A: b\r\n"),
    "first line": (b"POST /v1/", b"a"),
    "body": (head("POST", HOT, "Content-Length: 10000"), b" "),
    "chunks": (head("POST", HOT, "Transfer-Encoding: chunked"), b"1\r\n \r\n"),
    "body of another path": (head("POST", "/tokenize", "Content-Length: 10000"), b" "),
}


@pytest.mark.parametrize(("opening", "drip"), DRIPS.values(), ids=DRIPS)
def test_a_slow_loris(strict: Gateway, opening: bytes, drip: bytes) -> None:
    """Bytes that trickle win no time: each connection ends about when it would in silence, all at once if need be, and
    the door is open again."""
    began_s = time.monotonic()
    slow = [Dripping(strict, opening, drip) for _ in range(CONNECTIONS_MAX - 1)]
    try:
        until(lambda: ask(strict, head("GET", "/health/live", key=None)).status == 200, "liveness answers")
        for one in slow:
            with contextlib.suppress(ConnectionError):
                one.client.read_to_the_end()
        assert time.monotonic() - began_s < 8  # body_timeout is 1 s, looked after once a second, and 2 s to linger
    finally:
        for one in slow:
            one.end()
    still_works(strict)


def test_connections_over_the_limit(strict: Gateway) -> None:
    """One more than allowed is told so at once, and Retry-After; those within the limit are served."""
    held = [Client(strict) for _ in range(CONNECTIONS_MAX)]
    try:
        for client in held:
            client.send(head("GET", "/health/live", key=None))
            assert client.answer().status == 200
        with Client(strict) as one_more:
            refused = one_more.answer()
            assert (refused.status, refused.headers["connection"]) == (503, "close")
            assert int(refused.headers["retry-after"]) >= 1
            assert one_more.is_closed()
        held[0].send(post(chat(max_tokens=1)))
        assert held[0].answer().status == 200
    finally:
        for client in held:
            client.close()
    until(lambda: ask(strict, head("GET", "/health/live", key=None)).status == 200, "there is room again")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHo\x00st: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\x00y\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nAuthorization: Bearer a\x00b\r\n\r\n",
        b"GET /v1/models/%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models/%ff%fe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models/..%2f..%2fetc HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST /tokenize HTTP/1.1\r\nContent-Length: 1e3\r\n\r\n",
        b"POST /tokenize HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello",
        b"POST /tokenize HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"\x00\x00\x00\x00",
        b"\r\n\r\n\r\n\x00",
    ],
)
def test_bytes_that_have_no_place_there(strict: Gateway, request_bytes: bytes) -> None:
    """A refusal of the 4xx kind, or the end of the connection; nothing hangs and nothing breaks."""
    with Client(strict) as client:
        client.send(request_bytes)
        said = client.read_until(b"\r\n") if b"HTTP/1.1" in request_bytes else client.read_to_the_end()[:12]
        assert not said or said.startswith(b"HTTP/1.1 4"), said
    still_works(strict)
    assert not [line for line in strict.log if "Traceback" in line or "internal error" in line]
