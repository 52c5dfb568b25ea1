"""Several remote files → a place on this machine, each whole, checked and fetched by one process only.

The room on the disk is looked at before anything is begun; what is here already is not fetched; the rest comes file by
file, in parallel ranges (`transfer`). A file has its name only when it is whole and hashes to what was promised.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from inhouse.errors import WeightsError
from inhouse.weights.lock import alone
from inhouse.weights.part import Part
from inhouse.weights.ranges import Changed, NoRanges, Ranges, client
from inhouse.weights.remote import Remote
from inhouse.weights.shelf import Destination, part_bytes
from inhouse.weights.transfer import transfer, transfer_whole
from inhouse.weights.wanted import Progress, Wanted

LARGER_DISK = "free some space, or set HF_HOME to a folder on a larger disk"


def deliver(source: str, remotes: Sequence[Remote], place: Destination, wanted: Wanted) -> list[Path]:
    """The files, in the order of `remotes`. Raises `WeightsError`."""
    with disk_told(place.folder):
        found = [place.have(remote) for remote in remotes]
    missing = [remote for remote, path in zip(remotes, found, strict=True) if path is None]
    if missing:
        check_room(source, place, missing, wanted)
    meter = _Meter(wanted.progress, remotes)
    paths = []
    with client(wanted.spec) as http:
        for remote, path in zip(remotes, found, strict=True):
            if path is None:
                with disk_told(place.folder, remote.name):
                    path = _one(remote, place, Ranges(http, remote), wanted, meter)
            meter.finish(path.stat().st_size)
            paths.append(path)
    return paths


def check_room(source: str, place: Destination, missing: Sequence[Remote], wanted: Wanted) -> None:
    """Raises `WeightsError` where the disk has no room for them."""
    needed = sum((remote.size or 0) - part_bytes(place, remote) for remote in missing)
    check_free(source, place.folder, needed, wanted.spec.disk_reserve)


def check_free(what: str, folder: Path, needed: int, reserve: int) -> None:
    """Raises `WeightsError` where the folder's disk has not `needed` bytes free, and the reserve."""
    there = next((one for one in (folder, *folder.absolute().parents) if one.exists()), None)
    if needed > 0 and there:
        free = shutil.disk_usage(there).free
        if needed + reserve > free:
            raise WeightsError(
                f"{what} needs {needed / 2**30:.2f} GiB of disk, {folder} has {free / 2**30:.2f} GiB free",
                hint=LARGER_DISK,
            )


def _one(remote: Remote, place: Destination, ranges: Ranges, wanted: Wanted, meter: _Meter) -> Path:
    def waiting() -> None:
        meter.at(part_bytes(place, remote))

    with alone(place.lock(remote), waiting=waiting):
        path = place.have(remote)  # fetched by another while we waited
        if path is not None:
            return path
        size = remote.size
        if size is None:
            raise WeightsError(
                f"{remote.name} cannot be fetched: its place does not say how large it is",
                hint="fetch it by other means, and name the file as source",
            )
        with Part(
            place.part(remote),
            size,
            content=remote.key,
            range_bytes=wanted.spec.range_bytes,
            durable=remote.digest is None,
        ) as part:
            digests = _whole(remote, part, ranges, wanted, meter)
            return place.keep(remote, part, digests)


def _whole(remote: Remote, part: Part, ranges: Ranges, wanted: Wanted, meter: _Meter) -> dict[str, str]:
    """Fetches and checks; bytes of an earlier run that turn out wrong are fetched once more."""
    while True:
        resumed = part.resumed_bytes > 0
        try:
            digests = transfer(remote, part, ranges, wanted.spec, meter.at)
        except NoRanges:
            digests = transfer_whole(remote, part, ranges, wanted.spec, meter.at)
        except Changed:
            part.drop()
            raise WeightsError(
                f"{remote.name} was replaced where it lies, while it was fetched", hint="fetch it again"
            ) from None
        expected = remote.digest
        if expected is None or digests[expected.kind] == expected.hex:
            return digests
        if not resumed:
            part.drop()
            raise WeightsError(
                f"{remote.name} did not come whole: it hashes to {digests[expected.kind]}, promised was {expected.hex}",
                hint="try again; if it stays so, the place or a proxy on the way to it is wrong",
            )
        part.restart()


class _Meter:
    """Adds up files into one progress that never goes back."""

    def __init__(self, progress: Progress, remotes: Sequence[Remote]) -> None:
        self._progress = progress
        sizes = [remote.size for remote in remotes]
        self._total = None if None in sizes else sum(size or 0 for size in sizes)
        self._before = 0
        self._told = -1

    def at(self, done_bytes: int) -> None:
        now = self._before + done_bytes
        if now >= self._told:  # said again while nothing comes, so that a rate can fall
            self._told = now
            self._progress(now, self._total)

    def finish(self, size: int) -> None:
        self.at(size)
        self._before += size


@contextmanager
def disk_told(folder: Path, name: str = "a file") -> Iterator[None]:
    """The disk's errors become `WeightsError`."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise WeightsError(f"the disk was full before {name} had come whole", hint=LARGER_DISK) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise WeightsError(
                f"{folder} cannot be written: {reason}", hint="set HF_HOME to a folder that you may write"
            ) from error
        raise WeightsError(f"{name} cannot be kept in {folder}: {reason}", hint="try again") from error
