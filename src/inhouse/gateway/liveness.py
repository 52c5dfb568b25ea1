"""Liveness on a port and a thread of its own: an answer also while the event loop is busy, and a truthful one.

The thread looks at the loop's heartbeat: older than `STUCK_S` means that the process serves nobody and should be
restarted (503). Not here: readiness, which is the loop's own to tell.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from inhouse.errors import StackError
from inhouse.runtime import Parts

STUCK_S = 30.0


@contextlib.contextmanager
def liveness(parts: Parts, host: str, port: int) -> Iterator[int]:
    """Answers GET on `port` (0 picks one) until the block ends; yields the port. Raises StackError if it is taken."""

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5.0

        def do_GET(self) -> None:
            age_s = time.monotonic() - parts.heartbeat_s
            alive = age_s < STUCK_S
            body = b'{"status":"%b","heartbeat_age_s":%.1f}' % (b"ok" if alive else b"stuck", age_s)
            self.send_response(200 if alive else 503)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return None

    try:
        server = ThreadingHTTPServer((host, port), Door)
    except OSError as error:
        raise StackError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            where="gateway.health_port",
            hint="choose another port, or leave it out: /health/live is also on the API's port",
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
