"""One engine process: started, listened to for the reason of a failure, stopped for good.

The process holds the other end of our standard input as its life line, so it never outlives us; one that does not look
at it is run by `lifeline.py`, which does. Its own log is not passed on (an engine's log may hold what users wrote).
Until it is ready nobody has written anything: the last lines are kept, to say why it failed. After that, only those
that tell of an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import sys
from collections import deque
from pathlib import Path

from inhouse.engines.engine import Command
from inhouse.errors import EngineStartError

LIFELINE = Path(__file__).with_name("lifeline.py")
_ERROR_LINES_MAX = 20
_LINES_MAX = 40
_LINE_BYTES_MAX = 2000
_STOP_S = 1.0
# llama.cpp: "0.00.008.088 E llama_model_load: error loading model: …"
_STAMP = re.compile(r"^[\d.]+ E (?:\w+ +)?(?:\w+: )?")
_TELLING = re.compile(
    r"^[\d.]+ E |^error|GGML_ASSERT|what\(\)|error while loading shared"
    r"|(?:^|\) |\] )[\w.]*(?:Error|Exception): |\berror: |\bout of memory\b"  # Python's, and argparse's
)
_BLANK = re.compile(r"\x1b\[[\d;]*m")
_SECRET_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


class Child:
    """A running engine process. Made by `start`, ended by `stop`."""

    def __init__(self, process: asyncio.subprocess.Process, stop_s: float) -> None:
        self._process = process
        self._stop_s = stop_s
        self._errors: deque[str] = deque(maxlen=_ERROR_LINES_MAX)
        self._lines: deque[str] | None = deque(maxlen=_LINES_MAX)
        self._listener = asyncio.create_task(self._listen(), name=f"engine-log-{process.pid}")

    @classmethod
    async def start(cls, command: Command, *, install: str = "", stop_s: float = 0.0) -> Child:
        """Starts the process. Raises EngineStartError if there is no such program; `install` would bring it.

        `stop_s`: how long it may take to end once it is told to.
        """
        argv = list(command.argv)
        if "/" not in argv[0] and shutil.which(argv[0]) is None:
            raise EngineStartError(
                f"there is no program `{argv[0]}` on PATH; "
                + (f"install it (`{install}`), or name it with `engine_binary`" if install else "name another")
            )
        if not command.ends_with_stdin:
            if "/" in argv[0] and not os.access(argv[0], os.X_OK):
                raise EngineStartError(f"cannot start {argv[0]}: there is no such program, or it cannot be run")
            argv = [sys.executable, "-P", str(LIFELINE), f"{stop_s:g}", *argv]
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=_environment() | dict(command.environment),
                start_new_session=True,  # Ctrl-C in a terminal is for us alone
            )
        except OSError as error:
            raise EngineStartError(f"cannot start {argv[0]}: {error.strerror}") from None
        return cls(process, stop_s)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    @property
    def status(self) -> int | None:
        """0 where it ended as it should; None while it runs."""
        return self._process.returncode

    @property
    def how(self) -> str:
        """How it ended, without a word of its log."""
        status = self._process.returncode
        return "" if status is None else f"killed by signal {-status}" if status < 0 else f"exit status {status}"

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The end of its log: all of it until it was ready, of later only what tells of an error."""
        return (*(self._lines or ()), *self._errors)[-_ERROR_LINES_MAX:]

    def ready(self) -> None:
        """From now on its log may hold what users wrote."""
        self._lines = None

    async def wait(self) -> str:
        """Waits for the end of the process; returns what it died of, in words."""
        await self._process.wait()
        await asyncio.wait([self._listener], timeout=1.0)
        return self._cause()

    async def stop(self) -> None:
        """Ends the process: its life line first, then by force. Returns when it is gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_S + self._stop_s):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        finally:
            self._listener.cancel()
            await asyncio.wait([self._listener])

    def _cause(self) -> str:
        telling = [line for line in self._errors if "error loading model" in line]
        telling = telling or list(self._errors) or list(self._lines or ())
        return f"{self.how}: {telling[-1]}" if telling else self.how

    async def _listen(self) -> None:
        stream = self._process.stdout
        if stream is None:
            return
        rest = b""
        while data := await stream.read(65536):
            *lines, rest = (rest + data).split(b"\n")
            rest = rest[-_LINE_BYTES_MAX:]
            for line in lines:
                self._note(line[:_LINE_BYTES_MAX])
        self._note(rest)

    def _note(self, line: bytes) -> None:
        text = _BLANK.sub("", line.decode(errors="replace")).strip()
        if not text:
            return
        if _TELLING.search(text):
            self._errors.append(_STAMP.sub("", text))
        elif self._lines is not None:
            self._lines.append(text)


def _environment() -> dict[str, str]:
    """Ours without what an engine has no business with."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("INHOUSE_") and name not in _SECRET_VARIABLES
    }
    # a failed assertion of llama.cpp would call a debugger, where there is one: it waits at our life line for input
    # and the engine hangs instead of ending
    kept["GGML_NO_BACKTRACE"] = "1"
    # the engine has as many threads as there are cores: where they spin without end, whatever else wants a core, the
    # gateway above all, is kept from it; where they sleep at once, small models are ten times slower. A short spin
    # is neither (docs/performance.md)
    if "OMP_WAIT_POLICY" not in kept:
        kept.setdefault("GOMP_SPINCOUNT", "10000")
    return kept
