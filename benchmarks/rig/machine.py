"""Where and with what the figures came about: without this no figure means anything."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

PACKAGES = ("inhouse", "uvicorn", "uvloop", "httptools", "msgspec", "starlette", "xllamacpp")


def facts(*, command: Sequence[str], seconds: float, rounds: int) -> dict[str, str | int | float]:
    """The header of a report."""
    found: dict[str, str | int | float] = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": " ".join(command),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "seconds": seconds,
        "rounds": rounds,
    }
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "absent"
    found["nginx"] = _says(["nginx", "-v"]).removeprefix("nginx version: nginx/") or "absent"
    found["gcc"] = _says(["gcc", "-dumpfullversion"]) or "absent"
    return found


def cores() -> tuple[int, int] | None:
    """The core of what is measured and the core of what loads it; None on a machine with one."""
    usable = sorted(os.sched_getaffinity(0))
    return (usable[0], usable[1]) if len(usable) > 1 else None


def python() -> str:
    return sys.executable


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _says(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines else ""
