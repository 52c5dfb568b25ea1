"""The last step of every source that fetches: remote files → what an engine is given, remembered for offline."""

from __future__ import annotations

from collections.abc import Sequence

from inhouse.config.sources import SourceLine
from inhouse.weights.deliver import deliver, disk_told
from inhouse.weights.kept import got
from inhouse.weights.remote import Remote
from inhouse.weights.shelf import Destination, Folder, Shelf
from inhouse.weights.wanted import Got, Wanted


def delivered(line: SourceLine, revision: str, remotes: Sequence[Remote], place: Destination, wanted: Wanted) -> Got:
    """All `remotes` are of one version, which `revision` leads to now. Raises `WeightsError`."""
    deliver(line.shown, remotes, place, wanted)
    version, names = remotes[0].version, [remote.name for remote in remotes]
    if isinstance(place, Folder):
        with disk_told(place.folder):
            place.remember(line.shown, wanted.quant, version, names)
        return got(line, place.folder, names, version, wanted, place.sha256(names))
    if isinstance(place, Shelf):
        with disk_told(place.folder):
            place.remember(revision, version)
            if line.kind != "hf":
                place.remember_source(line)
    return got(line, place.folder / "snapshots" / version, names, version, wanted)
