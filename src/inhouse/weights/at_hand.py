"""What is on this machine of a source, for when nobody is or can be asked: in the folder that is to be filled, or in
the cache, from which a folder is filled then."""

from __future__ import annotations

import hashlib
import os

from inhouse.config.sources import SourceLine
from inhouse.errors import WeightsError
from inhouse.weights.deliver import check_free, disk_told
from inhouse.weights.digest import READ_BYTES, hasher_of
from inhouse.weights.kept import got, kept
from inhouse.weights.shelf import Folder, Shelf
from inhouse.weights.wanted import Got, GotFile, Wanted


def at_hand(line: SourceLine, shelf: Shelf, version: str | None, wanted: Wanted) -> Got:
    """`version` is the one that the source led to when it was last looked up. Raises `WeightsError`."""
    if wanted.into is None:
        return kept(line, shelf, version, wanted)
    folder = Folder(wanted.into)
    with disk_told(folder.folder):
        filled = folder.filled(line.shown, wanted.quant)
    if filled is not None:
        return got(line, folder.folder, filled[1], filled[0], wanted, folder.sha256(filled[1]))
    found = kept(line, shelf, version, wanted)
    with disk_told(folder.folder):
        check_free(line.shown, folder.folder, sum(file.size for file in found.files), wanted.spec.disk_reserve)
        done = 0
        for file in found.files:
            done = _copied(file, folder, wanted, done)
        names = [file.name for file in found.files]
        folder.remember(line.shown, wanted.quant, found.version, names)
    return got(line, folder.folder, names, found.version, wanted, folder.sha256(names))


def _copied(file: GotFile, folder: Folder, wanted: Wanted, done: int) -> int:
    """From the cache; hashed on its way, since disks err too."""
    kind, _, known = file.digest.partition(":")
    sha256, own = hashlib.sha256(), hasher_of("git", file.size)
    to = folder.folder / file.name
    to.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.fresh(file.name)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    with file.path.open("rb") as source, fresh.open("wb") as out:
        while data := source.read(READ_BYTES):
            for hasher in (sha256, own):
                hasher.update(data)
            out.write(data)
            done += len(data)
            wanted.progress(done, None)
        out.flush()
        os.fsync(out.fileno())
    found = own.hexdigest() if kind == "git" else sha256.hexdigest()
    if known and found != known:
        fresh.unlink()
        raise WeightsError(f"{file.path} is damaged: it hashes to {found}", hint="`inhouse models verify --fix`")
    os.replace(fresh, to)
    folder.record(file.name, known or sha256.hexdigest(), sha256.hexdigest())
    return done
