"""Which instructions a CPU has that matter to inference, and how many cores it is. Pure: text in, facts out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Feature = str
"""A word of `FEATURES`."""

FEATURES: Mapping[Feature, frozenset[str]] = {
    "AVX2": frozenset(("avx2",)),
    "AVX-512": frozenset(("avx512f", "avx512bw", "avx512vl")),
    "AVX-512 VNNI": frozenset(("avx512_vnni",)),
    "AVX-512 BF16": frozenset(("avx512_bf16",)),
    "AVX-VNNI": frozenset(("avx_vnni",)),
    "AMX": frozenset(("amx_tile", "amx_int8")),
    "NEON": frozenset(("asimd",)),
    "dot product": frozenset(("asimddp",)),
    "int8 matrices": frozenset(("i8mm",)),
    "SVE": frozenset(("sve",)),
    "SME": frozenset(("sme",)),
}
"""What people call it → the kernel's flags that must all be there."""

_APPLE = {
    "hw.optional.neon": "asimd",
    "hw.optional.AdvSIMD": "asimd",
    "hw.optional.arm.FEAT_DotProd": "asimddp",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
    "hw.optional.arm.FEAT_SME": "sme",
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512f",
    "hw.optional.avx512bw": "avx512bw",
    "hw.optional.avx512vl": "avx512vl",
}
_ARM_PARTS = {
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD84): "Neoverse-V3",
    (0x41, 0xD8E): "Neoverse-N3",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD0B): "Cortex-A76",
    (0xC0, 0xAC3): "Ampere-1",
    (0xC0, 0xAC4): "Ampere-1a",
}
"""Implementer and part number, as the kernel shows them, → the name of the core (Arm's and Ampere's manuals)."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """`threads` are what the system runs programs on; `cores`, what they share: two threads of a core are one core."""

    name: str
    threads: int
    cores: int
    features: tuple[Feature, ...] = ()
    quick_cores: int | None = None
    """Of cores of two kinds, the quick ones; None where all are alike or it is not told."""


NO_CPU = Cpu("", 1, 1)


def of_cpuinfo(text: str, allowed: frozenset[int] | None = None) -> Cpu:
    """From Linux's /proc/cpuinfo; of the processors in `allowed`, where that is given."""
    blocks = [fields for block in text.split("\n\n") if "processor" in (fields := _fields(block))]
    mine = [fields for fields in blocks if allowed is None or _number(fields["processor"]) in allowed] or blocks
    if not mine:
        return NO_CPU
    first = mine[0]
    flags = set((first.get("flags") or first.get("Features") or "").split())
    cores = {(fields.get("physical id", "0"), fields["core id"]) for fields in mine if "core id" in fields}
    return Cpu(
        name=first.get("model name") or _arm_name(first),
        threads=len(mine),
        cores=len(cores) or len(mine),
        features=_features(flags),
    )


def of_sysctl(text: str) -> Cpu:
    """From macOS's `sysctl hw machdep.cpu`: lines `name: value`."""
    fields = _fields(text)
    flags = {flag for name, flag in _APPLE.items() if fields.get(name) == "1"}
    cores = _number(fields.get("hw.physicalcpu")) or 1
    return Cpu(
        name=fields.get("machdep.cpu.brand_string", ""),
        threads=_number(fields.get("hw.logicalcpu")) or cores,
        cores=cores,
        features=_features(flags),
        quick_cores=_number(fields.get("hw.perflevel0.physicalcpu")),
    )


def _features(flags: set[str]) -> tuple[Feature, ...]:
    return tuple(name for name, needed in FEATURES.items() if needed <= flags)


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def _number(text: str | None) -> int | None:
    try:
        return int(text or "", 0)
    except ValueError:
        return None


def _arm_name(fields: dict[str, str]) -> str:
    maker, part = _number(fields.get("CPU implementer")), _number(fields.get("CPU part"))
    if maker is None or part is None:
        return fields.get("Hardware", "")
    return _ARM_PARTS.get((maker, part), f"Arm core {maker:#04x}/{part:#05x}")
