"""Child processes that never outlive the run, and what /proc tells of them. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.rig.errors import FailedError

PR_SET_PDEATHSIG = 1
MIB = 1024 * 1024
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True, slots=True)
class Memory:
    """Sums over some processes. PSS shares pages that several processes map among them; peak is the largest RSS."""

    rss_mib: float
    pss_mib: float
    peak_mib: float


class Child:
    """A command as a context manager: started pinned to `core`, ended with everything that it started.

    Its output goes to `log`. It leads a process group of its own, so Ctrl-C reaches this program alone, which then
    unwinds; the kernel kills it if this program is killed. `held`: its standard input stays open as long as it runs,
    for one that ends with that.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        core: int | None = None,
        env: Mapping[str, str] | None = None,
        held: bool = False,
    ) -> None:
        self.command = list(command)
        self.log = log
        self._core = core
        self._held = held
        self._env = dict(env) if env is not None else None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        def prepare() -> None:
            _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if self._core is not None:
                os.sched_setaffinity(0, {self._core})

        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE if self._held else subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,
                preexec_fn=prepare,
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process is not None
        below = {pid: _started(pid) for pid in descendants(self.pid)}
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(8)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
            _kill_leftovers(below)

    def check(self) -> None:
        """Raises FailedError, with the end of its output, if it has ended by itself."""
        assert self._process is not None
        status = self._process.poll()
        if status is not None:
            raise FailedError(f"{self.command[0]} ended with status {status}: {self.last_words()}")

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return " | ".join(lines[-5:])[-1500:] or "it said nothing"


def trim_logs(folder: Path, bytes_max: int = 8 * MIB) -> None:
    """Empties long logs below `folder`: children append, and a line per request would fill the disk."""
    for log in folder.rglob("*.log"):
        if log.stat().st_size > bytes_max:
            os.truncate(log, 0)


def clean_env(**more: str) -> dict[str, str]:
    """The environment without what would configure a child behind the bench's back."""
    keep = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("INHOUSE_", "PYTHON", "XDG_")) and "proxy" not in name.lower()
    }
    return {**keep, **more}


def descendants(pid: int) -> list[int]:
    """All processes below `pid`, not `pid` itself."""
    found: list[int] = []
    for task in _listing(Path(f"/proc/{pid}/task")):
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def arguments(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    except OSError:
        return []


def cpu_s(pids: Iterable[int]) -> float:
    """Processor time of all threads so far, user and system, those that have ended included.

    It is the sum that /proc/PID/stat gives in steps of 10 ms; the process's clock has it in nanoseconds.
    """
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += time.clock_gettime((~pid << 3) | 2)  # CPUCLOCK_SCHED of another process, clock_getcpuclockid(3)
    return total


def core_s(core: int | None) -> float:
    """Time so far in which a core was not idle, what other guests of the host took included; in steps of 10 ms."""
    lines = Path("/proc/stat").read_text().splitlines() if core is not None else []
    fields = next((line.split()[1:9] for line in lines if line.startswith(f"cpu{core} ")), [])
    ticks = [int(field) for field in fields]
    return (sum(ticks) - sum(ticks[3:5])) / os.sysconf("SC_CLK_TCK")  # without idle and waiting for a disk


def pin(pids: Iterable[int], core: int) -> None:
    """All threads of these processes onto one core."""
    for pid in pids:
        for task in _listing(Path(f"/proc/{pid}/task")):
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(task.name), {core})


def memory(pids: Iterable[int]) -> Memory:
    """Raises FailedError if one of the processes is gone."""
    rss = pss = peak = 0
    for pid in pids:
        try:
            status = _fields(Path(f"/proc/{pid}/status"))
            rollup = _fields(Path(f"/proc/{pid}/smaps_rollup"))
        except OSError as error:
            raise FailedError(f"process {pid} is gone: {error}") from error
        rss += status.get("VmRSS", 0)
        peak += status.get("VmHWM", 0)
        pss += rollup.get("Pss", 0)
    return Memory(rss / 1024, pss / 1024, peak / 1024)


def _fields(path: Path) -> dict[str, int]:
    """The fields of a file that are given in kB."""
    rows = (line.split() for line in path.read_text().splitlines() if line.endswith(" kB"))
    return {row[0].rstrip(":"): int(row[1]) for row in rows if len(row) == 3}


def _listing(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield from folder.iterdir()


def _started(pid: int) -> str | None:
    """When a process was started: with its id, who it is."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _kill_leftovers(below: Mapping[int, str | None], wait_s: float = 3.0) -> None:
    """What a child leaves behind is given a moment, then killed, and told."""
    until = time.monotonic() + wait_s
    while any(_alive(pid, since) for pid, since in below.items()):
        if time.monotonic() > until:
            for pid, since in below.items():
                if _alive(pid, since):
                    print(f"left behind and killed: {' '.join(arguments(pid))}", flush=True)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.02)


def _alive(pid: int, since: str | None) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z" and fields[19] == since
