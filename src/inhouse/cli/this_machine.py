"""What of this machine decides which file of a name is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inhouse.weights.catalogue import Machine


def this_machine() -> Machine:
    from inhouse.engines.hardware import look
    from inhouse.weights.catalogue import Machine

    hardware = look(with_gpus=False)
    return Machine(hardware.usable_memory_bytes, amx="AMX" in hardware.cpu.features)
