"""Rows of unequal age and length in one batch, on real (tiny) models."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import tiny_models

from inhouse.hf_engine.asks import Sampling
from inhouse.hf_engine.batch import Batch
from inhouse.hf_engine.loading import Loaded, load
from inhouse.hf_engine.rows import Wanted
from inhouse.hf_engine.settings import Settings

GREEDY = Sampling(temperature=0)
ROWS = 10


def loaded(folder: Path) -> Loaded:
    return load(Settings(folder, "tiny", threads=1))


def prompts(seed: int) -> list[list[int]]:
    chance = random.Random(seed)
    return [[chance.randrange(6, 60) for _ in range(chance.choice([1, 3, 9, 17, 40]))] for _ in range(ROWS)]


def alone(model: Loaded, prompt: list[int], tokens: int) -> list[int]:
    batch = Batch(model)
    batch.begin([Wanted(prompt, tokens, GREEDY)])
    batch.go_on()
    for _ in range(tokens - 1):
        batch.step()
    return batch.said[0].answer


def together(
    model: Loaded, wanted: list[Wanted], seed: int, rows_max: int, piece_tokens: int = 2048
) -> dict[int, list[int]]:
    """All answers, in a batch that rows join and leave at moments that `seed` draws."""
    chance = random.Random(seed)
    batch, live, answers = Batch(model, piece_tokens), [], {}
    begun: list[int] = []
    waiting = list(range(len(wanted)))
    while waiting or live or begun:
        room = rows_max - len(live)
        if live:
            batch.step()
        if batch.begins and batch.go_on() is not None:
            live, begun = live + begun, []
        elif not batch.begins and waiting and room and (not live or (batch.joins and chance.random() < 0.4)):
            begun = [waiting.pop(0) for _ in range(min(len(waiting), chance.randint(1, room)))]
            batch.begin([wanted[index] for index in begun])
        kept = []
        for row, index in enumerate(live):
            if len(batch.said[row].answer) >= wanted[index].answer_tokens_max:
                answers[index] = list(batch.said[row].answer)
            else:
                kept.append(row)
        batch.keep(kept)
        live = [live[row] for row in kept]
    return answers


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("kind", ["llama", "gemma"])
def test_rows_join_and_leave_a_batch_that_runs(kind: str, seed: int, request: pytest.FixtureRequest) -> None:
    """Each says, token for token, what it says alone: with a cache of everything, and with one of a sliding window."""
    model = loaded(request.getfixturevalue(kind))
    assert Batch(model).joins
    chance = random.Random(seed)
    wanted = [Wanted(prompt, chance.choice([1, 5, 20, 33]), GREEDY) for prompt in prompts(seed)]
    expected = {index: alone(model, one.prompt, one.answer_tokens_max) for index, one in enumerate(wanted)}
    assert together(model, wanted, seed, rows_max=4) == expected
    assert len({token for answer in expected.values() for token in answer}) > 8  # they do say something


def test_a_model_with_a_state_in_place_of_a_cache(mamba: Path) -> None:
    """Its batches begin as a whole, rows leave them one by one, and each says what it says alone."""
    model = loaded(mamba)
    assert not Batch(model).joins
    wanted = [Wanted(prompt, tokens, GREEDY) for prompt, tokens in zip(prompts(4), [3, 9, 20] * 4, strict=False)]
    expected = {index: alone(model, one.prompt, one.answer_tokens_max) for index, one in enumerate(wanted)}
    assert together(model, wanted, 1, rows_max=4) == expected


@pytest.mark.parametrize("kind", ["llama", "gemma", "mamba"])
def test_long_prompts_are_computed_in_pieces(kind: str, request: pytest.FixtureRequest) -> None:
    """That changes nothing, with filling in the pieces and a sliding window either; others run on meanwhile. (A state
    takes no pieces.)"""
    model = loaded(request.getfixturevalue(kind))
    found = [Wanted([7 + at % 50 for at in range(length)], 12, GREEDY) for length in (100, 31, 5, 70, 90)]
    whole = {index: alone(model, one.prompt, 12) for index, one in enumerate(found)}
    assert together(model, found, 1, rows_max=3, piece_tokens=3 * 16) == whole


def test_the_same_seed_in_other_company(llama: Path) -> None:
    """A row that draws its tokens draws the same ones alone and among others."""
    model = loaded(llama)
    drawn = Wanted([9, 10, 11], 20, Sampling(seed=5, top_p=0.9))
    others = [Wanted(prompt, 20, Sampling(seed=index)) for index, prompt in enumerate(prompts(5))]
    single = together(model, [drawn], 1, rows_max=1)[0]
    assert together(model, [*others[:2], drawn, *others[2:]], 3, rows_max=5)[2] == single
    assert together(model, [Wanted([9, 10, 11], 20, Sampling(seed=6, top_p=0.9))], 1, rows_max=1)[0] != single


def test_the_library_generates_the_same(llama: Path) -> None:
    """Our loop says what `model.generate` says."""
    import torch

    model = loaded(llama)
    prompt = prompts(6)[3]
    ids = torch.tensor([prompt])
    found = model.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    assert alone(model, prompt, 24) == found[0, len(prompt) :].tolist()


def test_what_a_model_is_made_for(llama: Path, bert: Path) -> None:
    """Context, end of an answer and kind are read from its folder; a smaller context may be asked for."""
    generates = loaded(llama)
    assert (generates.context_tokens, generates.embeds) == (tiny_models.CONTEXT_TOKENS, False)
    assert generates.ends == {tiny_models.END}
    assert loaded(bert).embeds
    assert load(Settings(llama, "tiny", context_tokens=64)).context_tokens == 64
    assert load(Settings(llama, "tiny", context_tokens=99_999)).context_tokens == tiny_models.CONTEXT_TOKENS
