"""The batch that runs: rows of unequal age and length in one forward pass of the model.

Theory of operation. Rows are aligned at their right end: what is shorter has filling on its left, which the mask hides,
and every row counts its positions from its own first token, so that a row's scores are those that it would have alone.
The prompts of new rows are computed by themselves first, in pieces between which the running rows get their tokens;
then their cache is laid beside that of the running rows, the narrower of the two filled up on the left. A row that ends
is taken out of the cache and the mask at once; filling that all others have in common goes with it.

Where the model's cache has layers of another kind (a state in place of keys and values, say), rows cannot be laid
beside each other (`joins` is False): then a batch begins and ends as a whole, and rows only leave it. Their prompts are
computed in one piece: the library's code for Mamba in plain torch begins each piece without the state before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from inhouse.hf_engine.loading import Loaded
from inhouse.hf_engine.picking import Picked, Said, chance, pick
from inhouse.hf_engine.rows import Wanted


@dataclass(slots=True)
class _Beginning:
    """Rows whose prompts are not computed to their end; `at` is how far they are."""

    said: list[Said]
    cache: Any
    mask: Any
    tokens: Any
    positions: Any
    at: int = 0


class Batch:
    """Rows in the order in which they came. `said[i]` is row i's side of it."""

    def __init__(self, loaded: Loaded, piece_tokens: int = 2048) -> None:
        self._loaded = loaded
        self._piece_tokens = piece_tokens
        self._beginning: _Beginning | None = None
        self._keep_one = {"logits_to_keep": 1} if "logits_to_keep" in loaded.takes else {}
        self._cache: Any = None
        self._mask: Any = None
        self.said: list[Said] = []
        empty = self._new_cache()
        self.joins = all(_plain(layer) for layer in empty.layers)
        self._only_states = all(getattr(empty, "is_linear", [False]))
        """Such a model has no attention: its mask says which of this pass's tokens are filling, and nothing else."""

    @property
    def begins(self) -> bool:
        """Whether prompts are under way; until `go_on` gives their first tokens, no others can begin."""
        return self._beginning is not None

    def begin(self, wanted: Sequence[Wanted]) -> None:
        """Takes on rows; `go_on` computes their prompts."""
        loaded = self._loaded
        said = [Said(one.sampling, one.prompt, [], chance(one.sampling, loaded.device)) for one in wanted]
        width = max(len(one.prompt) for one in wanted)
        lines = [[loaded.pad] * (width - len(one.prompt)) + list(one.prompt) for one in wanted]
        shown = [[0] * (width - len(one.prompt)) + [1] * len(one.prompt) for one in wanted]
        mask = torch.tensor(shown, device=loaded.device)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        tokens = torch.tensor(lines, device=loaded.device)
        self._beginning = _Beginning(said, self._new_cache(), mask, tokens, positions)

    def go_on(self) -> list[Picked] | None:
        """Computes a piece of the prompts; with the last one, the first tokens of the rows, which then run."""
        new = self._beginning
        assert new is not None  # noqa: S101 - asked for while `begins`
        rows, width = new.mask.shape
        end = min(width, new.at + max(1, self._piece_tokens // rows)) if self.joins else width
        piece = slice(new.at, end)
        with torch.inference_mode():
            scores = self._forward(new.tokens[:, piece], new.mask[:, :end], new.positions[:, piece], new.cache)
            new.at = end
            if end < width:
                return None
            picked = pick(scores, new.said)
            if self.said:
                self._mask = _laid_beside(self._cache, self._mask, new.cache, new.mask)
            else:
                self._cache, self._mask = new.cache, new.mask
        self.said += new.said
        self._beginning = None
        _note(new.said, picked)
        return picked

    def give_up(self) -> None:
        """Those who were beginning are not wanted any more."""
        self._beginning = None

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
