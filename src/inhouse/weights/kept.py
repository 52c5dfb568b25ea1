"""From files that are here to what a source gives: which of them make up the model, what they hash to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from inhouse.config.sources import SourceLine
from inhouse.errors import WeightsError
from inhouse.weights import gguf
from inhouse.weights.choose import INDEX, PAPERS, choose_folder, choose_gguf, has
from inhouse.weights.digest import check_pinned, digest_of_all, digest_of_etag, sha256_of
from inhouse.weights.shelf import Shelf
from inhouse.weights.splits import parts
from inhouse.weights.wanted import Got, GotFile, Wanted

INDEX_BYTES_MAX = 64 * 2**20


def pick(line: SourceLine, names: Sequence[str], wanted: Wanted, index: Callable[[], Path]) -> list[str]:
    """The files of the model among `names`; of a .gguf the first part in front. `index` brings the index of its shards.

    Raises `WeightsError`.
    """
    form = next((form for form in wanted.forms if has(form, names)), wanted.forms[0])
    if form == "gguf":
        return choose_gguf(line.shown, names, wanted.quant)
    return choose_folder(line.shown, names, read_index(index()) if INDEX in names else None)


def read_index(file: Path) -> Mapping[str, str]:
    """Tensor → shard. Raises `WeightsError`."""
    try:
        if file.stat().st_size > INDEX_BYTES_MAX:
            raise WeightsError(f"{file} is larger than {INDEX_BYTES_MAX // 2**20} MiB, so it is no index")
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{file} cannot be read: {error}") from error
    weight_map = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise WeightsError(f"{file} is not an index of shards", hint="fetch the model again")
    return weight_map


def kept(line: SourceLine, shelf: Shelf, version: str | None, wanted: Wanted) -> Got:
    """What is on the shelf of a source. Raises `WeightsError` where it is not whole."""
    absent = WeightsError(
        f"{line.name or line.shown} of {line.place} is not on this machine, and fetching is switched off"
        if line.name
        else f"{line.shown} is not on this machine, and fetching is switched off",
        hint="run `inhouse pull` once without --offline and HF_HUB_OFFLINE, or name a local .gguf file",
    )
    if version is None:
        raise absent
    names = shelf.names(version)
    root = shelf.snapshot(version)
    if line.kind == "hf" and line.name:
        chosen = list(parts(line.name))
        if not set(chosen) <= set(names):
            raise absent
    else:
        try:
            chosen = pick(line, names, wanted, lambda: root / INDEX)
        except WeightsError as error:
            raise absent from error
    papers = [name for name in names if wanted.papers and PAPERS.fullmatch(name) and name not in chosen]
    return got(line, root, [*chosen, *papers], version, wanted)


def got(
    line: SourceLine,
    root: Path,
    names: Sequence[str],
    version: str,
    wanted: Wanted,
    sha256: Mapping[str, str] | None = None,
) -> Got:
    """Of files under `root`; `sha256` of those where it is known.

    Raises `WeightsError` where they are not what was pinned, or no model.
    """
    try:
        fetched = line.kind != "path"
        files = tuple(_file(root, name, (sha256 or {}).get(name), fetched=fetched) for name in names)
        weights = [file for file in files if not PAPERS.fullmatch(file.name)]
        if wanted.sha256 is not None:
            check_pinned(line.shown, wanted.sha256, [(file.name, _sha256(file)) for file in weights])
    except OSError as error:
        raise WeightsError(f"{root} cannot be read: {error.strerror or error}") from error
    models = [file.path for file in weights if file.name.endswith(".gguf")]
    for model in models:
        gguf.check(model)
    return Got(line, models[0] if models else root, files, version)


def whole_sha256(got: Got) -> str:
    """What `sha256` would have to be to pin these weights; licence and card do not count. Raises OSError."""
    return digest_of_all((file.name, _sha256(file)) for file in got.files if not PAPERS.fullmatch(file.name))


def _file(root: Path, name: str, sha256: str | None, *, fetched: bool) -> GotFile:
    """What was fetched lies under its hash; of somebody's own files the name says nothing."""
    path = root / name
    digest = f"sha256:{sha256}" if sha256 else ""
    if not digest and fetched and path.is_symlink():
        known = digest_of_etag(path.resolve().name)
        digest = str(known) if known else ""
    return GotFile(name, path, digest, path.stat().st_size)


def _sha256(file: GotFile) -> str:
    kind, _, known = file.digest.partition(":")
    return known if kind == "sha256" else sha256_of(file.path)
