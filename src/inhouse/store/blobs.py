"""The contents of files: on a disk, or in a bucket. What is known of them is in `batches`.

A blob is there whole or not at all. Methods block; they are called in threads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from inhouse.errors import NotFound
from inhouse.store import folder

CHUNK_BYTES = 256 * 1024
_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")


class Blobs(Protocol):
    """Every method may raise StateError."""

    def put(self, id: str, chunks: Iterable[bytes]) -> int:
        """Keeps them under `id`, in place of what was there; the number of bytes."""

    def chunks(self, id: str) -> Iterator[bytes]:
        """Raises NotFound where there is none."""

    def lines(self, id: str) -> Iterator[bytes]:
        """Without their ends; raises NotFound where there is none."""

    def remove(self, id: str) -> None:
        """Nothing happens where there is none."""


class DiskBlobs:
    """One file each in a private folder."""

    def __init__(self, where: Path) -> None:
        self._folder = where
        folder.prepare(where)

    def put(self, id: str, chunks: Iterable[bytes]) -> int:
        path = self._path(id)
        part = path.with_suffix(".part")
        size = 0
        with folder.telling_os_errors(path):
            with open(part, "wb", opener=_private) as file:
                for chunk in chunks:
                    size += file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        return size

    def chunks(self, id: str) -> Iterator[bytes]:
        with self._open(id) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def lines(self, id: str) -> Iterator[bytes]:
        with self._open(id) as file:
            for line in file:
                yield line.rstrip(b"\r\n")

    def remove(self, id: str) -> None:
        path = self._path(id)
        with folder.telling_os_errors(path):
            path.unlink(missing_ok=True)

    def _open(self, id: str) -> BinaryIO:
        path = self._path(id)
        with folder.telling_os_errors(path):
            try:
                return path.open("rb")
            except FileNotFoundError:
                raise NotFound(f"the content of the file '{id}' is not there any more") from None

    def _path(self, id: str) -> Path:
        if not _ID.fullmatch(id):
            raise NotFound("there is no such file")
        return self._folder / id


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def lines_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their ends."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.rstrip(b"\r")
    if rest:
        yield rest.rstrip(b"\r")
