"""YAML with reasons."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from inhouse.deploy.text import bare, render, why

_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x85\u2028\u2029\ufeff"), max_size=40)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_TEXT, inner, max_size=4)
        | st.builds(why, inner, st.text("ab #:-", max_size=120))
    ),
    max_leaves=20,
)


@given(st.lists(st.dictionaries(_TEXT, _VALUES, max_size=5), min_size=1, max_size=3))
def test_what_is_read_is_what_was_written(documents: list[dict[str, Any]]) -> None:
    """Reasons are comments: a reader of YAML sees the values alone, each of its own type."""
    assert list(yaml.safe_load_all(render(documents))) == bare(documents)


@pytest.mark.parametrize("text", ["1e3", "0x1F", "1_000", "12:30:45", "2026-01-01", "no", "~", "=", "<<", "1.0", "0o7"])
def test_text_that_some_reader_takes_for_something_else_is_quoted(text: str) -> None:
    """Readers of YAML 1.1 and 1.2 disagree about these; in quotes they do not."""
    assert render([{"a": text}]) == f'a: "{text}"\n'


def test_a_reason_stands_behind_its_value_or_above_it() -> None:
    """Short ones behind, long ones and those of blocks above."""
    long = "because " * 14
    assert render([{"a": why(0, "why"), "b": why({"c": 1}, "so"), "d": why(1, long)}]) == (
        "a: 0  # why\n# so\nb:\n  c: 1\n"
        "# because because because because because because because because because because because because\n"
        "# because because\nd: 1\n"
    )
