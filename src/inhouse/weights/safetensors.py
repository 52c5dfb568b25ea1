"""The header of a safetensors file, read without its weights and without trust.

Eight bytes of length, then JSON: name → type, shape and place of each tensor. Whatever is wrong comes out as
`WeightsError`. The format: github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import math

import msgspec

from inhouse.errors import WeightsError
from inhouse.weights.cursor import U64, Malformed, Stream
from inhouse.weights.header import Tensor
from inhouse.weights.tally import Tally

JSON_BYTES_MAX = 24 * 2**20
TENSORS_MAX = 200_000
MODEL_JSON_BYTES_MAX = 64 * 2**20
"""Of all files of a model. What is kept of them takes no more than a few times as much."""
MODEL_TENSORS_MAX = 500_000
"""Of all files of a model: hundreds of experts in each layer, with scales and shapes beside, come to some 200,000."""
DIMENSIONS_MAX = 16
NAME_LENGTH_MAX = 512

BITS: dict[str, int] = {
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
}
"""Type → bits of one element."""


class _Entry(msgspec.Struct, frozen=True):
    """Texts where none belong are let through by the decoder, for `__metadata__` has what it likes."""

    dtype: str = ""
    shape: list[int] | str = ""
    data_offsets: tuple[int, int] | str = ""


def read_shard(stream: Stream, size: int, *, label: str, tally: Tally | None = None) -> tuple[Tensor, ...]:
    """The tensors of one file whose whole length is `size`; `label` names it in errors, `tally` is its model's."""
    tally = tally or Tally()
    start = stream.read(8)
    if len(start) < 8:
        raise WeightsError(f"{label} is cut short: it has {len(start)} bytes", hint="copy or download it again")
    (length,) = U64.unpack(start)
    try:
        if start[:4] == b"GGUF":
            raise Malformed("it is a GGUF file")
        if length > min(JSON_BYTES_MAX, size - 8):
            raise Malformed(
                f"it claims a header of {length} bytes, at most {min(JSON_BYTES_MAX, size - 8)} are possible"
            )
        tally.add(length, "bytes of JSON", MODEL_JSON_BYTES_MAX)
        raw = stream.read(length)
        if len(raw) < length:
            raise Malformed("it ends before its header does")
        tensors, data_bytes = _tensors(raw, tally)
    except Malformed as error:
        raise WeightsError(
            f"{label} is not a sound safetensors file: {error}", hint="copy or download it again"
        ) from None
    promised = 8 + length + data_bytes
    if size < promised:
        raise WeightsError(
            f"{label} is cut short: it has {size} bytes, its header promises {promised}",
            hint="copy or download it again",
        )
    return tensors


def _tensors(raw: bytes, tally: Tally) -> tuple[tuple[Tensor, ...], int]:
    """What is in the file, and the length of the data that it lies in."""
    objects = raw.count(b"{")
    if objects > TENSORS_MAX or raw.count(b",") > 20 * objects + 100_000:
        raise Malformed(f"it claims more than {TENSORS_MAX} tensors, or endless shapes")
    tally.add(max(objects - 1, 0), "tensors", MODEL_TENSORS_MAX)
    try:
        entries = msgspec.json.decode(raw, type=dict[str, _Entry])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Malformed(f"its header cannot be read: {' '.join(str(error).split())[:200]}") from None
    entries.pop("__metadata__", None)
    found = [_tensor(name, entry) for name, entry in entries.items()]
    return tuple(tensor for tensor, _ in found), max((end for _, end in found), default=0)


def _tensor(name: str, entry: _Entry) -> tuple[Tensor, int]:
    """The tensor and where its data end."""
    called = f"the tensor {name[:80]!r}"
    if isinstance(entry.shape, str) or isinstance(entry.data_offsets, str) or not entry.dtype:
        raise Malformed(f"{called} has no type, shape or place")
    start, end = entry.data_offsets
    if len(name) > NAME_LENGTH_MAX or len(entry.dtype) > 32:
        raise Malformed(f"{called} has too long a name or type")
    if not 0 <= start <= end < 2**63 or len(entry.shape) > DIMENSIONS_MAX or min(entry.shape, default=0) < 0:
        raise Malformed(f"{called} has an impossible place or shape")
    elements = math.prod(entry.shape)
    if entry.dtype in BITS and elements * BITS[entry.dtype] != (end - start) * 8:
        raise Malformed(f"{called} has {end - start} bytes for {elements} elements of type {entry.dtype}")
    if elements > (end - start) * 8:
        raise Malformed(f"{called} has {end - start} bytes for {elements} elements")
    return Tensor(name, entry.dtype, tuple(entry.shape), end - start), end
