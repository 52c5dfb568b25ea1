"""The model's name on its way to an engine that knows it by another."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.dispatch.upstream import renamed, shown_model, start_of
from inhouse.errors import EngineError


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_name_to_any_other(old: str, new: str) -> None:
    """Only the name changes."""
    rest = {"messages": [{"content": '"model":"x"}'}], "stream": True}
    body = json.dumps({"model": old, **rest}, separators=(",", ":"), ensure_ascii=False).encode()
    assert json.loads(renamed(body, start_of(new))) == {"model": new, **rest}


def test_the_name_that_it_has() -> None:
    """The very same body: nothing is copied."""
    body = b'{"model":"a","stream":true}'
    assert renamed(body, start_of("a")) is body


def test_a_body_that_does_not_begin_with_its_model() -> None:
    with pytest.raises(EngineError):
        renamed(b'{"stream":true}', start_of("a"))


def test_the_name_in_an_answer() -> None:
    """Text of the answer that looks like it has its quotes escaped, and stays."""
    change = shown_model("org/m", "chat")
    assert change is not None
    event = b'data: {"model":"org/m","choices":[{"delta":{"content":"\\"model\\":\\"org/m\\""}}]}\n\n'
    assert event.replace(*change).count(b"org/m") == 1
    assert shown_model(None, "chat") is None
    assert shown_model("chat", "chat") is None
