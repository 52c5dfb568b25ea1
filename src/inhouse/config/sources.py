"""One line that says where weights are, taken apart: `hf://org/repo/file.gguf@main`. Nothing is looked up here.

The kinds of places are those that `weights/sources.py` fetches from; here is only how they are written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from inhouse.config.fields import contradiction
from inhouse.errors import StackError

Kind = Literal["demo", "name", "path", "hf", "s3", "oci", "https"]

SOURCE_FORMS = (
    "demo, a name of the catalogue such as gemma-3-1b, a path to a .gguf file or a folder, "
    "hf://org/repo[/file.gguf][@revision], s3://bucket/key, oci://registry/repo[:tag], or https://host/file.gguf"
)
"""What a source may look like, for messages."""

_HF = re.compile(r"([\w.-]+/[\w.-]+)(?:/([^\s@]+))?(?:@([^\s@]+))?")
_S3 = re.compile(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(\S+)")
_OCI = re.compile(
    r"((?:\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(?::\d{1,5})?)"
    r"/([a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::([A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(sha256:[0-9a-f]{64}))?"
)
NAME_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}"
"""A name of the catalogue; behind it may stand a colon and a quantisation."""


@dataclass(frozen=True, slots=True)
class SourceLine:
    """`place` is the name, the path, the repository, the bucket, the registry's host, or the whole address."""

    kind: Kind
    text: str
    place: str
    name: str = ""
    """The quantisation behind a name, the file in the repository, the key in the bucket, the repository in the
    registry; the file's name of an https address. Empty where a repository is meant as a whole."""
    revision: str = ""
    """Branch, tag, commit or digest; empty where none is named."""

    @property
    def shown(self) -> str:
        """The line without the query of an address, which may be a signature."""
        return self.text.partition("?")[0] if self.kind == "https" else self.text


def parse_source(text: str) -> SourceLine:
    """Raises ValueError with the reason."""
    if text == "demo":
        return SourceLine("demo", text, text)
    scheme, found, rest = text.partition("://")
    if not found:
        if text.startswith(("./", "../", "/", "~")) or text in (".", "..") or text.endswith(".gguf"):
            return SourceLine("path", text, text)
        if match := re.fullmatch(rf"({NAME_PATTERN})(?::([A-Za-z0-9_]{{1,32}}))?", text):
            return SourceLine("name", text, match[1], match[2] or "")
        raise ValueError("not a source")
    if "\0" in text or re.search(r"\s", text):
        raise ValueError("a source has no spaces in it")
    read = {"hf": _hub, "s3": _bucket, "oci": _registry, "https": _web, "http": _web}.get(scheme)
    if read is None:
        raise ValueError(f"no model can be fetched from '{scheme}://'")
    return read(text, rest)


def is_this_machine(host: str) -> bool:
    """Whether the name or address is that of the loopback device."""
    return host in ("localhost", "127.0.0.1", "::1")


def _hub(text: str, rest: str) -> SourceLine:
    match = _HF.fullmatch(rest)
    if match is None or (not match[2] and match[1].endswith(".gguf")):
        raise ValueError("not a place on the hub: the form is hf://org/repo[/file.gguf][@revision]")
    name = match[2] or ""
    if name and not name.endswith(".gguf"):
        raise ValueError("of a repository, a .gguf file can be named, or none: hf://org/repo[/file.gguf][@revision]")
    if name:
        _check_steps(name)
    if match[3]:
        _check_steps(match[3])
    return SourceLine("hf", text, match[1], name, match[3] or "")


def _bucket(text: str, rest: str) -> SourceLine:
    match = _S3.fullmatch(rest)
    if match is None:
        raise ValueError("not a place in a bucket: the form is s3://bucket/key.gguf, or s3://bucket/folder")
    _check_steps(match[2].removesuffix("/"))
    return SourceLine("s3", text, match[1], match[2])


def _registry(text: str, rest: str) -> SourceLine:
    match = _OCI.fullmatch(rest)
    if match is None:
        raise ValueError("not a place in a registry: the form is oci://registry/repo[:tag][@sha256:digest]")
    return SourceLine("oci", text, match[1], match[2], match[4] or match[3] or "latest")


def _web(text: str, rest: str) -> SourceLine:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or "@" in parts.netloc:
        raise ValueError("not an address: the form is https://host/file.gguf; names and keys belong into ~/.netrc")
    if parts.scheme == "http" and not is_this_machine(host):
        raise ValueError("what comes by http:// can be changed on its way: use https://")
    name = unquote(parts.path).rpartition("/")[2]
    if not name.endswith(".gguf") or name == ".gguf":
        raise ValueError("an address must lead to a .gguf file; folders can be had from hf://, s3:// and oci://")
    return SourceLine("https", text, text, name)


def _check_steps(name: str) -> None:
    if {"", ".", ".."} & set(name.split("/")):
        raise ValueError("a name in a source has no empty steps and no dots as steps")


def check_names(sources: Mapping[str, str | None], own: Path | None) -> None:
    """Names of the catalogue are in it; `own` is the file of own entries. For a validator of the stack."""
    for model, text in sources.items():
        line = parse_source(text) if text is not None else None
        if line is None or line.kind != "name":
            continue
        from inhouse.config.model_catalogue import catalogue, way_out

        try:
            entries = catalogue(own)
        except StackError as error:
            message = f"{error.where}: {error.message}" if error.where else error.message
            raise contradiction(("weights", "catalogue"), message, error.hint or "") from error
        entry = entries.get(line.place)
        if entry is None:
            raise contradiction(
                ("models", model, "source"),
                f"`models.{model}.source` is {line.place!r}, which is no name of the catalogue and no other source",
                way_out(line.place, entries),
            )
        if line.name and line.name.upper() not in entry.files:
            raise contradiction(
                ("models", model, "source"),
                f"{line.place} has no file of the quantisation {line.name}",
                f"it has: {', '.join(entry.files)}",
            )
