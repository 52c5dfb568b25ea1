"""Where fetched files are kept: a folder per repository, laid out as `huggingface_hub` lays out its cache.

    blobs/<hash>                    the bytes, once, named by what they hash to
    blobs/<hash>.part, .part.map    a file on its way (`part`)
    snapshots/<version>/<name>      links to blobs: the files of one version, under the names they have there
    refs/<revision>                 the version that a branch or a tag was when it was last looked at
    ../.locks/<folder>/<hash>.lock  held while the blob is fetched

Repositories of the hub lie where other programs of the hub look for them. Other sources have a folder each in `inhouse`
beside those, with the source in `source.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from inhouse.config.sources import SourceLine
from inhouse.weights.part import Part, bytes_here
from inhouse.weights.remote import Remote


class Destination(Protocol):
    """Where a file goes: on a shelf, or into a plain folder."""

    folder: Path

    def have(self, remote: Remote) -> Path | None:
        """The file, where it is here whole."""

    def part(self, remote: Remote) -> Path: ...

    def lock(self, remote: Remote) -> Path: ...

    def keep(self, remote: Remote, part: Part, digests: dict[str, str]) -> Path:
        """The part is whole: from now on it is the file. Raises OSError."""


class Shelf:
    """One repository's folder; nothing is made before there is something to keep."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def snapshot(self, version: str) -> Path:
        return self.folder / "snapshots" / version

    def version_of(self, revision: str) -> str | None:
        """What a branch or tag was last, or the version itself, where it is here."""
        if self.snapshot(revision).is_dir() and "/" not in revision:
            return revision
        try:
            return (self.folder / "refs" / revision).read_text().strip() or None
        except OSError:
            return None

    def names(self, version: str) -> list[str]:
        """The files of a version that are here whole, sorted."""
        root = self.snapshot(version)
        return sorted(
            path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file() and not path.is_dir()
        )

    def remember(self, revision: str, version: str) -> None:
        """Raises OSError."""
        if revision and revision != version:
            ref = self.folder / "refs" / revision
            ref.parent.mkdir(parents=True, exist_ok=True)
            _write(ref, version)

    def remember_source(self, line: SourceLine) -> None:
        """So that a person, and `inhouse models list --cache`, see what this is. Raises OSError."""
        file = self.folder / "source.json"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(file, json.dumps({"source": line.shown}))

    def have(self, remote: Remote) -> Path | None:
        link = self.snapshot(remote.version) / remote.name
        if link.is_file() and (remote.size is None or link.stat().st_size == remote.size):
            return link
        if remote.digest is None:
            return None
        blob = self.blob(remote.digest.hex)
        if blob.is_file() and (remote.size is None or blob.stat().st_size == remote.size):
            return self.link(remote.version, remote.name, blob)
        return None

    def blob(self, digest: str) -> Path:
        return self.folder / "blobs" / digest

    def part(self, remote: Remote) -> Path:
        return self.folder / "blobs" / f"{remote.key}.part"

    def lock(self, remote: Remote) -> Path:
        return self.folder.parent / ".locks" / self.folder.name / f"{remote.key}.lock"

    def keep(self, remote: Remote, part: Part, digests: dict[str, str]) -> Path:
        blob = self.blob(remote.digest.hex if remote.digest else digests["sha256"])
        part.settle(blob)
        return self.link(remote.version, remote.name, blob)

    def link(self, version: str, name: str, blob: Path) -> Path:
        """The blob under a name of a version. Raises OSError."""
        link = self.snapshot(version) / name
        link.parent.mkdir(parents=True, exist_ok=True)
        fresh = link.with_name(f".{link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        try:
            fresh.symlink_to(os.path.relpath(blob, link.parent))
        except OSError:  # a file system without symbolic links
            os.link(blob, fresh)
        os.replace(fresh, link)
        return link


class Folder:
    """A plain folder with real files and no links, such as a volume that containers share. What is known of the files
    lies in `.inhouse` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._own = folder / ".inhouse"

    def have(self, remote: Remote) -> Path | None:
        known = self._known(remote.name)
        same = known is not None and known["key"] == remote.key and remote.size in (None, known["stat"][0])
        return self.folder / remote.name if same else None

    def _known(self, name: str) -> dict[str, Any] | None:
        """What was recorded of a file, where it is still the same."""
        try:
            known = json.loads((self._own / f"{_slug(name)}.json").read_text())
            found = (self.folder / name).stat()
            same = known["stat"] == [found.st_size, found.st_mtime_ns] and known["key"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return known if same else None

    def part(self, remote: Remote) -> Path:
        return self._own / f"{_slug(remote.key)}.part"

    def lock(self, remote: Remote) -> Path:
        return self._own / f"{_slug(remote.key)}.lock"

    def keep(self, remote: Remote, part: Part, digests: dict[str, str]) -> Path:
        part.settle(self.folder / remote.name)
        return self.record(remote.name, remote.key, digests["sha256"])

    def record(self, name: str, key: str, sha256: str) -> Path:
        """The file is whole, and known by this key from now on. Raises OSError."""
        file = self.folder / name
        found = file.stat()
        known = {"name": name, "key": key, "sha256": sha256, "stat": [found.st_size, found.st_mtime_ns]}
        _write(self._own / f"{_slug(name)}.json", json.dumps(known))
        return file

    def fresh(self, name: str) -> Path:
        """Where a file may be written before it has its name."""
        return self._own / f"{_slug(name)}.fresh"

    def remember(self, source: str, quant: str | None, version: str, names: Sequence[str]) -> None:
        """It is filled from this source. Raises OSError."""
        told = {"source": source, "quant": quant, "version": version, "files": list(names)}
        _write(self._own / "filled.json", json.dumps(told))

    def filled(self, source: str, quant: str | None) -> tuple[str, list[str]] | None:
        """Version and files, where it was filled from this source and all of them are as they were then."""
        try:
            told = json.loads((self._own / "filled.json").read_text())
            same = (told["source"], told["quant"]) == (source, quant)
            version, names = str(told["version"]), [str(name) for name in told["files"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return (version, names) if same and all(self._known(name) is not None for name in names) else None

    def sha256(self, names: Iterable[str]) -> dict[str, str]:
        """Of files that were kept."""
        known = {}
        for name in names:
            try:
                known[name] = str(json.loads((self._own / f"{_slug(name)}.json").read_text())["sha256"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return known


def part_bytes(place: Destination, remote: Remote) -> int:
    """What is here of a file that is not here whole."""
    return bytes_here(place.part(remote))


def hub_folder(given: Path | None) -> Path:
    """The hub's cache: the one given, else by HF_HUB_CACHE, HF_HOME and XDG_CACHE_HOME, as `huggingface_hub` has it."""
    if given is not None:
        return given
    environ = os.environ
    home = environ.get("HF_HOME") or os.path.join(environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE") or Path(home) / "hub").expanduser()


def hub_shelf(given: Path | None, repo: str) -> Shelf:
    return Shelf(hub_folder(given) / f"models--{repo.replace('/', '--')}")


def other_folder(given: Path | None) -> Path:
    return hub_folder(given) / "inhouse"


def other_shelf(given: Path | None, line: SourceLine) -> Shelf:
    """Of a source that is not on the hub; the same source always has the same folder."""
    words = f"{line.place}/{line.name}" if line.kind != "https" else line.shown.partition("://")[2]
    tag = hashlib.sha256(f"{line.kind} {line.place} {line.name}".encode()).hexdigest()[:12]
    return Shelf(other_folder(given) / f"{line.kind}--{_slug(words)[:80]}--{tag}")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "x"


def _write(file: Path, text: str) -> None:
    """All of it or nothing."""
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    fresh.write_text(text)
    os.replace(fresh, file)
