"""Scores → the next token of each row, by the row's own parameters. Torch, but no model and no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from inhouse.hf_engine.asks import Sampling

_NUCLEUS_FIRST = 1024
"""Tokens that are looked at first for `top_p`: sorting all of a large vocabulary costs more than the model's step."""


@dataclass(frozen=True, slots=True)
class Picked:
    """A token; with its log probability and the likeliest ones, where those are to be told."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


@dataclass(slots=True)
class Said:
    """What a row's picking depends on beside the scores: its prompt, its answer so far, its own chance."""

    sampling: Sampling
    prompt: Sequence[int]
    answer: list[int]
    chance: Any
    """A torch.Generator of its own: a seed gives the same answer in any company. None where nothing is drawn."""


def chance(sampling: Sampling, device: Any) -> Any:
    """The generator of one row."""
    if sampling.temperature == 0:
        return None
    generator = torch.Generator(device=device)
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed % 2**63)
    return generator


def pick(scores: Any, said: Sequence[Said]) -> list[Picked]:
    """One token for each row of `scores` (rows x vocabulary)."""
    if all(one.sampling.plain_greedy for one in said):
        return [Picked(token) for token in scores.argmax(dim=-1).tolist()]
    return [_pick(scores[index].float(), one) for index, one in enumerate(said)]


def _pick(scores: Any, said: Said) -> Picked:
    sampling = said.sampling
    told = scores
    if sampling.changes_scores:
        scores = _changed(scores.clone(), said)
    token = int(scores.argmax()) if sampling.temperature == 0 else _drawn(scores, sampling, said.chance)
    if sampling.logprobs is None:
        return Picked(token)
    logs = torch.log_softmax(told, dim=-1)
    top: tuple[tuple[int, float], ...] = ()
    if sampling.logprobs:
        values, tokens = logs.topk(min(sampling.logprobs, logs.shape[-1]))
        top = tuple(zip(tokens.tolist(), values.tolist(), strict=True))
    return Picked(token, float(logs[token]), top)


def _changed(scores: Any, said: Said) -> Any:
    """Penalties and biases, in the order in which vLLM and OpenAI describe them."""
    sampling = said.sampling
    size = scores.shape[-1]
    if sampling.repetition != 1.0:
        seen = torch.tensor(sorted({*said.prompt, *said.answer}), device=scores.device)
        seen = seen[seen < size]
        values = scores[seen]
        scores[seen] = torch.where(values > 0, values / sampling.repetition, values * sampling.repetition)
    if said.answer and (sampling.presence or sampling.frequency):
        tokens, counts = torch.tensor(said.answer, device=scores.device).unique(return_counts=True)
        scores[tokens] -= sampling.presence + sampling.frequency * counts
    for token, bias in sampling.bias:
        if 0 <= token < size:
            scores[token] += bias
    return scores


def _drawn(scores: Any, sampling: Sampling, chance: Any) -> int:
    """A token by chance, of those that `top_k`, `top_p` and `min_p` leave."""
    scores = scores / sampling.temperature
    tokens = None
    if 0 < sampling.top_k < scores.shape[-1]:
        scores, tokens = scores.topk(sampling.top_k)
    shares = torch.softmax(scores, dim=-1)
    if sampling.top_p < 1.0:
        shares, order = _nucleus(shares, sampling.top_p)
        tokens = order if tokens is None else tokens[order]
    if sampling.min_p > 0.0:
        shares = torch.where(shares >= sampling.min_p * shares.max(), shares, 0.0)
    at = int(torch.multinomial(shares, 1, generator=chance))
    return at if tokens is None else int(tokens[at])


def _nucleus(shares: Any, top_p: float) -> tuple[Any, Any]:
    """The fewest likeliest tokens that reach `top_p` together, at least one, with their places."""
    first = min(_NUCLEUS_FIRST, shares.shape[-1])
    values, order = shares.topk(first)
    sums = values.cumsum(dim=-1)
    if float(sums[-1]) < top_p and first < shares.shape[-1]:
        values, order = shares.sort(descending=True)
        sums = values.cumsum(dim=-1)
    kept = max(1, int((sums - values < top_p).sum()))
    return values[:kept], order[:kept]
