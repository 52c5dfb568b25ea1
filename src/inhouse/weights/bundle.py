"""One file with everything of some models, for sites without network: weights, digests, licence.

A tar file of these members, in this order, the same bytes for the same models:

    inhouse-bundle.json     what it is: for each model its source, version, licence, and its files with name, size, hash
    blobs/<sha256>          the files' bytes, each once

It is written and read as a stream, a pipe will do. Reading trusts nothing: names, sizes and the order of members are
checked against the list, every file against its hash before it has a name, and what is not listed is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from inhouse.config.sources import SourceLine, parse_source
from inhouse.errors import WeightsError
from inhouse.weights.digest import READ_BYTES, hasher_of, sha256_of
from inhouse.weights.wanted import Got

LIST = "inhouse-bundle.json"
FORMAT = 1
LIST_BYTES_MAX = 16 * 2**20
FILES_MAX = 100_000
_HEX = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|git:[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class BundledFile:
    name: str
    bytes: int
    sha256: str
    digest: str
    """What the place that it came from knows it by: `sha256:…` or `git:…`."""


@dataclass(frozen=True, slots=True)
class Bundled:
    """One model of a bundle."""

    name: str
    source: str
    version: str
    licence: str | None
    files: tuple[BundledFile, ...]

    @property
    def line(self) -> SourceLine:
        return parse_source(self.source)


def describe(name: str, got: Got) -> Bundled:
    """Hashes what has no SHA-256 yet, which are small files. Raises OSError."""
    files = []
    for file in got.files:
        kind, _, known = file.digest.partition(":")
        sha256 = known if kind == "sha256" else sha256_of(file.path)
        files.append(BundledFile(file.name, file.size, sha256, file.digest or f"sha256:{sha256}"))
    return Bundled(name, got.line.shown, got.version, licence_of(got), tuple(files))


def licence_of(got: Got) -> str | None:
    """By the header, else by the model card."""
    from inhouse.weights.look import read_path

    try:
        licence = read_path(got.path).licence
    except WeightsError:
        licence = None
    card = next((file.path for file in got.files if file.name == "README.md"), None)
    if licence or card is None:
        return licence
    head = card.read_text(errors="replace")[:65_536].partition("\n---")[0]
    match = re.search(r"^license:[ \t]*['\"]?([\w.+-]+)", head, re.MULTILINE)
    return match[1] if match else None


def write(out: IO[bytes], models: Sequence[tuple[Bundled, Got]], told: Callable[[int], None]) -> None:
    """Raises `WeightsError` where a file is not what it hashes to by its name, OSError."""
    document = {"format": FORMAT, "models": [asdict(bundled) for bundled, _ in models]}
    raw = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode()
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(_member(LIST, len(raw)), io.BytesIO(raw))
        written: set[str] = set()
        for bundled, got in models:
            for file, there in zip(bundled.files, got.files, strict=True):
                if file.sha256 in written:
                    continue
                written.add(file.sha256)
                with there.path.open("rb") as stream:
                    hashing = _Hashing(stream, told)
                    tar.addfile(_member(f"blobs/{file.sha256}", file.bytes), hashing)
                if hashing.sha256.hexdigest() != file.sha256:
                    raise WeightsError(
                        f"{there.path} is damaged: it hashes to {hashing.sha256.hexdigest()}, not to {file.sha256}",
                        hint="`inhouse models verify --fix`, then `inhouse pull`",
                    )


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    return member


class _Hashing:
    """A stream that hashes what is read from it."""

    def __init__(self, stream: IO[bytes], told: Callable[[int], None]) -> None:
        self._stream = stream
        self._told = told
        self.sha256 = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.sha256.update(data)
        self._told(len(data))
        return data


def read_list(raw: bytes) -> list[Bundled]:
    """The models of a bundle by its list. Raises `WeightsError` for whatever may not be in one."""
    try:
        document = json.loads(raw)
        if document["format"] != FORMAT:
            raise WeightsError(f"this is a bundle of format {document['format']!r}, format {FORMAT} can be read")
        models = [_bundled(model) for model in document["models"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(f"the list of the bundle cannot be read: {error}", hint="make the bundle again") from error
    if sum(len(model.files) for model in models) > FILES_MAX:
        raise WeightsError(f"the bundle lists more than {FILES_MAX} files")
    return models


def _bundled(said: dict[str, Any]) -> Bundled:
    files = tuple(BundledFile(**file) for file in said["files"])
    for file in files:
        sound = _HEX.fullmatch(file.sha256) and _DIGEST.fullmatch(file.digest) and type(file.bytes) is int
        sound = sound and (file.digest.startswith("git:") or file.digest == f"sha256:{file.sha256}")
        steps = file.name.split("/")
        if not sound or file.bytes < 0 or {"", ".", ".."} & set(steps) or "\\" in file.name or "\0" in file.name:
            raise ValueError(f"the file {file.name[:200]!r} is described in a way that cannot be")
    model = Bundled(str(said["name"]), str(said["source"]), str(said["version"]), said["licence"], files)
    if model.version and not _VERSION.fullmatch(model.version):
        raise ValueError(f"{model.version[:200]!r} is no version")
    parse_source(model.source)
    return model


def read(
    stream: IO[bytes],
    begin: Callable[[list[Bundled]], None],
    place: Callable[[str], Path | None],
    told: Callable[[int], None],
) -> list[Bundled]:
    """Reads a bundle. `begin` is told its models before any of their bytes is read; it may refuse.

    `place` says where the bytes of a SHA-256 go; None for those that are here. They have that name when they are whole.
    Raises `WeightsError`, OSError.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            first = tar.next()
            if first is None or first.name != LIST or not first.isreg() or first.size > LIST_BYTES_MAX:
                raise WeightsError(
                    "this is no bundle: its first member is not its list", hint="`inhouse models bundle`"
                )
            models = read_list(_content(tar, first).read())
            begin(models)
            sizes = {file.sha256: file.bytes for model in models for file in model.files}
            digests = {(file.sha256, file.digest) for model in models for file in model.files}
            while (member := tar.next()) is not None:
                sha256 = member.name.removeprefix("blobs/")
                if member.name != f"blobs/{sha256}" or not member.isreg() or sizes.get(sha256) != member.size:
                    raise WeightsError(f"the bundle has a member that its list does not: {member.name[:200]!r}")
                del sizes[sha256]
                known_by = {digest for one, digest in digests if one == sha256}
                _take(_content(tar, member), member.size, {f"sha256:{sha256}", *known_by}, place(sha256), told)
    except (tarfile.TarError, EOFError) as error:
        raise WeightsError(f"the bundle cannot be read: {error}", hint="copy it again, or make it again") from error
    if sizes:
        raise WeightsError(f"the bundle is cut short: {len(sizes)} of its files are missing", hint="copy it again")
    return models


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(member)
    if content is None:
        raise tarfile.ReadError(f"{member.name} has no content")
    return content


def _take(content: IO[bytes], size: int, digests: set[str], file: Path | None, told: Callable[[int], None]) -> None:
    """Also what is here already is read and hashed: the list says of it what it is known by elsewhere."""
    hashers = {"sha256": hasher_of("sha256", size), "git": hasher_of("git", size)}
    fresh = None if file is None else file.with_name(f"{file.name}.unbundled")
    try:
        if fresh is not None:
            fresh.parent.mkdir(parents=True, exist_ok=True)
        with open(os.devnull, "wb") if fresh is None else fresh.open("wb") as out:
            while data := content.read(READ_BYTES):
                for hasher in hashers.values():
                    hasher.update(data)
                out.write(data)
                told(len(data))
            if fresh is not None:
                out.flush()
                os.fsync(out.fileno())
        found = {f"{kind}:{hasher.hexdigest()}" for kind, hasher in hashers.items()}
        if not digests <= found:
            is_, said = (", ".join(sorted(one)) for one in (found, digests))
            raise WeightsError(f"a file of the bundle hashes to {is_}, its list says {said}", hint="copy it again")
        if fresh is not None and file is not None:
            os.replace(fresh, file)
    finally:
        if fresh is not None:
            fresh.unlink(missing_ok=True)
