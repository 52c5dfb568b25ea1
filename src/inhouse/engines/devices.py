"""What a llama-server computes on beside the CPU: it is asked itself, as only it knows which of the GPUs it can use."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inhouse.engines.engine import Spec
from inhouse.engines.gpus import may_be_here

MIB = 1 << 20
_ASK_S = 30.0
_LINE = re.compile(r"^  (\S+): (.+) \((\d+) MiB, \d+ MiB free\)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Device:
    name: str
    """llama.cpp's, as in `CUDA0`."""
    title: str
    memory_bytes: int


def parse(said: str) -> tuple[Device, ...]:
    """Of what `llama-server --list-devices` prints; not what has no memory of its own, as a library for the CPU."""
    return tuple(Device(name, title, int(total) * MIB) for name, title, total in _LINE.findall(said) if int(total))


def seen(program: Path) -> tuple[Device, ...]:
    """What this llama-server would compute on; nothing where it cannot be asked. It takes a second with a GPU."""
    found = shutil.which(program)
    if found is None or not may_be_here():
        return ()
    try:
        key = (found, Path(found).stat().st_mtime_ns)
    except OSError:
        return ()
    if key not in _asked and (answer := _ask(found)):
        _asked[key] = answer
    return _asked.get(key, ())


_asked: dict[tuple[str, int], tuple[Device, ...]] = {}
"""By the program and when it was made: another build has another answer. Failures are not kept."""


def _ask(program: str) -> tuple[Device, ...]:
    try:
        asked = subprocess.run(
            [program, "--list-devices"], capture_output=True, text=True, errors="replace", timeout=_ASK_S,
            stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse(asked.stdout)


def chosen(devices: Sequence[Device], names: Sequence[str] | None) -> tuple[Device, ...]:
    """Those that are named, all where none is."""
    return tuple(device for device in devices if names is None or device.name in names)


def on_devices(spec: Spec, devices: Sequence[Device]) -> Spec:
    """The spec of a llama-server that has these: it spreads the model over all of them."""
    if not devices:
        return spec
    titles = dict.fromkeys(device.title for device in devices)
    named = tuple(device.name for device in devices)
    cuda = all(name.startswith("CUDA") for name in named)  # of others, the CPU's own graphics may be among them
    return replace(spec, gpus=len(devices), on_gpu=", ".join(titles), devices=named if cuda else ())
