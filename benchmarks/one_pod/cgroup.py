"""A memory limit as a container has it: a control group of its own, version 1 or 2."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rig.errors import SkippedError

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Group:
    """What is charged to it: memory of processes, and pages of files that they brought in."""

    folder: Path
    second: bool

    @property
    def bytes_now(self) -> int:
        return self._number("memory.current" if self.second else "memory.usage_in_bytes")

    @property
    def working_bytes(self) -> int:
        """As kubelet counts it: less the pages of files that could be dropped at once."""
        name = "inactive_file" if self.second else "total_inactive_file"
        stat = dict(line.split() for line in (self.folder / "memory.stat").read_text().splitlines())
        return self.bytes_now - int(stat[name])

    @property
    def killed(self) -> int:
        """Processes that the kernel has ended because the limit was reached."""
        text = (self.folder / ("memory.events" if self.second else "memory.oom_control")).read_text()
        found = dict(line.split() for line in text.splitlines())
        return int(found.get("oom_kill", 0))

    def join(self) -> None:
        """For a child process before it becomes another program."""
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))

    def _number(self, name: str) -> int:
        return int((self.folder / name).read_text())


@contextlib.contextmanager
def limited(bytes_max: int, name: str) -> Iterator[Group]:
    """A group with this limit and no swap, gone after the block. Raises SkippedError where none can be made."""
    second = (_ROOT / "cgroup.controllers").is_file()
    folder = (_ROOT if second else _ROOT / "memory") / f"inhouse-{name}-{os.getpid()}"
    try:
        if second:
            (_ROOT / "cgroup.subtree_control").write_text("+memory")
        folder.mkdir()
    except OSError as error:
        raise SkippedError(f"no control group can be made here: {error.strerror}") from None
    try:
        limit, swap = (
            ("memory.max", "memory.swap.max") if second else ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        )
        (folder / limit).write_text(str(bytes_max))
        with contextlib.suppress(OSError):  # a kernel that accounts for no swap
            (folder / swap).write_text("0" if second else str(bytes_max))
        yield Group(folder, second)
    finally:
        folder.rmdir()


def entering(group: Group | None) -> Callable[[], None] | None:
    """For `preexec_fn`."""
    return None if group is None else group.join
