"""What stays of a conversation that is too long, over any conversation."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.admission.context_fit import FitPolicy, Said, caps, cut_middle, fit, room_for_prompt

POLICIES: list[FitPolicy] = ["trim", "middle-out"]
policies = st.sampled_from(POLICIES)
ids = st.sampled_from("abcde")
tokens = st.integers(0, 50)
said_by = {
    "plain": st.builds(Said, st.sampled_from(["system", "developer", "user", "user", "assistant"]), tokens),
    "calls": st.builds(Said, st.just("assistant"), tokens, st.lists(ids, min_size=1, max_size=2).map(tuple)),
    "answers": st.builds(Said, st.just("tool"), tokens, st.just(()), ids),
}
conversations = st.lists(st.one_of(*said_by.values()), max_size=24)


def pairs(said: Sequence[Said]) -> list[tuple[int, int]]:
    """(call, answer) by index: an answer is that of the last call before it with its id."""
    found = []
    for at, one in enumerate(said):
        if one.role == "tool":
            calls = [before for before in range(at) if one.answers in said[before].calls]
            found += [(calls[-1], at)] if calls else []
    return found


@given(policy=policies, said=conversations, room=st.integers(0, 400))
def test_any_conversation(policy: FitPolicy, said: list[Said], room: int) -> None:
    """Pinned messages stay, pairs are never split, the order is kept, and the sum is told truly."""
    cut = fit(policy, said, room)
    kept = set(cut.kept)
    assert list(cut.kept) == sorted(kept)
    assert {at for at, one in enumerate(said) if one.role in ("system", "developer")} <= kept
    users = [at for at, one in enumerate(said) if one.role == "user"]
    assert set(users[-1:]) <= kept
    assert {at for at, one in enumerate(said) if one.role not in ("system", "developer")} == set() or max(
        at for at, one in enumerate(said) if one.role not in ("system", "developer")
    ) in kept
    for call, answer in pairs(said):
        assert (call in kept) == (answer in kept)
    assert cut.over_tokens == max(0, sum(said[at].tokens for at in cut.kept) - room)


@given(policy=policies, said=conversations, room=st.integers(0, 400))
def test_fitting_twice(policy: FitPolicy, said: list[Said], room: int) -> None:
    """It is fitting once; and what fits is left as it is."""
    cut = fit(policy, said, room)
    again = fit(policy, [said[at] for at in cut.kept], room)
    if cut.over_tokens == 0:
        assert again.kept == tuple(range(len(cut.kept)))
    if sum(one.tokens for one in said) <= room:
        assert cut.kept == tuple(range(len(said)))


@given(policy=policies, said=conversations, room=st.integers(0, 400), more=st.integers(0, 100))
def test_more_room(policy: FitPolicy, said: list[Said], room: int, more: int) -> None:
    """It never costs a message."""
    assert set(fit(policy, said, room).kept) <= set(fit(policy, said, room + more).kept)


def chat(*roles: str) -> list[Said]:
    return [Said(role, 10) for role in roles]


LONG = chat("system", *(["user", "assistant"] * 5), "user")


def test_the_oldest_go_first() -> None:
    """`trim` leaves out whole exchanges from the start, so that what is left begins with a user again."""
    cut = fit("trim", LONG, 65)
    assert cut.kept == (0, 7, 8, 9, 10, 11)


def test_the_middle_goes_first() -> None:
    """`middle-out` keeps the first exchange and the last ones."""
    cut = fit("middle-out", LONG, 85)
    assert cut.kept == (0, 1, 2, 3, 4, 9, 10, 11)


def test_a_long_task_with_many_tools() -> None:
    """Of a task that runs, its wording and its latest steps stay; older steps go, each with its answers."""
    said = [Said("system", 10), Said("user", 10)]
    for name in "abcd":
        said += [Said("assistant", 10, (name, name * 2)), Said("tool", 10, (), name), Said("tool", 10, (), name * 2)]
    assert fit("trim", said, 80).kept == (0, 1, 8, 9, 10, 11, 12, 13)
    assert fit("trim", said, 0).kept == (0, 1, 11, 12, 13)


def test_an_answer_that_comes_late() -> None:
    """A call whose answer comes after other words takes those along."""
    said = [Said("user", 10), Said("assistant", 10, ("a",)), Said("user", 10), Said("tool", 10, (), "a")]
    assert fit("trim", [*said, Said("user", 10)], 49).kept == (4,)


@given(context=st.integers(256, 10_000), answer=st.integers(0, 20_000))
def test_room_beside_an_answer(context: int, answer: int) -> None:
    """An answer gets what it asks for, at most half of the context."""
    room = room_for_prompt(context, answer)
    assert room >= context // 2
    assert room + answer == context or answer > context // 2


@given(lengths=st.lists(st.integers(0, 1000), min_size=1, max_size=12), total=st.integers(0, 5000))
def test_the_longest_come_down(lengths: list[int], total: int) -> None:
    """Together they are short enough, and none is cut further than it must be."""
    cap = caps(lengths, total)
    cut = sum(min(length, cap) for length in lengths)
    assert cut <= total or cap == 0
    if cap < max(lengths):
        assert sum(min(length, cap + 1) for length in lengths) > total


@given(text=st.text(max_size=300), most=st.integers(0, 300))
def test_a_text_without_its_middle(text: str, most: int) -> None:
    """It is never longer than allowed, keeps both ends where there is room for them, and is cut once at most."""
    cut = cut_middle(text, most)
    assert len(cut) <= most
    assert cut_middle(cut, most) == cut
    if len(text) <= most:
        assert cut == text
    elif most > 80 and text.isascii():
        assert cut.startswith(text[:10])
        assert cut.endswith(text[-10:])
        left_out = int(cut.partition("[… ")[2].partition(" ")[0])
        head, _, tail = cut.partition(f"\n[… {left_out} characters left out …]\n")
        assert len(head) + left_out + len(tail) == len(text)


@pytest.mark.parametrize("sign", ["e\u0301", "👩\u200d💻", "❤\ufe0f"])
def test_a_sign_of_several_characters(sign: str) -> None:
    """It stays whole or goes as a whole."""
    for most in range(60, 90):
        head, _, rest = cut_middle(sign * 60, most).partition("\n[")
        tail = rest.partition("]\n")[2]
        for part in (head, tail):
            assert not part.startswith(("\u0301", "\u200d", "\ufe0f"))
            assert not part.endswith("e") or sign[0] != "e"
