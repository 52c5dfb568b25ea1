"""Prompts → one vector each, of length 1: the encoder's last layer, pooled. Torch, but no state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from inhouse.hf_engine.loading import Loaded
from inhouse.hf_engine.rows import Wanted


def embed(loaded: Loaded, wanted: Sequence[Wanted]) -> list[list[float]]:
    """The vectors, in the order of the prompts, which are computed in one pass."""
    prompts = [one.prompt for one in wanted]
    width = max(len(prompt) for prompt in prompts)
    device = loaded.device
    tokens = torch.tensor([list(prompt) + [loaded.pad] * (width - len(prompt)) for prompt in prompts], device=device)
    mask = torch.tensor([[1] * len(prompt) + [0] * (width - len(prompt)) for prompt in prompts], device=device)
    with torch.inference_mode():
        states = loaded.model(input_ids=tokens, attention_mask=mask).last_hidden_state.float()
        vectors = torch.nn.functional.normalize(_pooled(states, mask, loaded), dim=-1)
    found: list[list[float]] = vectors.tolist()
    return found


def _pooled(states: Any, mask: Any, loaded: Loaded) -> Any:
    if loaded.pooling == "cls":
        return states[:, 0]
    if loaded.pooling == "last":
        return states[torch.arange(states.shape[0], device=states.device), mask.sum(dim=1) - 1]
    weights = mask.unsqueeze(-1).to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1)
