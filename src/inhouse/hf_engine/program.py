"""The engine as a process: a socket at once, the model behind it, an end without delay.

SIGTERM and SIGINT end it on the spot: whoever started it has handed out its requests and takes them elsewhere. What it
prints is where it listens and, on standard error, why it failed; never what was asked of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
import socket
import sys
from collections.abc import Generator
from typing import Any, NoReturn

import uvloop

from inhouse.errors import EngineStartError, StackError
from inhouse.hf_engine.settings import Settings

_BACKLOG = 1024
_NEEDS = ("torch", "transformers", "safetensors")
_KEEP_ALIVE_S = 75
_ENDING = (signal.SIGTERM, signal.SIGINT)


def check_extra(settings: Settings) -> None:
    """Raises EngineStartError where what the engine stands on is not installed."""
    wanted = [*_NEEDS, *(() if settings.quantize == "none" else ("bitsandbytes", "accelerate"))]
    lacking = [name for name in wanted if importlib.util.find_spec(name) is None]
    if lacking:
        raise EngineStartError(
            f"the engine 'transformers' needs the extra 'transformers' ({', '.join(lacking)} is missing): "
            "pip install 'inhouse[transformers]'"
        )


def run(settings: Settings, host: str, port: int) -> NoReturn:
    """Serves on an address, or on the unix socket that `host` is the path of, until told to end."""
    check_extra(settings)
    if not (settings.folder / "config.json").is_file():
        raise EngineStartError(
            f"{settings.folder} is no model's folder: it has no config.json; expected form: a folder as "
            "save_pretrained writes it, with config.json, tokenizer and .safetensors files"
        )
    # the folder is all there is: nothing is looked up anywhere, and nobody is told of it
    os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if "OMP_WAIT_POLICY" not in os.environ:
        # threads that spin without end lose three quarters of the speed on a machine that does something else too
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if settings.threads:
        os.environ["OMP_NUM_THREADS"] = str(settings.threads)
    for number in _ENDING:
        signal.signal(number, lambda *_: os._exit(0))
    listener = _listen(host, port)
    where = host if _is_path(host) else f"http://{host}:{listener.getsockname()[1]}"
    print(f"transformers engine on {where}", flush=True)
    uvloop.run(_serve(settings, listener))
    sys.exit(0)


async def _serve(settings: Settings, listener: socket.socket) -> None:
    from uvicorn.config import Config
    from uvicorn.server import Server

    from inhouse.hf_engine import door
    from inhouse.hf_engine.worker import Worker

    class Quiet(Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            """uvicorn would wait for open answers."""
            yield

    for name in ("uvicorn", "asyncio"):
        logger = logging.getLogger(name)
        logger.propagate = False
        logger.addHandler(_Kinds(logging.WARNING))
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, os._exit, 0)
    worker = Worker(settings, loop)
    config: Any = Config(
        door.build(settings, worker),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        backlog=_BACKLOG,
    )
    worker.start()
    await Quiet(config).serve(sockets=[listener])


class _Kinds(logging.Handler):
    """What the server complains about: the kind of a fault, never its text, which may hold what was asked."""

    def emit(self, record: logging.LogRecord) -> None:
        kind = record.exc_info[0] if record.exc_info else None
        print(f"error: {record.name}: {kind.__name__ if kind else record.levelname}", file=sys.stderr, flush=True)


def _is_path(host: str) -> bool:
    return "/" in host


def _listen(host: str, port: int) -> socket.socket:
    """Raises StackError."""
    try:
        if _is_path(host):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(host)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(host)
        else:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        raise StackError(
            f"the engine cannot listen on {host} port {port}: {error.strerror}",
            where="--port",
            hint="another program may use it; --port 0 picks a free one",
        ) from None
    return listener
