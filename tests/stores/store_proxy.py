"""A small TCP proxy between a gateway and its store, on which a network can be slow, silent or gone."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator


class Proxy:
    """Listens on `port`. `delay_s` holds up each piece; `silent` swallows nothing and lets nothing through; `lossy`
    lets questions through and keeps the answers."""

    def __init__(self, target: int) -> None:
        self.delay_s = 0.0
        self.silent = False
        self.lossy = False
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._links: list[socket.socket] = []
        self._old: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def cut(self) -> None:
        """Breaks what is open; new connections are made as before."""
        links, self._links = self._links, []
        for link in links:
            _shut(link)
        self._old += links

    def close(self) -> None:
        _shut(self._server)
        self._server.close()
        self.silent = self.lossy = False
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for link in (*self._old, *self._links):  # of a connection that came meanwhile, too
            link.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target), timeout=5)
                except OSError:
                    near.close()
                    continue
                far.settimeout(None)
                self._links += [near, far]
                self._start(self._pump, near, far, False)
                self._start(self._pump, far, near, True)

    def _start(self, work: Callable[..., None], *given: object) -> None:
        thread = threading.Thread(target=work, args=given, daemon=True)
        thread.start()
        self._threads.append(thread)

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.delay_s:
                    time.sleep(self.delay_s)
                while self.silent or (answers and self.lossy):
                    time.sleep(0.02)
                    if source not in self._links:
                        return
                sink.sendall(data)
        for link in (source, sink):
            _shut(link)


def _shut(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    made = Proxy(target)
    try:
        yield made
    finally:
        made.close()
