"""The GPUs of this machine: NVIDIA's by NVML or nvidia-smi, AMD's and Intel's by what the kernel shows in /sys.

Nothing here needs a driver or fails without one: a machine without GPUs has none, and a card whose driver is missing is
told as such. The parsers are pure; `look` is the only one that asks.
"""

from __future__ import annotations

import contextlib
import importlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

Vendor = Literal["nvidia", "amd", "intel"]
Run = Callable[[list[str]], str]
"""Runs a program and returns what it prints; "" where there is none or it fails."""

MIB = 1 << 20
_RUN_S_MAX = 10.0
_VENDORS: Mapping[str, Vendor] = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
_DISPLAY_CLASS = "0x03"
QUERY = "index,name,uuid,memory.total,memory.used,driver_version,compute_cap"
SMI = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
_SLICE = re.compile(r"\s+MIG\s+(\S+)\s+Device\s+\d+:\s+\(UUID:\s*(MIG-[^)\s]+)\)")
_CARD = re.compile(r"GPU\s+(\d+):")
_PROFILE_GB = re.compile(r"(\d+)gb")
_LOCAL_MEMORY_BAR = 2
"""Of Intel's cards: the region of the bus that shows their own memory."""


@dataclass(frozen=True, slots=True)
class MigSlice:
    """A part of an NVIDIA GPU that programs see as a GPU of its own."""

    profile: str
    """As in `3g.20gb`: three sevenths of the cores, 20 GB."""
    id: str
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One card. None where it is not told; `note` says what stands in the way of using it, "" where nothing does."""

    vendor: Vendor
    name: str
    memory_bytes: int | None = None
    memory_used_bytes: int | None = None
    id: str = ""
    driver: str = ""
    capability: str = ""
    """NVIDIA's compute capability, as in `9.0`."""
    slices: tuple[MigSlice, ...] = ()
    note: str = ""


def look(root: Path = Path("/"), run: Run | None = None, nvml: Any = None) -> tuple[Gpu, ...]:
    """All GPUs. `root` is where /sys is looked for, `nvml` the module `pynvml` where it is not to be imported."""
    asked = run or _run
    nvidia = tuple(_with_nvml(nvml if nvml is not None else _nvml())) or of_nvidia_smi(
        asked(SMI), asked(["nvidia-smi", "-L"])
    )
    others = of_sysfs(root / "sys")
    if any(gpu.vendor == "amd" and not gpu.name for gpu in others):
        others = named_by_rocm(others, asked(["rocm-smi", "--showproductname", "--json"]))
    found = nvidia + tuple(gpu for gpu in others if gpu.vendor != "nvidia" or not nvidia)
    return tuple(gpu if gpu.name else replace(gpu, name=_CALLED[gpu.vendor]) for gpu in found)


def may_be_here(root: Path = Path("/")) -> bool:
    """Whether there is a way to a GPU at all; on most servers there is none, and nobody need be asked."""
    ways = ("nvidiactl", "kfd", "dri", "dxg")
    return any((root / "dev" / way).exists() for way in ways) or shutil.which("nvidia-smi") is not None


def nvidia_driver_runs(root: Path = Path("/")) -> bool:
    """Without asking the driver, which takes a moment."""
    return (root / "proc/driver/nvidia/version").exists()


_CALLED: Mapping[Vendor, str] = {"nvidia": "an NVIDIA GPU", "amd": "an AMD GPU", "intel": "an Intel GPU"}


def of_nvidia_smi(query: str, listing: str = "") -> tuple[Gpu, ...]:
    """From `nvidia-smi --query-gpu=QUERY --format=csv,noheader,nounits` and, for MIG slices, from `nvidia-smi -L`."""
    slices = _slices(listing)
    found = []
    for line in query.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) < 7 or not cells[0].isdecimal():
            continue
        index, name, uuid, total, used, driver, capability = cells[:7]
        found.append(
            Gpu(
                vendor="nvidia",
                name=name,
                memory_bytes=_mib(total),
                memory_used_bytes=_mib(used),
                id=uuid,
                driver=driver,
                capability=capability if capability[:1].isdecimal() else "",
                slices=tuple(slices.get(int(index), ())),
            )
        )
    return tuple(found)


def _slices(listing: str) -> dict[int, list[MigSlice]]:
    found: dict[int, list[MigSlice]] = {}
    card = -1
    for line in listing.splitlines():
        if match := _CARD.match(line):
            card = int(match[1])
        elif match := _SLICE.match(line):
            size = _PROFILE_GB.search(match[1])
            memory_bytes = None if size is None else int(size[1]) * 10**9
            found.setdefault(card, []).append(MigSlice(match[1], match[2], memory_bytes))
    return found


def _mib(text: str) -> int | None:
    return int(text) * MIB if text.isdecimal() else None  # "[N/A]" where memory is shared with the CPU, or in MIG mode


def _nvml() -> Any:
    try:
        return importlib.import_module("pynvml")
    except ImportError:
        return None


