"""What a model is, of the headers of its files, here or far away, without loading or fetching its weights."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from inhouse.errors import WeightsError
from inhouse.weights import folder_model, gguf, gguf_model
from inhouse.weights.folders import Folder, hub_files, hub_folder, local_folder, web_folder
from inhouse.weights.header import Header
from inhouse.weights.hub_errors import Place
from inhouse.weights.splits import parts
from inhouse.weights.tally import Tally

_HUB = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:/([^\s@]+))?(?:@([^\s@]+))?")
_PAGE = re.compile(r"/([\w.-]+/[\w.-]+)(?:/(?:resolve|blob|tree)/([^/]+)(?:/(.+))?)?/?")


def look(
    source: str, *, base: Path, place: Place | None = None, quant: str | None = None, cache: Path | None = None
) -> Header:
    """`base` is the folder that relative paths start from; `quant` chooses among several GGUF files; `cache` is
    the hub's, None the usual one. Names of the catalogue are expanded before. Raises `WeightsError`."""
    place = place or Place()
    if source == "demo":
        return read_file(Path(str(importlib.resources.files("inhouse.weights") / "demo.gguf")))
    if match := _HUB.fullmatch(source):
        return _hub(match[1], match[2] or "", match[3] or "main", place, quant, cache)
    if source.startswith(("https://", "http://")):
        return _address(source, place)
    if "://" in source:
        raise WeightsError(
            f"the header of '{source}' cannot be read from there",
            hint="a path, hf://org/repo[/file.gguf] and https:// can be looked at; `inhouse pull` fetches the others",
        )
    try:
        path = base / Path(source).expanduser()
    except RuntimeError as error:
        raise WeightsError(f"the home folder in '{source}' is not known: {error}") from error
    return read_path(path, quant)


def read_path(path: Path, quant: str | None = None) -> Header:
    """Of a .gguf file, of a .safetensors file with its folder, or of a folder. Raises `WeightsError`."""
    if not path.exists():
        raise WeightsError(f"{path} cannot be read: there is no such file or folder", hint="check its spelling")
    if path.is_dir():
        return folder_model.describe(local_folder(path), quant)
    if path.suffix == ".safetensors" or path.name == "config.json":
        return folder_model.safetensors_model(local_folder(path.parent))
    return read_file(path)


def read_file(path: Path) -> Header:
    """Of a GGUF file, with the other parts beside it if it is split. Raises `WeightsError`."""
    files = [path.with_name(part) for part in parts(path.name)]
    tally = Tally()
    headers = [gguf.read_gguf(file, tally) for file in files]
    return gguf_model.describe(headers, [file.stat().st_size for file in files], label=str(path))


def _hub(
    repo: str, name: str, revision: str, place: Place, quant: str | None = None, cache: Path | None = None
) -> Header:
    """What has been fetched is read here, without asking the hub."""
    from huggingface_hub import get_token, try_to_load_from_cache

    from inhouse.weights.remote_file import client

    if name.endswith(".gguf"):
        cached = [try_to_load_from_cache(repo, part, cache, revision) for part in parts(name)]
        if all(isinstance(part, str) for part in cached):
            return read_file(Path(str(cached[0])))
    token = place.token or get_token()
    with client({"Authorization": f"Bearer {token}"} if token else {}) as http:
        if name.endswith(".gguf"):
            return folder_model.gguf_file(hub_files(repo, parts(name), revision, place, http), name)
        folder = hub_folder(repo, revision, place, http)
        if name:
            folder = _below(folder, name.removesuffix("/"))
        return folder_model.describe(folder, quant)


def _below(folder: Folder, name: str) -> Folder:
    """A folder of the repository; of a file, the folder that it lies in."""
    if name in folder.files:
        name = name.rpartition("/")[0]
    if not name:
        return folder
    start = f"{name}/"
    files = {file.removeprefix(start): size for file, size in folder.files.items() if file.startswith(start)}
    if not files:
        raise WeightsError(f"{folder.label} has no folder '{name}'")
    return Folder(folder.name, f"{folder.label}/{name}", files, lambda file: folder.open(start + file))


def _address(url: str, place: Place) -> Header:
    """A file of a web server, or a page of the hub."""
    from inhouse.weights.remote_file import client

    given, hub = urlsplit(url), urlsplit(place.url)
    if (given.scheme, given.netloc) == (hub.scheme, hub.netloc) and (match := _PAGE.fullmatch(unquote(given.path))):
        return _hub(match[1], match[3] or "", match[2] or "main", place)
    start, _, name = given.path.rpartition("/")
    with client() as http:
        if not name.endswith((".gguf", ".safetensors")):
            raise WeightsError(
                f"{url.partition('?')[0]} is no model file", hint="an address ends in .gguf or .safetensors"
            )
        names = folder_model.shards_of(name) if name.endswith(".safetensors") else parts(name)
        beside = ("config.json",) if name.endswith(".safetensors") else ()
        folder = web_folder(given._replace(path=f"{start}/").geturl(), (*names, *beside), http)
        return folder_model.gguf_file(folder, name) if not beside else folder_model.safetensors_model(folder)
