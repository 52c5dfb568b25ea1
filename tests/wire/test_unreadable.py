"""An engine that sends what is no JSON, or no UTF-8."""

from __future__ import annotations

import json
from typing import Any

import pytest

from inhouse.config import RequestsSpec
from inhouse.errors import EngineError
from inhouse.gateway.apis import APIS, parsed
from inhouse.wire.splice import Splice
from inhouse.wire.views import fault_in

USER = [{"role": "user", "content": "Hello"}]
ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": USER, "n": 2},
    "/v1/completions": {"prompt": "Hello"},
    "/v1/responses": {"input": "Hello"},
    "/v1/messages": {"messages": USER, "max_tokens": 9},
    "/generate": {"text": "Hello"},
}
EVENTS = {
    "cut off": b'data: {"choices":[{"delta":\n\n',
    "of another charset": b'data: {"choices":[{"index":0,"text":"\xe9","delta":{"content":"\xe9"}}]}\n\n',
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS)
def test_an_event(event: bytes, path: str, stream: bool) -> None:
    """It is the engine's fault, so the answer may be had elsewhere, and the client hears of no other one."""
    body = json.dumps({"model": "demo", "stream": stream, **ASKED[path]}).encode()
    call, *_ = parsed(APIS[path.encode()], body, RequestsSpec(), "1" * 24, 5.0)
    with pytest.raises(EngineError, match="cannot be read"):
        call.view.events(0, event)


def test_a_fault() -> None:
    """What cannot be read reports none."""
    assert fault_in(b'data: {"error":{"message":"\xe9"}}\n\n') is None


def test_after_a_failover() -> None:
    """Its usage cannot be told as that of the whole answer: the view hears of it as the engine said it."""
    splice = Splice(id="a", created=1, model="demo", tokens=2)
    opened = splice.events(
        b'data: {"id":"b","created":2,"model":"demo","choices":[{"index":0,"delta":{"content":"x"}}]}\n\n'
    )
    assert b'"id":"a"' in opened
    usage = b'data: {"id":"b","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2,"note":"\xe9"}}\n\n'
    assert b"\xe9" in splice.events(usage)
