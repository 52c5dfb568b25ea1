"""`hf://org/repo/path/file.gguf[@revision]`: a model of the Hugging Face hub, or of anything that speaks its protocol.

The work is `huggingface_hub`'s: the shared cache under HF_HOME, tokens, mirrors (HF_ENDPOINT), proxies, locks between
processes, going on after a broken connection. Here its ways are made ours: disk room is checked first, split models
come whole, what is here serves when the hub does not answer, and every failure says what to do. The library is imported
when it is first needed; it takes a third of a second.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from inhouse.errors import WeightsError
from inhouse.weights import gguf
from inhouse.weights.hub_errors import HubFile, NoAnswer, Place, no_hub, no_room, telling
from inhouse.weights.meter import Meter
from inhouse.weights.splits import parts
from inhouse.weights.wanted import Progress, Wanted

DISK_RESERVE_BYTES = 64 * 2**20
"""Left free for others when room is checked."""
METADATA_TIMEOUT_S = 10.0

_FORM = re.compile(r"hf://([\w.-]+/[\w.-]+)/([^\s@]+\.gguf)(?:@([^\s@]+))?")


def fetch(source: str, wanted: Wanted, place: Place | None = None) -> Path:
    """A source of this kind. Raises `WeightsError`."""
    place = place or Place()
    files = _parse(source)
    if wanted.offline or _offline():
        found = [_cached(file, place) for file in files]
        missing = next((file for file, path in zip(files, found, strict=True) if path is None), None)
        if missing:
            raise WeightsError(
                f"{missing.name} of {missing.repo} is not on this machine, and fetching is switched off",
                hint="start once without --offline and HF_HUB_OFFLINE, or name a local .gguf file",
            )
        paths = [path for path in found if path is not None]
    else:
        paths = _fetch_missing(source, files, place, wanted.progress)
    for path in paths:
        gguf.check(path)
    return paths[0]


def _parse(source: str) -> list[HubFile]:
    """The file that is named, and if it is part of a split model, all parts in order."""
    match = _FORM.fullmatch(source)
    if match is None or {"", ".", ".."} & set(match[2].split("/")):
        raise WeightsError(
            f"'{source}' does not name a model file on the hub",
            hint="the form is hf://org/repo/file.gguf, with @revision behind it if wanted",
        )
    return [HubFile(match[1], part, match[3] or "main") for part in parts(match[2])]


def _fetch_missing(source: str, files: list[HubFile], place: Place, progress: Progress) -> list[Path]:
    found = [_look_up(file, place) for file in files]
    _check_room(source, place, sum(one.bytes_to_fetch for one in found))
    sizes = [one.size for one in found]
    meter = Meter(progress, None if None in sizes else sum(size or 0 for size in sizes))
    paths = []
    for file, one in zip(files, found, strict=True):
        path = one.path or _download(file, place, meter)
        meter.finish_file(one.size or path.stat().st_size)
        paths.append(path)
    return paths


@dataclass(frozen=True, slots=True)
class _Found:
    size: int | None
    """None where the hub does not tell it."""
    path: Path | None
    """Set where the hub's present version is here already."""
    bytes_to_fetch: int = 0


def _look_up(file: HubFile, place: Place) -> _Found:
    """What the hub says of the file, beside what is here.

    One request and no retry: a hub that is down delays a start for which everything is here by seconds only.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    try:
        with telling(file, place):
            metadata = get_hf_file_metadata(
                hf_hub_url(file.repo, file.name, revision=file.revision, endpoint=place.endpoint),
                token=place.token,
                timeout=METADATA_TIMEOUT_S,
                endpoint=place.endpoint,
            )
        if metadata.commit_hash is None or metadata.etag is None:
            raise no_hub(place.url, "its answer names no commit and no hash")
    except NoAnswer:
        path = _cached(file, place)
        if path is None:
            raise
        return _Found(path.stat().st_size, path)
    path = _cached(file, place, commit=metadata.commit_hash)
    # a file that did not change between two commits is stored once, by its hash
    blob = _cache_dir(place) / f"models--{file.repo.replace('/', '--')}" / "blobs" / metadata.etag
    return _Found(metadata.size, path, 0 if path or blob.is_file() else metadata.size or 0)


def _cached(file: HubFile, place: Place, commit: str | None = None) -> Path | None:
    """Of this commit, else of the revision as it was when it was last fetched."""
    from huggingface_hub import try_to_load_from_cache

    here = try_to_load_from_cache(file.repo, file.name, cache_dir=place.cache_dir, revision=commit or file.revision)
    return Path(here) if isinstance(here, str) else None


def _download(file: HubFile, place: Place, meter: Meter) -> Path:
    from huggingface_hub import hf_hub_download

    with telling(file, place):
        return Path(
            hf_hub_download(
                file.repo,
                file.name,
                revision=file.revision,
                endpoint=place.endpoint,
                cache_dir=place.cache_dir,
                token=place.token,
                tqdm_class=meter.bar(),
            )
        )


def _check_room(source: str, place: Place, needed: int) -> None:
    folder = _cache_dir(place)
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), None)
    if needed and there:
        free = shutil.disk_usage(there).free
        if needed + DISK_RESERVE_BYTES > free:
            raise no_room(source, needed, folder, free)


def _cache_dir(place: Place) -> Path:
    from huggingface_hub import constants

    return Path(place.cache_dir or constants.HF_HUB_CACHE)


def _offline() -> bool:
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE
