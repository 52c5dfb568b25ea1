"""The usage of an answer in one piece is the same from its end alone as from all of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.core import Usage
from inhouse.errors import EngineError
from inhouse.wire.views import usage_in

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
LIKE_IT = '","usage":{"prompt_tokens":1000,"completion_tokens":1000},"x":"'
TEXTS = st.lists(st.one_of(st.text(max_size=8), st.sampled_from([LIKE_IT, '"usage":', "}", "\\", '"'])), max_size=5)


def document(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}}], "usage": USAGE, "id": text, **more}


@given(TEXTS.map("".join), st.permutations(["choices", "usage", "id", "timings"]), st.booleans(), st.booleans())
def test_any_answer(text: str, order: list[str], spaces: bool, ascii_only: bool) -> None:
    """Whatever its text says, and wherever its usage stands."""
    fields = document(text, timings={"usages": 1, text: 2})
    separators = (", ", ": ") if spaces else (",", ":")
    data = json.dumps({name: fields[name] for name in order}, separators=separators, ensure_ascii=ascii_only)
    assert usage_in(data.encode()) == Usage(7, 3, 2)


@pytest.mark.parametrize(
    "data",
    [
        {"choices": [], "timings": {"usage": USAGE}},
        {"choices": [{"usage": USAGE}]},
        {"usage": USAGE},
        {"choices": [], "usage": {"prompt_tokens": "many"}},
        {"choices": [], "usage": None},
    ],
)
def test_an_answer_that_is_none(data: dict[str, Any]) -> None:
    """Usage that stands elsewhere is not its own."""
    with pytest.raises(EngineError):
        usage_in(json.dumps(data, separators=(",", ":")).encode())


def test_an_end_that_is_cut_off() -> None:
    whole = json.dumps(document("hello"), separators=(",", ":")).encode()
    for cut in range(len(whole)):
        with pytest.raises(EngineError):
            usage_in(whole[:cut])
