"""Tokens to text, with tokens that are single bytes: every character may be cut."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from inhouse.hf_engine.text import Text

texts = st.text(alphabet="abé😀 .", max_size=40)


def decode(tokens: list[int]) -> str:
    return bytes(tokens).decode(errors="replace")


def said(text: str, stops: tuple[str, ...] = (), before: str = "") -> tuple[list[str], bool]:
    """The pieces of an answer, the rest at its end among them, and whether it was stopped."""
    answer = Text(decode, list(before.encode()), stops)
    pieces = []
    for token in text.encode():
        pieces.append(answer.take(token))
        if answer.stopped:
            return pieces, True
    return [*pieces, answer.rest()], answer.stopped


@given(texts, texts)
def test_an_answer_byte_by_byte(text: str, before: str) -> None:
    """Its pieces are the text, whatever stood before; none of them has half a character."""
    pieces, stopped = said(text, before=before)
    assert "".join(pieces) == text
    assert not stopped
    assert not any("\ufffd" in piece for piece in pieces)


@given(texts, st.lists(st.text(alphabet="abé😀 .", min_size=1, max_size=4), min_size=1, max_size=3).map(tuple))
@example("aab", ("ab",))
@example("abab.", ("abab!", "b."))
def test_an_answer_with_stop_sequences(text: str, stops: tuple[str, ...]) -> None:
    """It ends where the first of them to be complete begins; without any, it is whole."""
    ends = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    pieces, stopped = said(text, stops)
    assert stopped == bool(ends)
    if not ends:
        assert "".join(pieces) == text
        return
    first = min(end for end, _ in ends)
    assert "".join(pieces) == text[: min(start for end, start in ends if end == first)]


def test_what_may_become_a_stop_sequence() -> None:
    """It is held back until it is clear, and no longer."""
    answer = Text(decode, [], ("END",))
    assert [answer.take(token) for token in b"xENxE"] == ["x", "", "", "ENx", ""]
    assert answer.rest() == "E"


def test_half_a_character_at_the_end() -> None:
    """It is shown as what it is: not readable."""
    answer = Text(decode, [])
    assert answer.take("é".encode()[0]) == ""
    assert answer.rest() == "\ufffd"


def test_bytes_that_never_become_a_character() -> None:
    """They are not held back for ever."""
    answer = Text(decode, [])
    assert "".join(answer.take(0xFF) for _ in range(200))


def test_a_long_answer() -> None:
    """It is not read again from its beginning with each token."""
    read: list[int] = []

    def counted(tokens: list[int]) -> str:
        read.append(len(tokens))
        return decode(tokens)

    answer = Text(counted, [])
    assert "".join(answer.take(token) for token in b"ab" * 2000) == "ab" * 2000
    assert max(read) < 40
