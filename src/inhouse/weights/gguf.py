"""The header of a GGUF file, read without its weights and without trust.

Every count and length is checked against what is left of the file and against a limit before anything is read, long
arrays (a vocabulary has hundreds of thousands of entries) are stepped over, and whatever is wrong comes out as
`WeightsError`. The format: github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from inhouse.errors import WeightsError
from inhouse.weights.cursor import NUMBERS, U32, U64, Cursor, Malformed, Stream
from inhouse.weights.ggml import FILE_TYPES, TENSOR_TYPES
from inhouse.weights.header import Tensor
from inhouse.weights.tally import Tally
from inhouse.weights.text import printable

MAGIC = b"GGUF"
VERSIONS = (2, 3)
# Of these a split model has no more in all of its files together: it is what one file could be, and the largest have a
# few thousand tensors and less than 1 MiB that is kept.
ENTRIES_MAX = 65_536
TENSORS_MAX = 100_000
KEPT_BYTES_MAX = 2**24
KEY_BYTES_MAX = 65_535
NAME_BYTES_MAX = 512
TEXT_BYTES_MAX = 2**20
LIST_KEPT_MAX = 1_024

Scalar = int | float | bool | str
Numbers = tuple[int | float | bool, ...]

_STRING, _ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a GGUF file says of itself; None where it says nothing.

    Of a split model this describes one part: `parameters` and `tensors_count` are those of the part, and parts after
    the first usually name no architecture.
    """

    version: int
    architecture: str | None
    name: str | None
    context_tokens: int | None
    """What the model was trained for; what fits in memory is often less."""
    layers: int | None
    embedding: int | None
    """Length of a hidden vector."""
    vocabulary: int | None
    parameters: int
    file_type: str | None
    """The quantisation as people know it, such as `Q4_K_M`."""
    has_chat_template: bool
    tensors_count: int
    splits_count: int
    """Files that the model consists of."""
    file_bytes: int
    """How large the file must be at least for all of its tensors to be in it."""
    scalars: Mapping[str, Scalar]
    """All metadata that are single values, by their key in the file."""
    lists: Mapping[str, Numbers]
    """Short lists of numbers, such as one for each layer; texts and long lists are left out."""
    tensors: tuple[Tensor, ...]


def read_gguf(path: Path, tally: Tally | None = None) -> GgufHeader:
    """Also raises `WeightsError` where the file is shorter than its header promises."""
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            header = read_header(stream, size, label=str(path), tally=tally)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if size < header.file_bytes:
        raise WeightsError(
            f"{path} is cut short: it has {size} bytes, its header promises {header.file_bytes}",
            hint="copy or download it again",
        )
    return header


def check(path: Path) -> None:
    """The cheap look: is it a GGUF file of a known version? Raises `WeightsError`."""
    try:
        with path.open("rb") as stream:
            _version(stream.read(8), str(path))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error


def read_header(stream: Stream, size: int, *, label: str, tally: Tally | None = None) -> GgufHeader:
    """Of any seekable stream whose whole length is `size`; `label` names it in errors, `tally` is its model's."""
    tally = tally or Tally()
    try:
        start = stream.read(8)
        version = _version(start, label)
        cursor = Cursor(stream, size, at=len(start))
        tensors_count = cursor.count(TENSORS_MAX, "tensors")
        entries_count = cursor.count(ENTRIES_MAX, "metadata entries")
        tally.add(tensors_count, "tensors", TENSORS_MAX)
        tally.add(entries_count, "metadata entries", ENTRIES_MAX)
        metadata = _metadata(cursor, entries_count, tally)
        tensors, data_bytes = _tensors(cursor, tensors_count, tally)
        return _header(version, metadata, tensors, data_bytes, cursor.position)
    except Malformed as error:
        raise WeightsError(f"{label} is not a sound GGUF file: {error}", hint="copy or download it again") from None


def _version(start: bytes, label: str) -> int:
    if start[:4] != MAGIC:
        raise WeightsError(f"{label} is not a GGUF file", hint=_what_it_is(start))
    if len(start) < 8:
        raise WeightsError(f"{label} is cut short: it has {len(start)} bytes", hint="copy or download it again")
    (version,) = U32.unpack(start[4:8])
    if version not in VERSIONS:
        swapped = int.from_bytes(start[4:8], "big") in VERSIONS
        raise WeightsError(
            f"{label} is a GGUF file " + ("for big-endian machines" if swapped else f"of version {version}"),
            hint=f"versions {' and '.join(map(str, VERSIONS))} for little-endian machines can be read; "
            "llama.cpp converts others",
        )
    return int(version)


def _what_it_is(start: bytes) -> str:
    if not start:
        return "it is empty; copy or download it again"
    if start.startswith(b"version "):
        return "it looks like a git-lfs pointer: run `git lfs pull` where it was cloned"
    if start.startswith(b"PK\x03\x04"):
        return "it is a zip archive or a PyTorch checkpoint; llama.cpp's convert_hf_to_gguf.py makes GGUF of models"
    if start.lstrip().startswith((b"<", b"{")):
        return "it is a web page or JSON, perhaps an error message saved in place of the model; download it again"
    return "models are read in GGUF; llama.cpp's convert_hf_to_gguf.py makes it of others"


