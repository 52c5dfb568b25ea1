"""An answer that is shown again: the same content, an id of its own, a usage that says where the prompt came from."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.core import Usage
from inhouse.errors import EngineError
from inhouse.wire import sse
from inhouse.wire.replay import Recorder, Renaming, marked

ID, CREATED = "chatcmpl-Abc", 1764000000
HOSTILE = f'"id":"{ID}","created":{CREATED} data: {{"usage":{{"prompt_tokens":9}}}}\n\n'


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


def chunk(content: str, **more: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": content}}], created=CREATED, id=ID, **more)


USAGE = {"completion_tokens": 3, "prompt_tokens": 7, "total_tokens": 10, "prompt_tokens_details": {"cached_tokens": 2}}
LAST = event(choices=[], created=CREATED, id=ID, usage=USAGE, timings={"cache_n": 0}) + sse.DONE


def contents(stream: bytes) -> list[str]:
    found = [json.loads(payload) for payload in sse.payloads(stream) if payload != b"[DONE]"]
    return [choice["delta"]["content"] for one in found for choice in one["choices"]]


@given(texts=st.lists(st.one_of(st.text(), st.just(HOSTILE)), min_size=1))
def test_content_is_not_touched(texts: list[str]) -> None:
    """Whatever a model writes, names of fields and ids included, comes out of renaming and marking as it went in."""
    renaming = Renaming("mine", 5)
    shown = b"".join(renaming.events(marked(block)) for block in [*map(chunk, texts), LAST])
    assert contents(shown) == texts
    events = [json.loads(payload) for payload in sse.payloads(shown) if payload != b"[DONE]"]
    assert {(one["id"], one["created"]) for one in events} == {("mine", 5)}


def test_usage() -> None:
    """The whole prompt counts as cached; what else the event carries stays, and so do the numbers of tokens."""
    told, done = sse.payloads(marked(LAST))
    assert done == b"[DONE]"
    assert json.loads(told)["usage"] == USAGE | {"prompt_tokens_details": {"cached_tokens": 7}}
    assert json.loads(told)["timings"] == {"cache_n": 0}


def test_usage_of_a_document() -> None:
    """The same for answers that are no stream, whose usage has no details."""
    shown = marked(b'{"data":[1],"usage":{"prompt_tokens":4,"total_tokens":4}}', whole=True)
    assert json.loads(shown)["usage"]["prompt_tokens_details"] == {"cached_tokens": 4}
    assert json.loads(shown)["data"] == [1]


@pytest.mark.parametrize("data", [chunk("hello"), event(choices=[], usage=None), sse.DONE, b'data: {"usage":\n\n'])
def test_events_without_usage(data: bytes) -> None:
    """They are handed on as they are."""
    assert marked(data) == data


def test_spaces_between_names_and_values() -> None:
    """Engines that write them are understood too."""
    data = b'data: {"id": "old", "created": 12, "choices": []}\n\n'
    assert Renaming("new", 3).events(data) == b'data: {"id": "new", "created": 3, "choices": []}\n\n'


def recorded(*blocks: bytes) -> tuple[Recorder, list[bytes]]:
    kept: list[bytes] = []
    recorder = Recorder(kept.append)
    for block in blocks:
        recorder.events(0, block)
    return recorder, kept


def test_a_recorder() -> None:
    """It hands on what it sees, and knows usage and end."""
    blocks = [chunk('"usage": [DONE]'), LAST]
    recorder, kept = recorded(*blocks)
    recorder.finished(0)
    assert kept == blocks
    assert (recorder.usage, recorder.tokens_of(0)) == (Usage(7, 3, 2), 10)


def test_a_stream_that_breaks_off() -> None:
    """Without [DONE] it is no answer."""
    recorder, _ = recorded(chunk("[DONE]"))
    with pytest.raises(EngineError, match="broke off"):
        recorder.finished(0)


@pytest.mark.parametrize("fault", [event(error={"message": "out of memory"}), event(error="out of memory")])
def test_a_failure_that_the_engine_reports(fault: bytes) -> None:
    """It is raised; what broke is not handed on as an answer."""
    with pytest.raises(EngineError, match="out of memory"):
        recorded(chunk("a"), fault)
