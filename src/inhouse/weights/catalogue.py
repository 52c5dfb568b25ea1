"""Which file of a catalogue's entry suits a machine. Pure: the entry and what the machine has in, a source out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inhouse.config.sources import SourceLine
from inhouse.errors import WeightsError

if TYPE_CHECKING:
    from inhouse.config.model_catalogue import Catalogue, CatalogueEntry

Form = Literal["gguf", "safetensors"]
"""A .gguf file, or a folder with config, tokenizer and safetensors."""

MIDDLE_FIRST = (
    "Q4_K_M", "MXFP4", "Q4_0", "Q4_K_S", "IQ4_XS", "Q5_K_M", "Q6_K", "Q8_0", "Q3_K_M", "Q2_K", "BF16", "F16", "F32",
)  # fmt: skip
"""For what generates: on a CPU its pace is that of reading the weights, so a good middle of quality and size."""
AMX_ODD_ROWS = ("Q4_0", "Q8_0", *MIDDLE_FIRST)
"""Rows that are no multiple of 256 make K quantisations fall back to types without a kernel for AMX: half the pace."""
EXACT_FIRST = ("Q8_0", "F16", "BF16", "F32", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0")
"""For embeddings and ranks: these models are small, and their vectors are compared with each other."""

ROOM_FACTOR, ROOM_BYTES = 1.3, 512 * 2**20
"""A rule of thumb for what an engine takes beside the file: a repacked copy of a part of it, keys and values."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What of a machine decides; nothing is known of it at first."""

    memory_bytes: int | None = None
    """That programs may use in all."""
    amx: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    source: str
    quantisation: str | None
    """None for safetensors."""
    bytes: int | None


def expand(
    line: SourceLine, entries: Catalogue, machine: Machine, *, quant: str | None, forms: tuple[Form, ...]
) -> Choice:
    """The source that a name stands for. Of `forms`, which the engine reads, the first that the entry has; if a
    quantisation is named, GGUF where the engine reads it. Raises `WeightsError`."""
    entry = entries.get(line.place)
    if entry is None:
        raise unknown(line.place, entries)
    quant = line.name or quant
    there: dict[Form, bool] = {"gguf": bool(entry.files), "safetensors": entry.safetensors is not None}
    if quant and "gguf" in forms and entry.files:
        return choose(line.place, entry, machine, quant.upper())
    form = next((form for form in forms if there[form]), None)
    if form is None:
        has = " and ".join(form for form in there if there[form])
        raise WeightsError(
            f"{line.place} has no {' or '.join(forms)} in the catalogue",
            hint=f"it has {has}, for engines that read that; or name a source",
        )
    return choose(line.place, entry, machine) if form == "gguf" else Choice(f"hf://{entry.safetensors}", None, None)


def choose(name: str, entry: CatalogueEntry, machine: Machine, quant: str | None = None) -> Choice:
    """One of its files: the one that is named, else the first in the order of preference that the memory has room for,
    else the largest that it has room for. Raises `WeightsError`."""
    if not entry.files:
        raise WeightsError(
            f"{name} has no GGUF files in the catalogue", hint=f"it has safetensors: {entry.safetensors}"
        )
    if quant is not None:
        if quant not in entry.files:
            raise WeightsError(
                f"{name} has no file of the quantisation {quant}", hint=f"it has: {', '.join(entry.files)}"
            )
        return _choice(entry, quant)
    fitting = [each for each in entry.files if fits(entry.files[each].bytes, machine)]
    if not fitting:
        least = min(entry.files, key=lambda each: entry.files[each].bytes or 0)
        raise WeightsError(
            f"{name} needs about {_gib(room(entry.files[least].bytes or 0))} of memory as {least}, its smallest file "
            f"here, and this machine has {_gib(machine.memory_bytes or 0)}",
            hint=f"choose a smaller one (`inhouse models search`); {name}:{least} tries it all the same",
        )
    order = _order(entry, machine)
    wished = next((each for each in order if each in entry.files), None)
    if wished is not None and wished in fitting:
        return _choice(entry, wished)
    return _choice(entry, max(fitting, key=lambda each: (entry.files[each].bytes or 0, each)))


def fits(size: int | None, machine: Machine) -> bool:
    return size is None or machine.memory_bytes is None or room(size) <= machine.memory_bytes


def room(size: int) -> int:
    """Memory for a file of `size` bytes, roughly."""
    return int(size * ROOM_FACTOR) + ROOM_BYTES


def unknown(name: str, entries: Catalogue) -> WeightsError:
    from inhouse.config.model_catalogue import way_out

    return WeightsError(f"'{name}' is no model of the catalogue", hint=way_out(name, entries))


def search(words: str, entries: Catalogue) -> list[str]:
    """Names of entries, the best first: all words in the name, then in what else is said, then names that are near."""
    from inhouse.config.model_catalogue import near

    asked = words.lower().split()
    if not asked:
        return list(entries)
    joined = "-".join(asked)
    whole = [name for name in entries if joined in name]
    named = [name for name in entries if all(word in name for word in asked)]
    said = [name for name, entry in entries.items() if all(word in _text(name, entry) for word in asked)]
    close = [] if named or said else near(joined, entries)
    return list(dict.fromkeys((*whole, *named, *said, *close)))


def _order(entry: CatalogueEntry, machine: Machine) -> tuple[str, ...]:
    if entry.task != "generate":
        return EXACT_FIRST
    return AMX_ODD_ROWS if entry.odd_rows and machine.amx else MIDDLE_FIRST


def _choice(entry: CatalogueEntry, quant: str) -> Choice:
    return Choice(entry.source_of(quant), quant, entry.files[quant].bytes)


def _text(name: str, entry: CatalogueEntry) -> str:
    said = (name, entry.about, entry.task, entry.repository, entry.safetensors, entry.licence)
    return " ".join(filter(None, said)).lower()


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
