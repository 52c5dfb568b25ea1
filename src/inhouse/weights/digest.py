"""What a file's bytes must hash to: SHA-256, or what git calls a blob, by which the hub knows its small files."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from inhouse.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

READ_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Digest:
    kind: Literal["sha256", "git"]
    hex: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.hex}"

    def of(self, file: Path, *, told: Callable[[int], None] | None = None) -> Digest:
        """That of a file, by the same algorithm; `told` hears how many bytes were read. Raises OSError."""
        hasher = hasher_of(self.kind, file.stat().st_size)
        with file.open("rb", buffering=0) as stream:
            while data := stream.read(READ_BYTES):
                hasher.update(data)
                if told:
                    told(len(data))
        return Digest(self.kind, hasher.hexdigest())


def sha256(hexadecimal: str) -> Digest:
    return Digest("sha256", hexadecimal)


def digest_of_etag(etag: str) -> Digest | None:
    """The hub's ETags are hashes: 64 digits of large files, 40 of small ones."""
    if re.fullmatch(r"[0-9a-f]{64}", etag):
        return Digest("sha256", etag)
    return Digest("git", etag) if re.fullmatch(r"[0-9a-f]{40}", etag) else None


def hasher_of(kind: Literal["sha256", "git"], size: int) -> hashlib._Hash:
    if kind == "sha256":
        return hashlib.sha256()
    return hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)


def sha256_of(file: Path) -> str:
    """Raises OSError."""
    return sha256("").of(file).hex


def digest_of_all(files: Iterable[tuple[str, str]]) -> str:
    """One digest for several files, of name and SHA-256 each: that of `sha256sum`'s lines, in the order of names.

    Of a single file, its own.
    """
    known = sorted(files)
    if len(known) == 1:
        return known[0][1]
    return hashlib.sha256("".join(f"{digest}  {name}\n" for name, digest in known).encode()).hexdigest()


def check_pinned(source: str, pinned: str | None, files: Iterable[tuple[str, str]]) -> None:
    """Raises `WeightsError` where the files are not those that were pinned."""
    if pinned is None:
        return
    found = digest_of_all(files)
    if found != pinned.lower():
        raise WeightsError(
            f"{source} has the SHA-256 {found}, pinned is {pinned.lower()}",
            hint="if the new content is right, change `sha256`; else the place gives something else than you trusted",
        )
