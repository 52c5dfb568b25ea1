"""One process at a time, on one machine or on a shared volume: the lock on a file that `huggingface_hub` takes too.

Where a file system has no locks, there is none; then two may fetch the same file, and both end with a whole one
(`part`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

LOOK_S = 0.1
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def alone(path: Path, *, waiting: Callable[[], None]) -> Iterator[None]:
    """`waiting` is called about ten times a second while another holds it. Raises OSError where no file can be made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _locked(path, waiting)
    try:
        yield
    finally:
        os.close(file)


def _locked(path: Path, waiting: Callable[[], None]) -> int:
    while (file := _tried(path)) is None:
        waiting()
        time.sleep(LOOK_S)
    return file


def _tried(path: Path) -> int | None:
    """The open file, locked; None while another has it, or when whoever held it took the file away."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is(file, path):
            return file
    except BlockingIOError:
        pass
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return file
        os.close(file)
        raise
    os.close(file)
    return None


def _is(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
