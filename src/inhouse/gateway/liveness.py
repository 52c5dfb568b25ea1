"""Liveness on a port and a thread of its own: an answer also while the event loop is busy, and a truthful one.

The thread looks at the loop's heartbeat: older than `STUCK_S` means that the process serves nobody and should be
restarted (503). Not here: readiness, which is the loop's own to tell.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from inhouse.errors import StackError

STUCK_S = 30.0
Page = Callable[[], tuple[int, str, bytes]]
"""Status, type and body of an answer. It is asked on the thread, and only looks."""


class Beating(Protocol):
    heartbeat_s: float


@contextlib.contextmanager
def liveness(
    parts: Beating, host: str, port: int, *, where: str = "gateway.health_port", pages: Mapping[str, Page] = {}
) -> Iterator[int]:
    """Answers GET on `port` (0 picks one) until the block ends; yields the port. Raises StackError if it is taken.

    What is not among `pages` is liveness.
    """

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5.0

        def do_GET(self) -> None:
            page = pages.get(self.path)
            status, media, body = self._alive() if page is None else page()
            self.send_response(status)
            self.send_header("content-type", media)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _alive(self) -> tuple[int, str, bytes]:
            age_s = time.monotonic() - parts.heartbeat_s
            alive = age_s < STUCK_S
            body = b'{"status":"%b","heartbeat_age_s":%.1f}' % (b"ok" if alive else b"stuck", age_s)
            return 200 if alive else 503, "application/json", body

        def log_message(self, format: str, *args: object) -> None:
            return None

    try:
        server = ThreadingHTTPServer((host, port), Door)
    except OSError as error:
        raise StackError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            where=where,
            hint="choose another port, or leave it out",
        ) from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, daemon=True, name="liveness")
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