def _with_nvml(nvml: Any) -> Iterator[Gpu]:
    """Nothing where there is no driver or it answers with an error."""
    if nvml is None:
        return
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return
    try:
        with contextlib.suppress(nvml.NVMLError):
            driver = _text(nvml.nvmlSystemGetDriverVersion())
            for index in range(nvml.nvmlDeviceGetCount()):
                yield _card(nvml, nvml.nvmlDeviceGetHandleByIndex(index), driver)
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _card(nvml: Any, handle: Any, driver: str) -> Gpu:
    memory_bytes = used_bytes = None
    with contextlib.suppress(nvml.NVMLError):  # not supported where memory is shared with the CPU
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        memory_bytes, used_bytes = int(memory.total), int(memory.used)
    capability = ""
    with contextlib.suppress(nvml.NVMLError):
        capability = ".".join(map(str, nvml.nvmlDeviceGetCudaComputeCapability(handle)))
    return Gpu(
        vendor="nvidia",
        name=_text(nvml.nvmlDeviceGetName(handle)),
        memory_bytes=memory_bytes,
        memory_used_bytes=used_bytes,
        id=_text(nvml.nvmlDeviceGetUUID(handle)),
        driver=driver,
        capability=capability,
        slices=tuple(_nvml_slices(nvml, handle)),
    )


def _nvml_slices(nvml: Any, handle: Any) -> Iterator[MigSlice]:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
        count = nvml.nvmlDeviceGetMaxMigDeviceCount(handle) if current else 0
    except nvml.NVMLError:  # a card without MIG
        return
    for index in range(count):
        with contextlib.suppress(nvml.NVMLError):  # places may be empty
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            name = _text(nvml.nvmlDeviceGetName(part))
            uuid = _text(nvml.nvmlDeviceGetUUID(part))
            memory_bytes = int(nvml.nvmlDeviceGetMemoryInfo(part).total)
            yield MigSlice(name.rpartition("MIG ")[2], uuid, memory_bytes)


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value  # bytes in older ones


def of_sysfs(sys: Path) -> tuple[Gpu, ...]:
    """The cards that the kernel sees on the bus, with a driver or without; virtual displays are none."""
    found = []
    for device in sorted((sys / "bus/pci/devices").glob("*")):
        vendor = _VENDORS.get(_read(device / "vendor"))
        if vendor is None or not _read(device / "class").startswith(_DISPLAY_CLASS):
            continue
        driver = (device / "driver").resolve().name if (device / "driver").exists() else ""
        found.append(
            Gpu(
                vendor=vendor,
                name=_read(device / "product_name"),
                memory_bytes=_MEMORY[vendor](device),
                memory_used_bytes=_whole(_read(device / "mem_info_vram_used")),
                id=device.name,
                driver=driver,
                note=_hindrance(vendor, driver),
            )
        )
    return tuple(found)


def named_by_rocm(cards: tuple[Gpu, ...], answer: str) -> tuple[Gpu, ...]:
    """AMD's cards with the names of `rocm-smi --showproductname --json`, which lists them in the order of the bus."""
    import json

    try:
        told = json.loads(answer)
    except ValueError:
        return cards
    if not isinstance(told, dict):
        return cards
    names = [
        str(facts.get("Card Series") or facts.get("Card series") or "")
        for card, facts in sorted(told.items())
        if card.startswith("card") and isinstance(facts, dict)
    ]
    ours = iter(names)
    return tuple(
        replace(gpu, name=next(ours, "") or gpu.name) if gpu.vendor == "amd" and not gpu.name else gpu for gpu in cards
    )


def _hindrance(vendor: Vendor, driver: str) -> str:
    if vendor == "nvidia":
        return "the driver does not answer: neither NVML nor nvidia-smi is there" if driver else "no driver is loaded"
    return "" if driver else "no driver is loaded"


def _amd_memory(device: Path) -> int | None:
    return _whole(_read(device / "mem_info_vram_total"))


def _intel_memory(device: Path) -> int | None:
    """Own memory of a card; None for a GPU in the CPU, which uses the machine's."""
    for file in sorted(device.glob("drm/card*/lmem_total_bytes")):
        return _whole(_read(file))
    if not _read(device / "class").startswith("0x0380") and not list(device.glob("tile0/vram0")):
        return None
    lines = _read(device / "resource").splitlines()
    if len(lines) <= _LOCAL_MEMORY_BAR:
        return None
    first, last, _ = (*lines[_LOCAL_MEMORY_BAR].split(), "0x0", "0x0", "0x0")[:3]
    size = int(last, 16) - int(first, 16) + 1
    return size if size > 1 else None


def _nothing(device: Path) -> int | None:
    return None


_MEMORY: Mapping[Vendor, Callable[[Path], int | None]] = {
    "nvidia": _nothing,
    "amd": _amd_memory,
    "intel": _intel_memory,
}


def _whole(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _read(file: Path) -> str:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return ""


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_S_MAX, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
