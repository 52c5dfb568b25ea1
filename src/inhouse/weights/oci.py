"""`oci://registry/repo[:tag][@sha256:digest]`: weights that lie in a container registry as an artefact.

What ORAS, Docker Model Runner, Ollama and the CNCF's ModelPack push: a manifest whose layers are the files as they are,
each with its SHA-256, named by an annotation. Layers that are archives are refused: unpacking them would need the room
twice. Protocol: github.com/opencontainers/distribution-spec. How one proves who asks: `oci_registry`.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from inhouse.config.sources import SourceLine
from inhouse.errors import WeightsError, WeightsUnreachable
from inhouse.weights.at_hand import at_hand
from inhouse.weights.choose import INDEX, choose_papers
from inhouse.weights.deliver import deliver
from inhouse.weights.delivered import delivered
from inhouse.weights.digest import Digest
from inhouse.weights.kept import pick
from inhouse.weights.oci_registry import Registry
from inhouse.weights.ranges import client
from inhouse.weights.remote import Remote
from inhouse.weights.shelf import Destination, Folder, Shelf, other_shelf
from inhouse.weights.wanted import Got, Wanted

LAYERS_MAX = 10_000
_INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
_NAMES = ("org.opencontainers.image.title", "org.cncf.model.filepath", "org.cnai.model.filepath")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def fetch(line: SourceLine, wanted: Wanted) -> Got:
    """Raises `WeightsError`."""
    shelf = other_shelf(wanted.spec.folder, line)
    revision = line.revision.removeprefix("sha256:")
    if wanted.offline:
        return at_hand(line, shelf, shelf.version_of(revision), wanted)
    place: Destination = Folder(wanted.into) if wanted.into else shelf
    with client(wanted.spec) as http:
        registry = Registry(http, line, wanted.spec)
        try:
            remotes = _look_up(line, registry, place, wanted)
        except WeightsUnreachable as error:
            return _from(shelf, revision, line, wanted, error)
        return delivered(line, revision, remotes, place, wanted)


def _from(shelf: Shelf, revision: str, line: SourceLine, wanted: Wanted, error: WeightsError) -> Got:
    """What is here, else the error."""
    try:
        return at_hand(line, shelf, shelf.version_of(revision), wanted)
    except WeightsError:
        raise error from None


def _look_up(line: SourceLine, registry: Registry, place: Destination, wanted: Wanted) -> list[Remote]:
    version, manifest = _manifest(line, registry, line.revision)
    files = {remote.name: remote for remote in _files(line, registry, manifest, version)}

    def index() -> Path:
        return deliver(line.shown, [files[INDEX]], place, wanted)[0]

    chosen = pick(line, list(files), wanted, index)
    papers = [name for name in choose_papers(list(files)) if wanted.papers and name not in chosen]
    return [files[name] for name in [*chosen, *papers]]


def _manifest(line: SourceLine, registry: Registry, reference: str, *, depth: int = 0) -> tuple[str, dict[str, Any]]:
    """Digest (hexadecimal) and content of the manifest; of an index, of the one for this machine."""
    raw = registry.manifest(reference, (*_MANIFESTS, *_INDEXES))
    digest = hashlib.sha256(raw).hexdigest()
    if reference.startswith("sha256:") and reference != f"sha256:{digest}":
        raise WeightsError(
            f"{line.place} answered with another manifest than {reference}", hint="the registry, or a proxy, is wrong"
        )
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"the manifest of {line.shown} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise WeightsError(f"the manifest of {line.shown} is no object")
    if isinstance(document.get("layers"), list):
        return digest, document
    listed = document.get("manifests")
    if not isinstance(listed, list) or depth:
        raise WeightsError(f"{line.shown} is no artefact with layers", hint="push files with `oras push`")
    return _manifest(line, registry, _for_this_machine(line, listed), depth=1)


def _for_this_machine(line: SourceLine, listed: list[Any]) -> str:
    known = [one for one in listed if isinstance(one, dict) and _DIGEST.fullmatch(str(one.get("digest")))]
    if len(known) > 1:
        machine = _MACHINES.get(platform.machine(), platform.machine())
        fitting = [one for one in known if (one.get("platform") or {}).get("architecture") == machine]
        known = fitting or known
    if len(known) != 1:
        raise WeightsError(
            f"{line.shown} lists {len(known)} artefacts, and none or several are for this machine",
            hint="name one by its digest: oci://registry/repo@sha256:…",
        )
    return str(known[0]["digest"])


def _files(line: SourceLine, registry: Registry, manifest: dict[str, Any], version: str) -> Iterable[Remote]:
    layers = manifest["layers"]
    if len(layers) > LAYERS_MAX:
        raise WeightsError(f"{line.shown} has {len(layers)} layers, at most {LAYERS_MAX} are accepted")
    packed = 0
    found: dict[str, Remote] = {}
    for layer in layers:
        if not isinstance(layer, dict):
            raise WeightsError(f"the manifest of {line.shown} has a layer that is no object")
        name, kind = _name(layer), str(layer.get("mediaType"))
        if "tar" in re.split(r"[.+/-]", kind) or (layer.get("annotations") or {}).get("io.deis.oras.content.unpack"):
            packed += 1
            continue
        if name is None:
            continue
        digest, size = _DIGEST.fullmatch(str(layer.get("digest"))), layer.get("size")
        if digest is None or not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise WeightsError(f"the manifest of {line.shown} gives {name[:200]!r} no sha256 digest or no size")
        if name.startswith("/") or "\\" in name or {"", ".", ".."} & set(name.split("/")):
            raise WeightsError(f"the manifest of {line.shown} has the file name {name[:200]!r}, which leads elsewhere")
        found[name] = Remote(
            name,
            size,
            Digest("sha256", digest[1]),
            version,
            registry.addresses(digest[0]),
            registry.refusal,
        )
    if not found:
        reason = f"its {packed} layers are archives" if packed else "none of its layers is a file with a name"
        raise WeightsError(
            f"{line.shown} cannot be used: {reason}", hint="push the files as they are: oras push REF model.gguf"
        )
    return found.values()


def _name(layer: dict[str, Any]) -> str | None:
    """By annotation, else by the kind of layer that Docker Model Runner and Ollama push."""
    annotations = layer.get("annotations") or {}
    if isinstance(annotations, dict):
        named = next((annotations[key] for key in _NAMES if isinstance(annotations.get(key), str)), None)
        if named:
            return str(named).removeprefix("./")
    kind = str(layer.get("mediaType"))
    if kind.startswith("application/vnd.docker.ai.gguf") or kind == "application/vnd.ollama.image.model":
        return "model.gguf"
    if kind in ("application/vnd.docker.ai.license", "application/vnd.ollama.image.license"):
        return "LICENSE"
    return None
