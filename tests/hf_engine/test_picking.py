"""How the next token is picked from scores."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from inhouse.hf_engine.asks import Sampling
from inhouse.hf_engine.picking import Said, chance, pick

SCORES = torch.tensor([[0.0, 3.0, 2.0, 1.0, -1.0]])
CPU = torch.device("cpu")


def picked(sampling: Sampling, *, prompt: list[int] | None = None, answer: list[int] | None = None) -> int:
    said = Said(sampling, prompt or [], answer or [], chance(sampling, CPU))
    return pick(SCORES, [said])[0].token


def counts(scores: torch.Tensor, sampling: Sampling, times: int = 400) -> Counter[int]:
    said = [Said(sampling, [], [], chance(sampling, CPU))]
    return Counter(pick(scores, said)[0].token for _ in range(times))


def test_temperature_zero() -> None:
    """The likeliest, also beside a row that draws."""
    said = [Said(Sampling(temperature=0), [], [], None), Said(Sampling(seed=1), [], [], chance(Sampling(seed=1), CPU))]
    assert pick(SCORES.repeat(2, 1), said)[0].token == 1


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    """Frequencies are the softmax of the scores, within what 4,000 draws can tell."""
    found = counts(SCORES, Sampling(seed=3), 4000)
    shares = torch.softmax(SCORES[0], dim=-1)
    for token in range(5):
        assert found[token] / 4000 == pytest.approx(float(shares[token]), abs=0.03)


@pytest.mark.parametrize(
    ("sampling", "left"),
    [
        (Sampling(top_k=1, seed=1), {1}),
        (Sampling(top_k=2, seed=1), {1, 2}),
        (Sampling(top_p=0.01, seed=1), {1}),
        (Sampling(top_p=0.8, seed=1), {1, 2}),
        (Sampling(min_p=0.5, seed=1), {1}),
        (Sampling(min_p=0.3, seed=1), {1, 2}),
        (Sampling(top_k=4, top_p=0.95, min_p=0.1, seed=1), {1, 2, 3}),
    ],
)
def test_what_is_left_to_be_drawn(sampling: Sampling, left: set[int]) -> None:
    """Exactly the tokens that the filters leave, each of them sometimes."""
    assert set(counts(SCORES, sampling)) == left


def test_a_nucleus_wider_than_the_first_look() -> None:
    """Scores so flat that thousands of tokens are needed for `top_p`: all of them may come."""
    scores = torch.zeros(1, 5000)
    assert max(counts(scores, Sampling(top_p=0.9, seed=1), 300)) > 1024


def test_penalties_and_biases() -> None:
    """What was said becomes less likely, what is biased comes or never comes."""
    assert picked(Sampling(temperature=0, presence=1.5), answer=[1]) == 2
    assert picked(Sampling(temperature=0, frequency=0.6), answer=[1, 1]) == 2
    assert picked(Sampling(temperature=0, frequency=0.6), answer=[1]) == 1
    assert picked(Sampling(temperature=0, repetition=2.0), prompt=[1]) == 2
    assert picked(Sampling(temperature=0, bias=((4, 100.0),))) == 4
    assert picked(Sampling(temperature=0, bias=((1, -100.0), (99, 5.0)))) == 2


def test_log_probabilities() -> None:
    """Those of the model, before temperature and penalties, the likeliest first."""
    said = Said(Sampling(temperature=0, logprobs=2, bias=((4, 100.0),)), [], [], None)
    found = pick(SCORES, [said])[0]
    logs = torch.log_softmax(SCORES[0], dim=-1)
    assert found.token == 4
    assert found.logprob == pytest.approx(float(logs[4]))
    assert [token for token, _ in found.top] == [1, 2]
    assert found.top[0][1] == pytest.approx(float(logs[1]))