@dataclass(frozen=True, slots=True)
class _Metadata:
    scalars: dict[str, Scalar]
    lists: dict[str, Numbers]
    lengths: dict[str, int]
    """Of all lists, by key."""


def _metadata(cursor: Cursor, count: int, tally: Tally) -> _Metadata:
    found = _Metadata({}, {}, {})
    kept_bytes = 0
    for _ in range(count):
        key = cursor.text(KEY_BYTES_MAX, "a key")
        if key in found.scalars or key in found.lengths:
            raise Malformed(f"the key {key[:80]!r} stands in it twice")
        kind = int(cursor.number(U32))
        if kind == _ARRAY:
            _list(cursor, key, found)
        elif kind == _STRING:
            found.scalars[key] = cursor.text(TEXT_BYTES_MAX, f"{key[:80]!r}")
        elif kind in NUMBERS:
            found.scalars[key] = cursor.number(NUMBERS[kind])
        else:
            raise Malformed(f"the value of {key[:80]!r} has the unknown type {kind}")
        value = found.scalars.get(key)
        kept_bytes += len(key) + (len(value) if isinstance(value, str) else 8 + 40 * len(found.lists.get(key, ())))
        if kept_bytes > KEPT_BYTES_MAX:
            raise Malformed(f"its metadata take more than {KEPT_BYTES_MAX} bytes")
    tally.add(kept_bytes, "bytes of metadata", KEPT_BYTES_MAX)
    return found


def _list(cursor: Cursor, key: str, found: _Metadata) -> None:
    kind = int(cursor.number(U32))
    length = int(cursor.number(U64))
    if kind == _STRING:
        cursor.skip_strings(length)
    elif kind not in NUMBERS:
        raise Malformed(f"the list {key[:80]!r} has entries of the unknown type {kind}")
    elif length > LIST_KEPT_MAX:
        cursor.skip(length * NUMBERS[kind].size)
    else:
        found.lists[key] = cursor.numbers(NUMBERS[kind], length)
    found.lengths[key] = length


def _tensors(cursor: Cursor, count: int, tally: Tally) -> tuple[tuple[Tensor, ...], int]:
    """What is in the file, and the length of the data that it lies in."""
    tensors: list[Tensor] = []
    data_bytes = parameters = names_bytes = 0
    for _ in range(count):
        name = cursor.text(NAME_BYTES_MAX, "a tensor's name")
        dimensions = int(cursor.number(U32))
        if dimensions > 4:
            raise Malformed(f"the tensor {name[:80]!r} has {dimensions} dimensions, 4 are possible")
        shape = tuple(int(cursor.number(U64)) for _ in range(dimensions))
        kind = int(cursor.number(U32))
        offset = int(cursor.number(U64))
        called, block, block_bytes = TENSOR_TYPES.get(kind, (f"type {kind}", 1, 0))
        elements = math.prod(shape)
        tensor = Tensor(name, called, shape, elements // block * block_bytes)
        parameters += elements
        data_bytes = max(data_bytes, offset + tensor.bytes)
        if max(parameters, data_bytes) >= 2**63:
            raise Malformed(f"the tensor {name[:80]!r} is impossibly large")
        names_bytes += len(name)
        if names_bytes > KEPT_BYTES_MAX:
            raise Malformed(f"the names of its tensors take more than {KEPT_BYTES_MAX} bytes")
        tensors.append(tensor)
    tally.add(names_bytes, "bytes of tensors' names", KEPT_BYTES_MAX)
    return tuple(tensors), data_bytes


def _header(
    version: int, metadata: _Metadata, tensors: tuple[Tensor, ...], data_bytes: int, header_end: int
) -> GgufHeader:
    scalars = metadata.scalars
    architecture = _word(scalars, "general.architecture")
    alignment = _whole(scalars, "general.alignment") or 32
    if alignment & (alignment - 1) or alignment > 2**20:
        raise Malformed(f"its alignment of {alignment} bytes is not a power of two up to 1 MiB")
    data_start = -(-header_end // alignment) * alignment
    file_type = _whole(scalars, "general.file_type")
    name = scalars.get("general.name")
    return GgufHeader(
        version=version,
        architecture=architecture,
        name=printable(name, 200) if isinstance(name, str) else None,
        context_tokens=_whole(scalars, f"{architecture}.context_length"),
        layers=_whole(scalars, f"{architecture}.block_count"),
        embedding=_whole(scalars, f"{architecture}.embedding_length"),
        vocabulary=metadata.lengths.get("tokenizer.ggml.tokens"),
        parameters=sum(tensor.elements for tensor in tensors),
        file_type=None if file_type is None else FILE_TYPES.get(file_type),
        has_chat_template=bool(scalars.get("tokenizer.chat_template")),
        tensors_count=len(tensors),
        splits_count=_whole(scalars, "split.count") or 1,
        file_bytes=data_start + data_bytes if tensors else header_end,
        scalars=MappingProxyType(scalars),
        lists=MappingProxyType(metadata.lists),
        tensors=tensors,
    )


def _word(scalars: dict[str, Scalar], key: str) -> str | None:
    value = scalars.get(key)
    if value is None:
        return None
    if not (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value)):
        raise Malformed(f"{key} is not a plain word")
    return value


def _whole(scalars: dict[str, Scalar], key: str) -> int | None:
    value = scalars.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Malformed(f"{key} is not a whole number")
    return value
