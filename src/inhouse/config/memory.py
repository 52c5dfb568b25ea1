"""The section about memory that all models share, and what does not go together in a model's part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inhouse.config.fields import MaybeSize, Section, contradiction, setting
from inhouse.config.units import MIB

if TYPE_CHECKING:
    from inhouse.config.model import ModelSpec


class MemorySpec(Section):
    """Memory that all models that are started here share: this machine's, and its GPUs'."""

    budget: MaybeSize = setting(
        None, "What they may take together; without a size, what this machine or container has, less the reserve.",
        unit="bytes", example="12 GiB", ge=64 * MIB,
    )  # fmt: skip
    reserve: MaybeSize = setting(
        None, "What is left for everything else; without a size a tenth of the memory, 512 MiB at least.",
        unit="bytes", example="2 GiB",
    )  # fmt: skip
    gpu_budget: MaybeSize = setting(
        None,
        "What they may take together of the GPUs' memory; without a size, all of it less a tenth, 512 MiB at least.",
        unit="bytes", example="20 GiB", ge=64 * MIB,
    )  # fmt: skip


def check_residence(name: str, spec: ModelSpec) -> None:
    """Raises a contradiction where a model is to stay and to go."""
    if not spec.pinned:
        return
    if spec.sleep_after is not None:
        raise contradiction(
            ("models", name, "sleep_after"),
            f"`models.{name}` is pinned, so it never sleeps, and has `sleep_after`",
            "leave one of them out",
        )
    if spec.load == "on_first_use":
        raise contradiction(
            ("models", name, "load"),
            f"`models.{name}` is pinned, so it is loaded at the start and stays",
            "leave `load` out, or `pinned`",
        )
