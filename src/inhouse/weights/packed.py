"""Quantised safetensors: how the scheme is called, and how many weights lie in tensors that pack several into one.

GPTQ and AWQ keep eight 4-bit weights in one `I32`, bitsandbytes and MXFP4 two in one `U8`; scales and zero points
beside them are no parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inhouse.weights.header import Tensor
from inhouse.weights.text import printable

PLAIN = frozenset({"BF16", "F16", "F32", "F64", "F8_E4M3", "F8_E5M2"})
"""Types of which one element is one weight."""
_AUXILIARY = (
    ".absmax", ".g_idx", ".input_scale", ".nested_absmax", ".nested_quant_map", ".quant_map", ".qzeros", ".SCB",
    ".scales", ".weight_format", ".weight_global_scale", ".weight_g_idx", ".weight_scale", ".weight_scale_2",
    ".weight_scale_inv", ".weight_shape", ".weight_zero_point", "_scales",
)  # fmt: skip


def quantisation(given: object) -> str | None:
    """`gptq 4-bit`, `fp8`: of `quantization_config`."""
    if not isinstance(given, dict):
        return None
    method = given.get("quant_method")
    if not isinstance(method, str) or not method:
        return None
    bits = _bits(given)
    return printable(method, 40) + (f" {bits}-bit" if bits and not method.startswith(("fp", "mxfp")) else "")


def parameters(tensors: Sequence[Tensor], given: object) -> int:
    """Weights in all tensors together, packed ones counted one by one."""
    config: Mapping[str, object] = given if isinstance(given, dict) else {}
    if not config:
        return sum(tensor.elements for tensor in tensors)
    bits = _bits(config) or 8
    return sum(_weights(tensor, bits) for tensor in tensors)


def _weights(tensor: Tensor, bits: int) -> int:
    if tensor.name.endswith(_AUXILIARY) or ".quant_state" in tensor.name:
        return 0
    if tensor.kind == "I32" and tensor.name.endswith((".qweight", ".weight_packed")):
        return tensor.elements * 32 // bits
    if tensor.kind == "U8" and bits == 4:
        return tensor.elements * 2
    return tensor.elements


def _bits(config: Mapping[str, object]) -> int | None:
    """Of one weight; None where it is not told."""
    if (
        config.get("load_in_4bit") is True
        or config.get("_load_in_4bit") is True
        or config.get("quant_method") == "mxfp4"
    ):
        return 4
    if config.get("load_in_8bit") is True or config.get("_load_in_8bit") is True:
        return 8
    found = config.get("bits", config.get("w_bit"))
    groups = config.get("config_groups")
    if found is None and isinstance(groups, dict):  # compressed-tensors
        first = next((group for group in groups.values() if isinstance(group, dict)), {})
        weights = first.get("weights")
        found = weights.get("num_bits") if isinstance(weights, dict) else None
    return found if isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= 32 else None
