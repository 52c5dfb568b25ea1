"""The state folder: made private, and every way in which it can fail told with its path and the way out.

The folder is made with mode 0700. One that exists already keeps its mode (it may be a mounted volume, or shared on
purpose); what lies in it is 0600 either way.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inhouse.errors import StateError

ELSEWHERE = "choose another folder with --state-dir or INHOUSE_STATE_DIR"

_FILE_REASONS: dict[int, str] = {
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "the file system is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.ENOTDIR: "a part of the path is not a folder",
    errno.EEXIST: "it is not a folder",
    errno.ENAMETOOLONG: "the path is too long",
    errno.ELOOP: "a symbolic link points to itself",
}

_SQLITE_REASONS: dict[int, tuple[str, str]] = {
    sqlite3.SQLITE_FULL: ("cannot grow: the disk or the size limit is full", "free some space"),
    sqlite3.SQLITE_READONLY: ("is read-only", f"make file and folder writable for this user, or {ELSEWHERE}"),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", f"check that this user may write file and folder, or {ELSEWHERE}"),
    sqlite3.SQLITE_PERM: ("may not be opened by this user", f"correct its owner and mode, or {ELSEWHERE}"),
    sqlite3.SQLITE_AUTH: ("may not be opened by this user", f"correct its owner and mode, or {ELSEWHERE}"),
    sqlite3.SQLITE_CORRUPT: ("is damaged", "restore it from a backup, or move it away to begin with a new one"),
    sqlite3.SQLITE_NOTADB: ("is not a database", "restore it from a backup, or move it away to begin with a new one"),
    sqlite3.SQLITE_BUSY: ("is locked by another process", "end the process that holds it, or try again"),
    sqlite3.SQLITE_LOCKED: ("is locked by another process", "end the process that holds it, or try again"),
    sqlite3.SQLITE_IOERR: ("cannot be read or written (input/output error)", f"check the disk, or {ELSEWHERE}"),
    sqlite3.SQLITE_PROTOCOL: ("cannot be locked", f"network file systems often cannot lock: {ELSEWHERE}"),
}


def prepare(folder: Path) -> None:
    """Make the folder, private, where it is missing. Raises `StateError`."""
    with telling_os_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_private_file(path: Path) -> None:
    """The file exists and is for its owner only; what SQLite puts beside it (-wal, -shm) takes its mode over.

    An existing file is changed by path, never opened here: closing any descriptor of a database file would drop the
    locks that this process holds on it (POSIX advisory locks, fcntl(2)).
    """
    with telling_os_errors(path):
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            if not path.is_file():
                raise StateError(f"{path} is not a file, the store needs that name; {ELSEWHERE}") from None
            status = path.stat()
            if status.st_mode & 0o077 and status.st_uid == os.geteuid():
                path.chmod(0o600)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time makes or migrates the store; the kernel lets go when its holder dies."""
    path = folder / "inhouse.lock"
    with telling_os_errors(path):
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        with telling_os_errors(path):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def telling_os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = _FILE_REASONS.get(error.errno or 0, error.strerror or str(error))
        raise StateError(f"the state at {path} cannot be used: {reason}; {ELSEWHERE}") from error


@contextmanager
def telling_sqlite_errors(path: Path) -> Iterator[None]:
    """`sqlite3.Error` becomes `StateError`; a broken constraint is a fault of the caller and passes as it is."""
    try:
        yield
    except sqlite3.IntegrityError:
        raise
    except sqlite3.Error as error:
        primary_code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the extended code's low byte, sqlite.org/rescode
        reason, way_out = _SQLITE_REASONS.get(primary_code, (f"failed: {error}", ELSEWHERE))
        room = f" ({_free(path)} free there)" if primary_code == sqlite3.SQLITE_FULL else ""
        raise StateError(f"the state file {path} {reason}{room}; {way_out}") from error


def _free(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path.parent).free / 2**20:.1f} MiB"
    except OSError:
        return "an unknown amount is"
