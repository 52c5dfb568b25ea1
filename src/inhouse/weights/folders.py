"""A folder with a model in it, here or on the hub: which files it has, and a way to read into them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from inhouse.errors import WeightsError
from inhouse.weights.cursor import Stream
from inhouse.weights.hub_errors import HubFile, Place, telling

FILES_MAX = 20_000
METADATA_TIMEOUT_S = 10.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Folder:
    name: str
    """The repository's or the folder's own."""
    label: str
    """For messages."""
    files: Mapping[str, int]
    """Name, with its folders below this one → bytes."""
    open: Callable[[str], AbstractContextManager[Stream]]
    """Raises `WeightsError`."""

    def text(self, name: str, most: int) -> bytes | None:
        """A small file; None where there is none, or where it is larger."""
        if not 0 < self.files.get(name, 0) <= most:
            return None
        with self.open(name) as stream:
            return stream.read(most + 1)[:most]

    def json(self, name: str, most: int, kind: type[_T]) -> _T | None:
        """What does not read as JSON of that kind is a `WeightsError`."""
        raw = self.text(name, most)
        if raw is None:
            return None
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(
                f"{name} of {self.label} cannot be read: {reason}", hint="copy or download it again"
            ) from None


def local_folder(path: Path) -> Folder:
    try:
        path = path.resolve()
        files = {entry.name: entry.stat().st_size for entry in sorted(path.iterdir()) if entry.is_file()}
        pooling = path / "1_Pooling" / "config.json"
        if pooling.is_file():
            files["1_Pooling/config.json"] = pooling.stat().st_size
    except OSError as error:
        raise WeightsError(f"the folder {path} cannot be read: {error.strerror}") from error

    @contextmanager
    def opened(name: str) -> Iterator[Stream]:
        try:
            with (path / name).open("rb") as stream:
                yield stream
        except OSError as error:
            raise WeightsError(f"{path / name} cannot be read: {error.strerror}") from error

    return Folder(path.name, str(path), files, opened)


def hub_folder(repo: str, revision: str, place: Place, http: Any) -> Folder:
    """A whole repository; `http` is a client of `remote_file` that has the token. Two requests and no retry."""
    from huggingface_hub import HfApi

    with telling(HubFile(repo, "", revision), place):
        api = HfApi(endpoint=place.endpoint, token=place.token)
        info = api.model_info(repo, revision=revision, files_metadata=True, timeout=METADATA_TIMEOUT_S)
    siblings = info.siblings or ()
    if len(siblings) > FILES_MAX:
        raise WeightsError(f"{repo} has more than {FILES_MAX} files")
    files = {one.rfilename: (one.lfs.size if one.lfs else one.size) or 0 for one in siblings}
    if files:  # says better than the listing why it is not handed out
        _size(HubFile(repo, "config.json" if "config.json" in files else next(iter(files)), revision), place)
    return _on_hub(repo, revision, place, http, files)


def hub_files(repo: str, names: Iterable[str], revision: str, place: Place, http: Any) -> Folder:
    """Files of a repository whose names are known. One request for each and no retry."""
    files = {name: _size(HubFile(repo, name, revision), place) for name in names}
    return _on_hub(repo, revision, place, http, files)


def _size(file: HubFile, place: Place) -> int:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with telling(file, place):
        found = get_hf_file_metadata(
            hf_hub_url(file.repo, file.name, revision=file.revision, endpoint=place.endpoint),
            token=place.token,
            timeout=METADATA_TIMEOUT_S,
            endpoint=place.endpoint,
        )
    return found.size or 0


def _on_hub(repo: str, revision: str, place: Place, http: Any, files: Mapping[str, int]) -> Folder:
    from huggingface_hub import hf_hub_url

    from inhouse.weights.remote_file import RemoteFile

    def opened(name: str) -> AbstractContextManager[Stream]:
        return RemoteFile(http, hf_hub_url(repo, name, revision=revision, endpoint=place.endpoint))

    return Folder(repo.rpartition("/")[2], f"hf://{repo}", files, opened)


def web_folder(url: str, names: Iterable[str], http: Any) -> Folder:
    """Files of a web server whose names are known; `url` ends in a slash, with a query that all of them get."""
    from inhouse.weights.remote_file import RemoteFile

    parts = urlsplit(url)

    def opened(name: str) -> RemoteFile:
        return RemoteFile(http, parts._replace(path=parts.path + name).geturl())

    files: dict[str, int] = {}
    for name in names:
        with opened(name) as file:
            files[name] = file.size
    shown = parts._replace(query="", fragment="").geturl()
    return Folder(parts.path.strip("/").rpartition("/")[2], shown, files, opened)
