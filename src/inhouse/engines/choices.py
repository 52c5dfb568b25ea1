"""What an engine on this machine is given where the stack does not say: threads, batch, slots, memory. Pure.

Each choice comes with its reason, for `inhouse doctor hardware`.
"""

from __future__ import annotations

from dataclasses import dataclass

from inhouse.engines.hardware import Hardware
from inhouse.engines.residence import size

SLOTS = ((64, 16), (32, 8), (0, 4))
"""From so many usable threads on, so many slots."""
BATCH_SMALL, BATCH_LARGE = 512, 2048
_LARGE_THREADS = 16
_FEW_CORES = 4
RESERVE_PERCENT = 10
RESERVE_BYTES_MIN = 512 << 20


@dataclass(frozen=True, slots=True)
class Choice:
    value: int
    why: str


@dataclass(frozen=True, slots=True)
class Choices:
    threads: Choice
    """For generation, which waits for memory."""
    batch_threads: Choice
    """For prompts, which wait for arithmetic."""
    batch: Choice
    """Tokens of prompts that are computed before those who stream get their next token."""
    slots: Choice


def choose(
    hardware: Hardware,
    *,
    replicas: int = 1,
    threads: int | None = None,
    batch: int | None = None,
    slots: int | None = None,
) -> Choices:
    """What is given holds; it is for one of so many replicas that share the machine."""
    every = max(1, hardware.usable_cores // replicas)
    shared = f", shared by {replicas} replicas" if replicas > 1 else ""
    given = "as `{}` says"
    if threads is not None:
        chosen = Choice(threads, given.format("threads"))
        all_of_them = Choice(threads, given.format("threads"))
    else:
        chosen = _threads(hardware, replicas, every, shared)
        all_of_them = Choice(every, f"every thread that may be used{_limit(hardware)}{shared}")
    return Choices(
        threads=chosen,
        batch_threads=all_of_them,
        batch=_batch(every) if batch is None else Choice(batch, given.format("batch")),
        slots=_slots(every) if slots is None else Choice(slots, given.format("slots")),
    )


def reserve_bytes(usable_bytes: int) -> int:
    """What models leave for the gateway and for everything else; of GPUs: for their drivers and other programs."""
    return max(RESERVE_BYTES_MIN, usable_bytes * RESERVE_PERCENT // 100)


def budget(hardware: Hardware, *, budget_bytes: int | None = None, reserve: int | None = None) -> Choice | None:
    """What all models together may take; None where nothing is given and the system does not tell its memory."""
    if budget_bytes is not None:
        return Choice(budget_bytes, "as `memory.budget` says")
    usable = hardware.usable_memory_bytes
    if usable is None:
        return None
    kept = reserve_bytes(usable) if reserve is None else reserve
    limited = usable == hardware.memory_limit_bytes and usable != hardware.memory_bytes
    whose = "the cgroup's limit" if limited else "the machine's memory"
    return Choice(max(0, usable - kept), f"{whose} of {size(usable)}, less a reserve of {size(kept)}")


def gpu_budget(total_bytes: int, *, budget_bytes: int | None = None) -> Choice:
    """What all models together may take of GPUs that have so much memory together."""
    if budget_bytes is not None:
        return Choice(budget_bytes, "as `memory.gpu_budget` says")
    kept = reserve_bytes(total_bytes)
    return Choice(
        max(0, total_bytes - kept), f"the GPUs' memory of {size(total_bytes)}, less a reserve of {size(kept)}"
    )


def _threads(hardware: Hardware, replicas: int, every: int, shared: str) -> Choice:
    cpu = hardware.cpu
    if cpu.quick_cores is not None and cpu.quick_cores < every * replicas:
        return Choice(max(1, cpu.quick_cores // replicas), f"the quick ones of {cpu.cores} cores{shared}")
    cores = max(1, min(cpu.cores, hardware.usable_cores) // replicas)
    if cores >= _FEW_CORES and cores < every:
        why = f"one for each core: generation waits for memory, which two threads of a core share{shared}"
        return Choice(cores, why)
    return Choice(every, f"every thread that may be used{_limit(hardware)}{shared}")


def _limit(hardware: Hardware) -> str:
    if hardware.quota_cores is not None and hardware.usable_cores < hardware.cpu.threads:
        return f", within the cgroup's {hardware.quota_cores:g} cores"
    if hardware.cpu.threads < hardware.machine_threads:
        return f", the affinity being {hardware.cpu.threads} of {hardware.machine_threads}"
    return ""


def _batch(threads: int) -> Choice:
    if threads >= _LARGE_THREADS:
        return Choice(BATCH_LARGE, f"{threads} threads are through with it soon")
    why = f"with {threads} thread{'s' * (threads > 1)}, more would keep those who stream waiting while a prompt is read"
    return Choice(BATCH_SMALL, why)


def _slots(threads: int) -> Choice:
    slots = next(slots for least, slots in SLOTS if threads >= least)
    return Choice(
        slots, f"with {threads} thread{'s' * (threads > 1)}; fewer where their context does not fit in memory"
    )
