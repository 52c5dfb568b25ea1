"""Which process holds a reservation, and whether it is still there: a file that it locks for as long as it lives.

The kernel lets go of the lock when its holder dies, however it dies, and never before: no lease to renew, no clock to
trust, and a process that stands still for a minute keeps what it holds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path

from inhouse.store import folder

FOLDER = "owners"


class Owner:
    """This process, as long as it is open. Raises `StateError` where the folder cannot be written."""

    def __init__(self, state_dir: Path) -> None:
        home = state_dir / FOLDER
        folder.prepare(home)
        self.name = f"{os.getpid()}-{secrets.token_hex(6)}"
        self._path = home / self.name
        with folder.telling_os_errors(self._path):
            self._descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self) -> None:
        """Ends the claim. What is still reserved falls to whoever sweeps next."""
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._descriptor)


class Estate:
    """What a dead owner left, claimed so that one process at a time sees to it."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    def close(self, *, settled: bool) -> None:
        if settled:
            with contextlib.suppress(OSError):
                self._path.unlink()
        if self._descriptor is not None:
            os.close(self._descriptor)


def claim(state_dir: Path, name: str) -> Estate | None:
    """The estate of the owner of that name; None while it lives."""
    path = state_dir / FOLDER / name
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return Estate(path, None)
    except OSError:
        return None  # another user's, or something is wrong with the disk: not known to be dead
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return Estate(path, descriptor)
