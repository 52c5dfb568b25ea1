"""The shape of a request before and after parsing."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.config import RequestsSpec
from inhouse.errors import BadRequest, InvalidJson, RequestTooComplex, UnknownParameter
from inhouse.wire import openai_chat
from inhouse.wire.guard import check_body
from inhouse.wire.lenient import ignored_header, leniently

FLAT = RequestsSpec(depth_max=8)
texts = st.text(alphabet='[]{}"\\/abnué\n', max_size=12)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | texts, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)
)


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def nested(levels: int) -> Any:
    value: Any = "[" * 99
    for _ in range(levels):
        value = [value]
    return value


@given(value=values, levels=st.integers(0, 14), spaced=st.booleans())
def test_any_document(value: Any, levels: int, spaced: bool) -> None:
    """It is refused exactly where it is nested more deeply than allowed, whatever brackets its texts hold."""
    document = [value, nested(levels), ["}"] * 9]
    body = json.dumps(document, ensure_ascii=False, indent=1 if spaced else None).encode()
    if depth(document) > 8:
        with pytest.raises(RequestTooComplex, match="more than 8 levels"):
            check_body(body, FLAT)
    else:
        check_body(body, FLAT)


@given(body=st.binary(max_size=200))
def test_any_bytes(body: bytes) -> None:
    """Nothing but the two refusals ever comes out of a check."""
    try:
        check_body(body, FLAT)
    except (InvalidJson, RequestTooComplex):
        return


def test_bytes_that_are_no_text_in_a_field_that_nobody_reads() -> None:
    """They are found all the same, with their place."""
    with pytest.raises(InvalidJson, match="byte 14"):
        check_body(b'{"prediction":\xff}', FLAT)


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "demo", "messages": [{"role": "user", "content": "hi"}], **fields}).encode()


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"messages": [{"role": "user", "content": "hi"}] * 4}, "messages", "4 messages, at most 3"),
        ({"n": 3}, "n", "3 answers to one prompt, at most 2"),
        ({"stop": ["a", "b", "c"]}, "stop", "3 stop sequences, at most 2"),
        ({"stop": "abcdef"}, "stop", "6 characters in one sequence, at most 5"),
        ({"stop": ["abcdef"]}, "stop", "6 characters in one sequence, at most 5"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}] * 2}, "tools", "2 tools, at most 1"),
    ],
)
def test_one_more_than_a_limit(fields: dict[str, Any], param: str, said: str) -> None:
    """The refusal names parameter, count, limit and setting."""
    limits = RequestsSpec(messages_max=3, choices_max=2, stop_sequences_max=2, stop_characters_max=5, tools_max=1)
    with pytest.raises(RequestTooComplex, match=said) as refused:
        openai_chat.parse(body(**fields), limits)
    assert refused.value.param == param
    assert "`requests." in refused.value.message


@pytest.mark.parametrize("content", ["a\0b", [{"type": "text", "text": "a\0b"}]])
def test_a_nul_character(content: Any) -> None:
    """It is refused under the name of its message."""
    with pytest.raises(BadRequest, match="NUL") as refused:
        openai_chat.parse(body(messages=[{"role": "user", "content": content}]))
    assert refused.value.param == "messages[0].content"


def test_many_choices_without_a_seed() -> None:
    """They share one body: a long prompt is not written once for each."""
    call = openai_chat.parse(body(n=16))
    assert len(call.jobs) == 16
    assert len({id(job.body) for job in call.jobs}) == 1


def test_a_key_that_is_given_twice() -> None:
    """The last one counts, and it is the only one that an engine gets."""
    call = openai_chat.parse(body()[:-1] + b', "max_tokens": 9, "model": "other", "max_tokens": 3}')
    assert call.model == "other"
    assert call.jobs[0].answer_tokens_max == 3
    assert call.jobs[0].body.count(b"max_tokens") == 1


def test_fields_that_do_not_exist() -> None:
    """They are named and not handed on; all others are."""
    strange = body(id_slot=0, top_k=7, n_predict=-1)
    call, ignored = leniently(openai_chat.parse, strange, RequestsSpec())
    assert ignored == ("id_slot", "n_predict")
    sent = msgspec.json.decode(call.jobs[0].body)
    assert sent["top_k"] == 7
    assert not {"id_slot", "n_predict"} & set(sent)


def test_a_field_that_does_not_exist_where_the_stack_is_strict() -> None:
    """It is refused, with the nearest name."""
    with pytest.raises(UnknownParameter, match="did you mean `top_k`"):
        leniently(openai_chat.parse, body(topk=7), RequestsSpec(unknown_fields="refuse"))


def test_a_body_that_breaks_behind_a_strange_field() -> None:
    """It is no JSON, and the place is named."""
    with pytest.raises(InvalidJson, match="behind `zzz`"):
        leniently(openai_chat.parse, b'{"zzz": 1, "model": ', RequestsSpec())


@given(names=st.lists(st.text(max_size=80), min_size=1, max_size=20))
def test_odd_names_in_a_header(names: list[str]) -> None:
    """Whatever a client called its fields, the header is one line of ASCII of bounded length."""
    name, value = ignored_header(tuple(names))
    assert name == b"x-inhouse-ignored"
    assert value.isascii()
    assert value.decode().isprintable()
    assert len(value) < 8 * 66 + 12
