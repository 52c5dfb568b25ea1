"""Turns conversations into batches of token ids: like lengths together, so that little is padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import torch
from chatml import VOID, Text, render
from samples import Sampler
from tokenizers import Tokenizer
from torch import Tensor

POOL = 2_000
TOKENS_MAX = 1_536
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Batch:
    """`ids` [batch, time]; `places`: flat positions with a target; `targets`: the token after each of them."""

    ids: Tensor
    places: Tensor
    targets: Tensor


def batches(sampler: Sampler, tokenizer: Tokenizer, tokens: int, seed: int) -> Iterator[Batch]:
    """Endless batches of about `tokens` token ids each, padding included."""
    random = Random(seed)
    void = tokenizer.token_to_id(VOID)
    while True:
        texts = [render(sampler.conversation()) for _ in range(POOL)]
        encoded = tokenizer.encode_batch([text.text for text in texts])
        rows = [(one.ids, _targets(text, one.ids, one.offsets)) for text, one in zip(texts, encoded, strict=True)]
        rows = sorted((row for row in rows if len(row[0]) <= TOKENS_MAX), key=lambda row: len(row[0]))
        groups, group = [], []
        for row in rows:
            if group and (len(group) + 1) * len(row[0]) > tokens:
                groups.append(group)
                group = []
            group.append(row)
        random.shuffle(groups)
        for group in groups:
            yield _batch(group, void)


def _targets(text: Text, ids: list[int], offsets: list[tuple[int, int]]) -> list[int]:
    """For each position the next token where it is to be learned, else IGNORED."""
    learned = iter(text.learned)
    begin, end = next(learned)
    marked = []
    for token, (start, _) in zip(ids, offsets, strict=True):
        while start >= end:
            begin, end = next(learned, (len(text.text) + 1, len(text.text) + 1))
        marked.append(token if start >= begin else IGNORED)
    return [*marked[1:], IGNORED]


def _batch(group: list[tuple[list[int], list[int]]], void: int) -> Batch:
    time = max(len(ids) for ids, _ in group)
    ids = torch.full((len(group), time), void)
    targets = torch.full((len(group), time), IGNORED)
    for place, (row, wanted) in enumerate(group):
        ids[place, : len(row)] = torch.tensor(row)
        targets[place, : len(row)] = torch.tensor(wanted)
    flat = targets.flatten()
    places = (flat != IGNORED).nonzero().squeeze(1)
    return Batch(ids, places, flat[places])
