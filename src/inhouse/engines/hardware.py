"""What this machine gives an engine: cores, instructions, memory, GPUs; and what a process holds of it."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from inhouse.engines import cgroups, gpus
from inhouse.engines.cpu import NO_CPU, Cpu, of_cpuinfo, of_sysctl
from inhouse.engines.gpus import Gpu

KIB = 1024


@dataclass(frozen=True, slots=True)
class Hardware:
    """What this process may use, after its affinity and its cgroup."""

    system: str
    """As in `Linux x86_64`."""
    cpu: Cpu
    """Its threads and cores are those of our affinity."""
    machine_threads: int
    """All that the machine has."""
    quota_cores: float | None
    """The cgroup's limit of CPU time; None where there is none."""
    memory_bytes: int | None
    """Of the machine; None where the system does not tell."""
    memory_limit_bytes: int | None
    """The cgroup's; None where there is none."""
    memory_free_bytes: int | None
    """That programs can have now, caches that can be dropped included."""
    gpus: tuple[Gpu, ...] = ()

    @property
    def usable_cores(self) -> int:
        """Threads that may run at once: a quota of 1.5 cores is worth one."""
        return _cut(self.cpu.threads, self.quota_cores)

    @property
    def usable_memory_bytes(self) -> int | None:
        """The machine's memory, or what the cgroup lets us have of it."""
        return min((size for size in (self.memory_bytes, self.memory_limit_bytes) if size is not None), default=None)


def look(root: Path = Path("/"), *, with_gpus: bool = True) -> Hardware:
    """Looks at this machine; it never fails for lack of something. `root` is where /proc and /sys are looked for."""
    allowed = _allowed()
    limits = cgroups.limits(root)
    total, free = _memory(root)
    if limits.memory_bytes is not None and limits.memory_used_bytes is not None:
        left = max(0, limits.memory_bytes - limits.memory_used_bytes)
        free = left if free is None else min(free, left)
    return Hardware(
        system=f"{platform.system()} {platform.machine()}",
        cpu=_cpu(root, allowed),
        machine_threads=os.cpu_count() or 1,
        quota_cores=limits.cores,
        memory_bytes=total,
        memory_limit_bytes=limits.memory_bytes,
        memory_free_bytes=free,
        gpus=gpus.look(root) if with_gpus else (),
    )


def usable_cores(root: Path = Path("/")) -> int:
    """Threads that this process may run at once: its affinity, cut by the cgroup's quota (a container's CPU limit)."""
    allowed = _allowed()
    return _cut(len(allowed) if allowed else os.cpu_count() or 1, cgroups.limits(root).cores)


def resident_bytes(pid: int) -> int | None:
    """Resident memory of a process and its children; None where the system does not tell (no /proc)."""
    own = _kib_of(Path(f"/proc/{pid}/status"), "VmRSS:")
    if own is None:
        return None
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return own
    return own + sum(resident_bytes(int(child)) or 0 for child in children)


def resident_tree_bytes(pid: int) -> int | None:
    """Resident memory of a process and all below it; pages that they share count for each of them."""
    total = resident_bytes(pid)
    if total is None:
        return None
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return total
    return total + sum(resident_tree_bytes(int(child)) or 0 for child in children)


def _cut(cores: int, quota: float | None) -> int:
    return cores if quota is None else max(1, min(cores, int(quota)))


def _allowed() -> frozenset[int] | None:
    try:
        return frozenset(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return None


def _cpu(root: Path, allowed: frozenset[int] | None) -> Cpu:
    try:
        return of_cpuinfo((root / "proc/cpuinfo").read_text(errors="replace"), allowed)
    except OSError:
        found = of_sysctl(_sysctl("hw", "machdep.cpu"))
        threads = os.cpu_count() or 1
        return found if found.name else Cpu(NO_CPU.name, threads, threads)


def _memory(root: Path) -> tuple[int | None, int | None]:
    total = _kib_of(root / "proc/meminfo", "MemTotal:")
    if total is not None:
        return total, _kib_of(root / "proc/meminfo", "MemAvailable:")
    told = _sysctl("-n", "hw.memsize").strip()
    return int(told) if told.isdecimal() else None, None


def _kib_of(file: Path, name: str) -> int | None:
    try:
        for line in file.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * KIB
    except (OSError, ValueError, IndexError):
        pass
    return None


def _sysctl(*words: str) -> str:
    if platform.system() != "Darwin":
        return ""
    try:
        done = subprocess.run(["sysctl", *words], capture_output=True, text=True, timeout=5.0, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
