"""uvicorn's parts that the gateway is made of, without its command line.

The package `uvicorn` imports `uvicorn.main`, and with it click, multiprocessing and supervisors: 1.6 MiB that a gateway
would carry for nothing. Whoever wants them still gets them by `import uvicorn.main`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_NAMES = ("Server", "main", "run")
"""What the package takes from there."""


@contextmanager
def _without_its_command_line() -> Iterator[None]:
    if "uvicorn" in sys.modules:  # somebody has imported all of it already
        yield
        return
    empty = ModuleType("uvicorn.main")
    empty.__dict__.update(dict.fromkeys(_NAMES))
    sys.modules[empty.__name__] = empty
    try:
        yield
    finally:
        del sys.modules[empty.__name__]
        for name in _NAMES:
            sys.modules["uvicorn"].__dict__.pop(name, None)  # better missing than None


with _without_its_command_line():
    from uvicorn.config import Config
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    from uvicorn.server import Server, ServerState

__all__ = ["Config", "HttpToolsProtocol", "Server", "ServerState"]
