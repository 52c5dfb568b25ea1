"""The two C programs beside this file: compiled for the run, and the load client's answer as a type."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.rig.errors import FailedError, SkippedError
from benchmarks.rig.processes import clean_env

HERE = Path(__file__).parent
GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles of a time in microseconds."""

    p50: float
    p90: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of the load client saw. `events` are server-sent events, [DONE] and usage included."""

    requests: int
    errors: int
    elapsed_s: float
    requests_per_s: float
    events: int
    events_per_s: float
    tokens: int
    tokens_per_s: float
    latency_us: Spread
    ttft_us: Spread | None
    gap_us: Spread | None


@dataclass(frozen=True, slots=True)
class Tools:
    """The compiled programs, and the folder of this run."""

    mock: Path
    client: Path
    folder: Path

    @classmethod
    def build(cls, folder: Path) -> Tools:
        """Raises SkippedError without a C compiler, FailedError if it refuses."""
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None:
            raise SkippedError("no C compiler here (Debian: apt-get install gcc libc6-dev)")
        for name in ("mock_engine", "load"):
            command = [compiler, "-O2", "-Wall", "-Wextra", "-o", str(folder / name), str(HERE / f"{name}.c")]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
            if done.returncode:
                raise FailedError(f"{name}.c does not compile: {done.stderr.strip()[-800:]}")
        return cls(folder / "mock_engine", folder / "load", folder)

    def load(
        self,
        address: str,
        request: bytes,
        *,
        connections: int,
        seconds: float,
        requests: int | None = None,
        stream: bool = False,
        core: int | None = None,
        grace_s: float = GRACE_S,
    ) -> Load:
        """Runs the load client to its end, which is after `seconds` or `requests`, whichever comes first.

        What is under way then may take `grace_s` more. Raises FailedError if any request failed or did not end.
        """
        background = self.start_load(
            address,
            request,
            connections=connections,
            seconds=seconds,
            requests=requests,
            stream=stream,
            core=core,
            grace_s=grace_s,
        )
        return background.result()

    def start_load(
        self,
        address: str,
        request: bytes,
        *,
        connections: int,
        seconds: float,
        requests: int | None = None,
        stream: bool = False,
        core: int | None = None,
        grace_s: float = GRACE_S,
    ) -> RunningLoad:
        """The same in the background; `result` or `stop` must follow."""
        file = self.folder / "request"
        file.write_bytes(request)
        command = [str(self.client), "-r", str(file), "-c", str(connections)]
        command += ["-d", f"{seconds:g}", "-g", f"{grace_s:g}"]
        command += ["-n", str(requests)] if requests else []
        command += ["-s"] if stream else []
        return RunningLoad([*command, address], seconds + grace_s, core)


class RunningLoad:
    """A load client at work."""

    def __init__(self, command: Sequence[str], limit_s: float, core: int | None) -> None:
        pin = (lambda: os.sched_setaffinity(0, {core})) if core is not None else None
        self._limit_s = limit_s + 20  # it gives itself 10 s to connect
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_env(),
            start_new_session=True,
            preexec_fn=pin,
        )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def result(self) -> Load:
        try:
            said, complaint = self._process.communicate(timeout=self._limit_s)
        except subprocess.TimeoutExpired:
            raise FailedError("the load client did not end in time") from None
        finally:
            self.stop()
        if not said.strip():
            raise FailedError(f"the load client says: {complaint.strip()[-400:]}")
        found: dict[str, Any] = json.loads(said)
        if found["errors"] or found["unfinished"] or not found["requests"]:
            raise FailedError(
                f"{found['errors']} of {found['errors'] + found['requests']} requests failed, "
                f"{found['unfinished']} did not end; first: {found['first_error'] or 'none was refused'}"
            )
        return _load(found)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def _load(found: dict[str, Any]) -> Load:
    def spread(name: str) -> Spread | None:
        return Spread(**found[name]) if found[name] else None

    latency = spread("latency_us")
    assert latency is not None  # there were requests
    return Load(
        requests=found["requests"],
        errors=found["errors"],
        elapsed_s=found["elapsed_s"],
        requests_per_s=found["requests_per_s"],
        events=found["events"],
        events_per_s=found["events_per_s"],
        tokens=found["tokens"],
        tokens_per_s=found["tokens_per_s"],
        latency_us=latency,
        ttft_us=spread("ttft_us"),
        gap_us=spread("gap_us"),
    )
