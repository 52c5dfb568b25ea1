"""The batch that runs: rows of unequal age and length in one forward pass of the model.

Theory of operation. Rows are aligned at their right end: what is shorter has filling on its left, which the mask hides,
and every row counts its positions from its own first token, so that a row's scores are those that it would have alone.
New rows are computed by themselves first (their prompts, in pieces of at most `PIECE_TOKENS`), then their cache is laid
beside that of the running rows, the narrower of the two filled up on the left. A row that ends is taken out of the
cache and the mask at once; filling that all others have in common goes with it.

Where the model's cache has layers of another kind (a state in place of keys and values, say), rows cannot be laid
beside each other (`joins` is False): then a batch begins and ends as a whole, and rows only leave it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from inhouse.hf_engine.loading import Loaded
from inhouse.hf_engine.picking import Picked, Said, chance, pick
from inhouse.hf_engine.rows import Wanted

PIECE_TOKENS = 4096


class Batch:
    """Rows in the order in which they came. `said[i]` is row i's side of it."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._keep_one = {"logits_to_keep": 1} if "logits_to_keep" in loaded.takes else {}
        self._cache: Any = None
        self._mask: Any = None
        self.said: list[Said] = []
        empty = self._new_cache()
        self.joins = all(_plain(layer) for layer in empty.layers)
        self._only_states = all(getattr(empty, "is_linear", [False]))
        """Such a model has no attention: its mask says which of this pass's tokens are filling, and nothing else."""

    def begin(self, wanted: Sequence[Wanted]) -> list[Picked]:
        """Adds rows and computes their prompts; the first token of each."""
        device = self._loaded.device
        said = [Said(one.sampling, one.prompt, [], chance(one.sampling, device)) for one in wanted]
        with torch.inference_mode():
            cache, mask = self._new_cache(), self._mask_of([one.prompt for one in wanted])
            picked = pick(self._prefill(cache, mask, [one.prompt for one in wanted]), said)
            if self.said:
                mask = _laid_beside(self._cache, self._mask, cache, mask)
                cache = self._cache
        self._cache, self._mask = cache, mask
        self.said += said
        _note(said, picked)
        return picked

    def step(self) -> list[Picked]:
        """One token more for every row."""
        with torch.inference_mode():
            tokens = torch.tensor([[one.answer[-1]] for one in self.said], device=self._loaded.device)
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(self.said), 1)], dim=1)
            positions = self._mask.sum(dim=1, keepdim=True) - 1
            picked = pick(self._forward(tokens, self._mask, positions, self._cache), self.said)
        _note(self.said, picked)
        return picked

    def keep(self, kept: Sequence[int]) -> None:
        """Only these rows stay."""
        if len(kept) == len(self.said):
            return
        self.said = [self.said[index] for index in kept]
        if not kept:
            self._cache = self._mask = None
            return
        with torch.inference_mode():
            rows = torch.tensor(list(kept), device=self._loaded.device)
            self._cache.reorder_cache(rows)
            self._mask = self._mask[rows]
            if self.joins:
                filling = int(self._mask.argmax(dim=1).min())
                _narrow(self._cache, filling, self._mask.shape[1])
                self._mask = self._mask[:, filling:]

    def _new_cache(self) -> Any:
        return DynamicCache(config=self._loaded.model.config)

    def _mask_of(self, prompts: Sequence[Sequence[int]]) -> Any:
        width = max(len(prompt) for prompt in prompts)
        lines = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        return torch.tensor(lines, device=self._loaded.device)

    def _prefill(self, cache: Any, mask: Any, prompts: Sequence[Sequence[int]]) -> Any:
        width = mask.shape[1]
        lines = [[self._loaded.pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        tokens = torch.tensor(lines, device=self._loaded.device)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        piece = max(1, PIECE_TOKENS // len(prompts))
        scores = None
        for start in range(0, width, piece):
            end = min(width, start + piece)
            scores = self._forward(tokens[:, start:end], mask[:, :end], positions[:, start:end], cache)
        return scores

    def _forward(self, tokens: Any, mask: Any, positions: Any, cache: Any) -> Any:
        """Scores of the last token of each row (rows x vocabulary)."""
        loaded = self._loaded
        more = {loaded.cache_name: cache, **self._keep_one}
        if "position_ids" in loaded.takes:
            more["position_ids"] = positions
        if self._only_states:
            mask = None if tokens.shape[1] == 1 else mask[:, -tokens.shape[1] :]
        return loaded.model(input_ids=tokens, attention_mask=mask, use_cache=True, **more).logits[:, -1, :]


def _note(said: Sequence[Said], picked: Sequence[Picked]) -> None:
    for one, found in zip(said, picked, strict=True):
        one.answer.append(found.token)


def _plain(layer: Any) -> bool:
    return type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)


def _laid_beside(cache: Any, mask: Any, other: Any, other_mask: Any) -> Any:
    """Adds the rows of `other` to `cache`, and gives the mask of both."""
    width = max(mask.shape[1], other_mask.shape[1])
    for layer, added in zip(cache.layers, other.layers, strict=True):
        if layer.is_initialized:
            kept = _kept(layer, width)
            layer.keys = torch.cat([_filled(layer.keys, kept, 2), _filled(added.keys, kept, 2)])
            layer.values = torch.cat([_filled(layer.values, kept, 2), _filled(added.values, kept, 2)])
            if isinstance(layer, DynamicSlidingWindowLayer):
                layer.cumulative_length = width
    return torch.cat([_filled(mask, width, 1), _filled(other_mask, width, 1)])


def _narrow(cache: Any, filling: int, width: int) -> None:
    """Takes the first `filling` columns out of a cache that was `width` wide."""
    if not filling:
        return
    for layer in cache.layers:
        if layer.is_initialized:
            kept = _kept(layer, width - filling)
            layer.keys, layer.values = layer.keys[:, :, -kept:], layer.values[:, :, -kept:]
            if isinstance(layer, DynamicSlidingWindowLayer):
                layer.cumulative_length = width - filling


def _kept(layer: Any, width: int) -> int:
    """Columns that a layer keeps of `width` ones."""
    return min(width, layer.sliding_window - 1) if isinstance(layer, DynamicSlidingWindowLayer) else width


def _filled(block: Any, width: int, dim: int) -> Any:
    """The block with zeros on the left of `dim`, up to `width`."""
    lacking = width - block.shape[dim]
    if lacking <= 0:
        return block
    shape = list(block.shape)
    shape[dim] = lacking
    return torch.cat([block.new_zeros(shape), block], dim=dim)
