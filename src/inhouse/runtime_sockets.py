"""The private folder in which engines that are started here have their sockets.

Whoever uses one holds a lock on a file in it. What a killed process left behind is nobody's then, and goes when the
next one starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "inhouse-"
_LENGTH_MAX = 64
_IN_USE = f"in-use.{socket.gethostname()}"
"""Of this machine: where several share the folder, what another one has locked may not look so from here."""


@contextlib.contextmanager
def socket_folder() -> Iterator[Path]:
    """A new folder with a short name, gone after the block: the system cuts a socket's path at about 104 bytes."""
    usual = tempfile.gettempdir()
    base = usual if len(usual) <= _LENGTH_MAX else "/tmp"  # noqa: S108 - the folder in it is private
    _sweep(Path(base))
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=base, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with open(folder / "new", "w") as lock:
            with contextlib.suppress(OSError):  # without locks it is never swept
                fcntl.flock(lock, fcntl.LOCK_EX)
                os.rename(lock.name, folder / _IN_USE)  # with this name it is never seen unlocked
            yield folder


def _sweep(base: Path) -> None:
    """Removes what is ours and nobody's any more."""
    for folder in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, in use, or gone meanwhile
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            with open(folder / _IN_USE, "r+", opener=_not_through_links) as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def _not_through_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)
