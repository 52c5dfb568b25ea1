"""The private folder in which engines that are started here have their sockets."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

_LENGTH_MAX = 64


@contextlib.contextmanager
def socket_folder() -> Iterator[Path]:
    """A new folder with a short name, gone after the block: the system cuts a socket's path at about 104 bytes."""
    usual = tempfile.gettempdir()
    base = usual if len(usual) <= _LENGTH_MAX else "/tmp"  # noqa: S108 - the folder in it is private
    with tempfile.TemporaryDirectory(prefix="inhouse-", dir=base, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
