"""What a llama-server computes on beside the CPU: it is asked itself, as only it knows which of the GPUs it can use."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from inhouse.engines.engine import Spec
from inhouse.engines.gpus import may_be_here

MIB = 1 << 20
_ASK_S = 30.0
_LINE = re.compile(r"^  (\S+): (.+) \((\d+) MiB, (\d+) MiB free\)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Device:
    name: str
    """llama.cpp's, as in `CUDA0`."""
    title: str
    memory_bytes: int
    free_bytes: int


def parse(said: str) -> tuple[Device, ...]:
    """Of what `llama-server --list-devices` prints."""
    return tuple(
        Device(name, title, int(total) * MIB, int(free) * MIB) for name, title, total, free in _LINE.findall(said)
    )


def seen(program: Path) -> tuple[Device, ...]:
    """What this llama-server would compute on; nothing where it cannot be asked. It takes a second with a GPU."""
    found = shutil.which(program)
    if found is None or not may_be_here():
        return ()
    try:
        return _seen(found, Path(found).stat().st_mtime_ns)
    except OSError:
        return ()


@lru_cache(maxsize=8)
def _seen(program: str, made_ns: int) -> tuple[Device, ...]:
    """`made_ns`: another build has another answer."""
    try:
        asked = subprocess.run(
            [program, "--list-devices"], capture_output=True, text=True, errors="replace", timeout=_ASK_S,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse(asked.stdout)


def on_devices(spec: Spec, devices: Sequence[Device]) -> Spec:
    """The spec of a llama-server that has these: it spreads the model over all of them."""
    if not devices:
        return spec
    titles = dict.fromkeys(device.title for device in devices)
    return replace(spec, gpus=len(devices), on_gpu=", ".join(titles))
