"""`hf://org/repo[/file.gguf][@revision]`: a model of the Hugging Face hub, or of anything that speaks its protocol.

What lies where, tokens, mirrors (HF_ENDPOINT) and errors are `huggingface_hub`'s, and so is the cache's layout. The
bytes come by `transfer`: the library begins anew when its process was killed, and does not hash what came. What is here
serves when the hub does not answer. The library is imported when it is first needed; it takes a third of a second.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from inhouse.config.sources import SourceLine
from inhouse.errors import WeightsError, WeightsUnreachable
from inhouse.weights.at_hand import at_hand
from inhouse.weights.choose import INDEX, choose_papers
from inhouse.weights.deliver import deliver
from inhouse.weights.delivered import delivered
from inhouse.weights.digest import digest_of_etag
from inhouse.weights.hub_errors import HubFile, Place, no_hub, refusal, telling
from inhouse.weights.kept import pick
from inhouse.weights.remote import Address, Remote
from inhouse.weights.shelf import Destination, Folder, hub_shelf
from inhouse.weights.splits import parts
from inhouse.weights.wanted import Got, Wanted

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

METADATA_TIMEOUT_S = 10.0


def fetch(line: SourceLine, wanted: Wanted, hub: Place | None = None) -> Got:
    """Raises `WeightsError`."""
    hub = hub or Place()
    shelf = hub_shelf(wanted.spec.folder, line.place)
    revision = line.revision or "main"
    if wanted.offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return at_hand(line, shelf, shelf.version_of(revision), wanted)
    place: Destination = Folder(wanted.into) if wanted.into else shelf
    try:
        remotes = _look_up(line, revision, hub, place, wanted)
    except WeightsUnreachable as error:
        try:
            return at_hand(line, shelf, shelf.version_of(revision), wanted)
        except WeightsError:
            raise error from None
    return delivered(line, revision, remotes, place, wanted)


def _look_up(line: SourceLine, revision: str, hub: Place, place: Destination, wanted: Wanted) -> list[Remote]:
    """The files of the model, as the hub has them now.

    Few requests and no retry: a hub that is down delays a start for which everything is here by seconds only.
    """
    if line.name:
        remotes = [_named(HubFile(line.place, name, revision), hub) for name in parts(line.name)]
        if wanted.papers:
            with suppress(WeightsError):  # a mirror may not list
                listed = _listed(line, remotes[0].version, hub)
                remotes += [listed[name] for name in choose_papers(list(listed)) if listed[name].size is not None]
        return remotes
    listed = _listed(line, revision, hub)

    def index() -> Path:
        return deliver(line.shown, [listed[INDEX]], place, wanted)[0]

    names = pick(line, list(listed), wanted, index)
    _named(HubFile(line.place, names[-1], revision), hub)  # says better than the listing why it is not handed out
    papers = choose_papers(list(listed)) if wanted.papers else []
    return [listed[name] for name in [*names, *(name for name in papers if name not in names)]]


def _named(file: HubFile, hub: Place) -> Remote:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with telling(file, hub):
        metadata = get_hf_file_metadata(
            hf_hub_url(file.repo, file.name, revision=file.revision, endpoint=hub.endpoint),
            token=hub.token,
            timeout=METADATA_TIMEOUT_S,
            endpoint=hub.endpoint,
        )
    if metadata.commit_hash is None or metadata.etag is None:
        raise no_hub(hub.url, "its answer names no commit and no hash")
    return _remote(file, hub, metadata.commit_hash, metadata.size, metadata.etag)


def _listed(line: SourceLine, revision: str, hub: Place) -> dict[str, Remote]:
    """All files of the repository by name."""
    from huggingface_hub import HfApi

    file = HubFile(line.place, "", revision)
    with telling(file, hub):
        info: ModelInfo = HfApi(endpoint=hub.endpoint, token=hub.token).model_info(
            line.place, revision=revision, files_metadata=True, timeout=METADATA_TIMEOUT_S
        )
    siblings: Sequence[RepoSibling] = info.siblings or ()
    if info.sha is None:
        raise no_hub(hub.url, "its answer names no commit")
    files = {}
    for one in siblings:
        etag = one.lfs.sha256 if one.lfs else one.blob_id
        steps = one.rfilename.split("/")
        if etag is not None and not {"", ".", ".."} & set(steps):
            size = one.lfs.size if one.lfs else one.size
            files[one.rfilename] = _remote(HubFile(line.place, one.rfilename, revision), hub, info.sha, size, etag)
    return files


def _remote(file: HubFile, hub: Place, commit: str, size: int | None, etag: str) -> Remote:
    def address() -> Address:
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils._headers import build_hf_headers

        url = hf_hub_url(file.repo, file.name, revision=commit, endpoint=hub.endpoint)
        return Address(url, build_hf_headers(token=hub.token))

    return Remote(file.name, size, digest_of_etag(etag), commit, address, lambda status: refusal(file, hub, status))
