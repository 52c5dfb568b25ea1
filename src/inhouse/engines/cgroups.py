"""What a container may use: the limits of CPU and memory of the cgroup that this process is in, version 1 or 2.

A limit of a group holds for all groups below it, so every group from ours up to the root is asked and the least counts.
Inside a container the path of our own group often does not exist under the mount, which then shows our group as its
root: what is not there is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")
_UNLIMITED_BYTES = 1 << 60
"""Version 1 says "no limit" with a number near 2^63."""


@dataclass(frozen=True, slots=True)
class Limits:
    """None where there is no limit."""

    version: int = 0
    """0 where there are no cgroups."""
    cores: float | None = None
    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    """In the group with the least limit, without cached files that can be dropped."""


def limits(root: Path = Path("/")) -> Limits:
    """Those of this process. `root` is where /proc and /sys are looked for."""
    paths = _paths(root / "proc/self/cgroup")
    base = root / "sys/fs/cgroup"
    if not base.is_dir():
        return Limits()
    version = 2 if (base / "cgroup.controllers").is_file() else 1
    cores: list[float] = []
    memory: list[tuple[int, int | None]] = []
    if version == 2:
        for group in _upwards(base, paths.get("", "/")):
            cores += _some(_quota_2(group))
            memory += _some(_memory(group, "memory.max", "memory.current", "inactive_file"))
    else:
        for group in _upwards(_mounted(base, "cpu", "cpu,cpuacct"), paths.get("cpu", "/")):
            cores += _some(_quota_1(group))
        for group in _upwards(base / "memory", paths.get("memory", "/")):
            found = _memory(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            memory += _some(found)
    least = min(memory, default=(None, None), key=lambda pair: pair[0])
    return Limits(version, min(cores, default=None), *least)


def _paths(file: Path) -> dict[str, str]:
    """Our group's path by controller; that of version 2 under ""."""
    found: dict[str, str] = {}
    for line in (_read(file) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    group = mount / path.strip("/")
    if ".." in group.parts or not group.is_dir():
        group = mount
    while True:
        yield group
        if group == mount:
            return
        group = group.parent


def _mounted(base: Path, *names: str) -> Path:
    return next((base / name for name in names if (base / name).is_dir()), base / names[0])


def _quota_2(group: Path) -> float | None:
    quota, _, period = (_read(group / "cpu.max") or "").partition(" ")
    return _ratio(quota, period)


def _quota_1(group: Path) -> float | None:
    return _ratio(_read(group / "cpu.cfs_quota_us") or "", _read(group / "cpu.cfs_period_us") or "")


def _ratio(quota: str, period: str) -> float | None:
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max", or no such file
        return None
    return cores if cores > 0 else None  # -1 is "no limit"


def _memory(group: Path, limit: str, usage: str, reclaimable: str) -> tuple[int, int | None] | None:
    try:
        most = int(_read(group / limit) or "")
    except ValueError:
        return None
    if most >= _UNLIMITED_BYTES:
        return None
    try:
        used = int(_read(group / usage) or "")
    except ValueError:
        return most, None
    for line in (_read(group / "memory.stat") or "").splitlines():
        name, _, value = line.partition(" ")
        if name == reclaimable and value.isdecimal():
            used -= int(value)
    return most, max(0, used)


def _some(value: _T | None) -> list[_T]:
    return [] if value is None else [value]


def _read(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        return None
