"""Texts of the fake engine: always the same, cut and joined without loss, continued where they stopped."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.fake import text
from inhouse.fake.cache import SharedCache, SlotCaches
from inhouse.fake.settings import Settings, WrongSetting, changed, shown


@given(st.text())
def test_any_text_in_tokens(whole: str) -> None:
    """Joined, they are the text; none is empty, and none has more bytes than it has characters to offer."""
    tokens = text.tokens_of(whole)
    assert "".join(tokens) == whole
    assert all(tokens)


@given(st.lists(st.text(max_size=20), max_size=5), st.integers(), st.integers(1, 60), st.integers(0, 60))
def test_an_answer_in_two_parts(prompt: list[str], seed: int, count: int, cut: int) -> None:
    """Wherever it is cut, the tokens can be counted and the rest fits."""
    key = text.key_of(prompt, seed)
    whole, first = text.answer(key, 0, count), text.answer(key, 0, min(cut, count))
    known = len(text.tokens_of(first))
    assert known == min(cut, count)
    assert first + text.answer(key, known, count - known) == whole


@given(st.text(alphabet="abc XY.", min_size=1, max_size=40), st.integers(0, 9), st.integers(0, 12))
def test_a_plain_text_that_broke_off(prompt: str, seed: int, said: int) -> None:
    """A text that ends with the beginning of its answer is continued with the rest of it."""
    prompt = prompt.rstrip() or "x"
    key, none = text.continued(text.tokens_of(prompt), seed)
    assert none == 0
    answer = [text.token(key, k) for k in range(said)]
    assert text.continued(text.tokens_of(prompt + "".join(answer)), seed) == (key, said)


def test_other_prompts_and_seeds() -> None:
    """Another answer for each."""
    answers = {text.answer(text.key_of([prompt], seed), 0, 20) for prompt in ("a", "b", "ab") for seed in range(4)}
    assert len(answers) == 12


def test_lengths() -> None:
    """Within the spread, and not all the same."""
    found = [text.length(text.key_of([str(n)], 0), 100, 0.5) for n in range(200)]
    assert 50 <= min(found) < 70 < 130 < max(found) <= 150
    assert text.length(1, 100, 0.0) == 100


def test_numbers_of_tokens() -> None:
    """There and back; a number that was never seen is no text."""
    vocabulary = text.Vocabulary()
    assert vocabulary.text(vocabulary.ids("the same text, again")) == "the same text, again"
    assert vocabulary.text([1]) is None


def test_embeddings() -> None:
    """Of length 1, the same for the same text only."""
    one, two = text.vector("a", 64), text.vector("b", 64)
    assert math.isclose(sum(value * value for value in one), 1.0)
    assert one == text.vector("a", 64) != two


def tokens(count: int, name: str = "t") -> list[str]:
    return [f"{name}{index}" for index in range(count)]


def test_a_shared_cache() -> None:
    """Whole blocks of a common beginning are known, whichever slot made them; the oldest leave first."""
    cache = SharedCache(64, 16)
    cache.keep(0, tokens(40))
    assert cache.take([3], tokens(100)) == (3, 32)
    assert cache.take([3], tokens(32)) == (3, 31), "the last token is always computed"
    cache.keep(1, tokens(64, "u"))
    assert cache.tokens == 64
    assert cache.take([3], tokens(100)) == (3, 0)


def test_slots_remember_their_last() -> None:
    """A conversation goes back to its slot, a new one to the slot that was idle longest."""
    cache = SlotCaches(16)
    for slot, name in enumerate("abc"):
        assert cache.take([slot, 3], tokens(50, name)) == (slot, 0)
        cache.keep(slot, tokens(50, name))
    assert cache.take([0, 1, 2], tokens(60, "b")) == (1, 48)
    assert cache.take([0, 1, 2], tokens(60, "z")) == (0, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"slot": 3}, "did you mean 'slots'"),
        ({"slots": 0}, "from 1 to"),
        ({"slots": 2.5}, "a whole number"),
        ({"error_rate": 1.5}, "from 0 to 1"),
        ({"error_rate": float("nan")}, "from 0 to 1"),
        ({"deaf": 1}, "true or false"),
        ({"metrics_as": "ollama"}, "one of llamacpp"),
    ],
)
def test_a_wrong_setting(changes: dict[str, object], said: str) -> None:
    with pytest.raises(WrongSetting, match=said):
        changed(Settings(), changes)


def test_a_whole_number_is_a_number() -> None:
    assert shown(changed(Settings(), {"load_s": 3}))["load_s"] == 3.0
