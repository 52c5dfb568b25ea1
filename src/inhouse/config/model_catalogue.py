"""Short names of models → where their files are: `gemma-3-1b`. What comes along stands in `model_catalogue.yaml`.

Own entries are read from the file that `weights.catalogue` names, and come before those. Which file of an entry suits a
machine is the business of `weights/catalogue.py`.
"""

from __future__ import annotations

import difflib
import functools
import importlib.resources
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, TypeAdapter, ValidationError, model_validator

from inhouse.config.document import parse_document, read_document
from inhouse.config.fields import Section, Size, setting
from inhouse.config.sources import NAME_PATTERN, parse_source
from inhouse.errors import StackError

Quantisation = Annotated[
    str, AfterValidator(lambda name: _checked(name, r"[A-Z0-9_]{1,32}", "in capitals, such as Q8_0"))
]
EntryName = Annotated[str, AfterValidator(lambda name: _checked(name, NAME_PATTERN, "such as gemma-3-1b"))]


class FileSpec(Section):
    """One quantisation: a file of the entry's repository, or a source of its own."""

    file: str | None = setting(None, "Its name in the repository.", min_length=1)
    source: str | None = setting(None, "A source of any kind, in place of `file`.")
    bytes: Size | None = setting(None, "Its size, of all parts together if it is split.", unit="bytes")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.source is None):
            raise ValueError("it has either `file` or `source`")
        if self.source is not None and parse_source(self.source).kind == "name":
            raise ValueError("its `source` is itself a name")
        return self


class CatalogueEntry(Section):
    """One model."""

    about: str = setting("", "What it is, in a few words.", max_length=200)
    task: Literal["generate", "embed", "rerank"] = setting("generate", "What it was made for.")
    repository: str | None = setting(
        None, "Where its files are on the hub.", example="org/repo", pattern=r"^[\w.-]+/[\w.-]+$"
    )
    revision: str | None = setting(None, "Commit, tag or branch of the repository; without it, the newest.")
    files: dict[Quantisation, FileSpec] = setting({}, "GGUF files by their quantisation.")
    odd_rows: bool = setting(False, "Whether its rows are no multiple of 256, so that K quantisations fall back.")
    safetensors: str | None = setting(
        None, "The repository of the unquantised weights, for vLLM and others.", pattern=r"^[\w.-]+/[\w.-]+$"
    )
    gated: bool = setting(False, "Whether `safetensors` wants consent, and a token.")
    licence: str | None = setting(None, "As the model's card names it.", max_length=200)
    checked: Literal["listed", "pinned", "named", "own"] = setting("own", "How the entry was checked.")

    @model_validator(mode="after")
    def _has_a_place(self) -> Self:
        if not self.files and self.safetensors is None:
            raise ValueError("it has neither `files` nor `safetensors`")
        if self.repository is None and any(spec.file is not None for spec in self.files.values()):
            raise ValueError("it names files and no `repository` that they are in")
        return self

    def source_of(self, quantisation: str) -> str:
        """The source of one of its files."""
        spec = self.files[quantisation]
        if spec.source is not None:
            return spec.source
        return f"hf://{self.repository}/{spec.file}" + (f"@{self.revision}" if self.revision else "")


Catalogue = Mapping[str, CatalogueEntry]
_ENTRIES: TypeAdapter[dict[str, CatalogueEntry]] = TypeAdapter(dict[EntryName, CatalogueEntry])


def catalogue(own: Path | None = None) -> Catalogue:
    """All entries, those of the file `own` before those that come along. Raises `StackError`."""
    if own is None:
        return _included()
    document = read_document(own.expanduser(), named_by="weights.catalogue")
    if document.problems:
        problem = document.problems[0]
        raise StackError(problem.message, where=problem.where, hint=problem.hint)
    return {**_included(), **_entries(document.data, str(own), document.lines)}


def near(name: str, entries: Catalogue) -> list[str]:
    """Names that may have been meant, the nearest first."""
    wanted = _bare(name.partition(":")[0])
    likeness = {known: _likeness(wanted, _bare(known)) for known in entries}
    return sorted((known for known in entries if likeness[known] >= 0.6), key=lambda known: -likeness[known])[:4]


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _likeness(wanted: str, known: str) -> float:
    """Of the whole, or of the beginning: who writes `gemma` means all of them."""
    whole = difflib.SequenceMatcher(None, wanted, known).ratio()
    beginnings = (known[: len(wanted) + more] for more in (0, 1))
    return max(whole, *(0.95 * difflib.SequenceMatcher(None, wanted, start).ratio() for start in beginnings))


def way_out(name: str, entries: Catalogue) -> str:
    """The hint for a name that is none."""
    found = near(name, entries)
    meant = f"did you mean {', '.join(found)}? " if found else ""
    return meant + "`inhouse models search` shows them all; a file is named with its ending or a slash: ./model.gguf"


@functools.cache
def _included() -> dict[str, CatalogueEntry]:
    text = (importlib.resources.files("inhouse.config") / "model_catalogue.yaml").read_text(encoding="utf-8")
    return _entries(parse_document(text, label="model_catalogue.yaml").data, "model_catalogue.yaml", {})


def _entries(data: dict[str, Any], label: str, lines: Mapping[tuple[str | int, ...], int]) -> dict[str, CatalogueEntry]:
    try:
        return _ENTRIES.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = tuple(part for part in first["loc"] if part != "[key]")
        line = next((lines[place[:length]] for length in range(len(place), 0, -1) if place[:length] in lines), None)
        named = ".".join(map(str, place))
        raise StackError(
            f"`{named}` is wrong: {first['msg'].removeprefix('Value error, ')}",
            where=f"{label}:{line}" if line else label,
            hint="an entry is {repository: org/repo, files: {Q4_K_M: {file: name.gguf, bytes: 2.5GB}}}",
        ) from None


def _checked(name: str, pattern: str, form: str) -> str:
    if not re.fullmatch(pattern, name):
        raise ValueError(f"not a name {form}")
    return name
