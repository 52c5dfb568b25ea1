"""A call made ready for its turn: the engine counts only where it has to, and once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any, cast

import msgspec
import pytest

from inhouse.admission.context_fit import REJECTING, Fit
from inhouse.config import Stack
from inhouse.core import Identity
from inhouse.dispatch.lane import Lane
from inhouse.dispatch.prepare import prepare
from inhouse.engines.table import ENGINES
from inhouse.errors import ContextTooLong, Forbidden, RateLimited
from inhouse.store.ledger_memory import MemoryLedger
from inhouse.telemetry.entry import Entry
from inhouse.tenancy.quotas import Quotas
from inhouse.wire import openai_chat
from inhouse.wire.call import Call

CONTEXT = 1000
ME = Identity("key", "acme")


class Reply:
    def __init__(self, body: bytes, status: int = 200) -> None:
        self.status = status
        self._body = body

    async def read(self) -> bytes:
        return self._body


class Engine:
    """Counts a token for every four bytes of what is said, and how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.otherwise: Reply | None = None

    async def request(self, method: bytes, path: bytes, body: bytes) -> Reply:
        assert path == b"/v1/chat/completions/input_tokens"
        self.asked += 1
        await asyncio.sleep(0)
        if self.otherwise is not None:
            return self.otherwise
        said = sum(len(message["content"].encode()) for message in json.loads(body)["messages"])
        return Reply(msgspec.json.encode({"input_tokens": said // 4}))


class FakeLane:
    model = "m"
    context_tokens = CONTEXT
    ready = True
    engine = ENGINES["llamacpp"]

    def __init__(self, fit: Fit) -> None:
        self.fit = fit
        self.lacks: dict[str, str] = {}
        self.counting = asyncio.Semaphore(4)
        self.counter = Engine()

    def asked(self) -> contextlib.AbstractContextManager[Engine]:
        return contextlib.nullcontext(self.counter)


def chat(*texts: str, **fields: Any) -> Call:
    messages = [{"role": "user" if at % 2 == 0 else "assistant", "content": text} for at, text in enumerate(texts)]
    return openai_chat.parse(json.dumps({"model": "m", "messages": messages, **fields}).encode())


def quotas(**limits: Any) -> Quotas:
    stack = Stack.model_validate({"models": {"m": {"source": "demo"}}, "tenants": {"acme": {"limits": limits}}})
    return Quotas(stack, MemoryLedger())


async def prepared(call: Call, fit: Fit, held: Quotas, otherwise: Reply | None = None) -> tuple[Call, int, Entry]:
    """The call, how often the engine was asked, and the request's entry."""
    lane = FakeLane(fit)
    lane.counter.otherwise = otherwise
    entry = Entry("id", "chat", 0.0)
    ready, _, hold = await prepare(held, ME, cast(Lane, lane), call, entry, [])
    with hold:
        return ready, lane.counter.asked, entry


TRIM = Fit("trim", answer_room=100)
LONG = ["x" * 1160] * 5  # 1,450 tokens
HALF = ["x" * 400] * 5  # 500 tokens, 2,000 bytes


async def test_a_prompt_whose_bytes_fit() -> None:
    """Nobody is asked, whatever is set."""
    for fit, limits in ((REJECTING, {}), (TRIM, {}), (TRIM, {"tokens_per_day": 10_000})):
        call = chat("hello")
        ready, asked, _ = await prepared(call, fit, quotas(**limits))
        assert asked == 0
        assert ready.jobs[0].body.startswith(call.jobs[0].body[:-1])


async def test_a_long_prompt_that_may_be_refused() -> None:
    """It goes to the engine as it is, which says so itself."""
    call = chat(*LONG)
    ready, asked, _ = await prepared(call, REJECTING, quotas())
    assert (ready, asked) == (call, 0)


async def test_a_prompt_that_fits_though_its_bytes_do_not_say_so() -> None:
    """It is counted once, also where a quota has to know as well; its answer has the room that is left."""
    ready, asked, entry = await prepared(chat(*HALF), TRIM, quotas(tokens_per_day=10_000))
    assert asked == 1
    assert entry.facts is None
    assert ready.jobs[0].answer_tokens_max == CONTEXT - 500


async def test_a_prompt_that_is_trimmed_under_a_quota() -> None:
    """What is held is the bound of the shorter one, told by the count that proved it."""
    ready, asked, entry = await prepared(chat(*LONG), TRIM, quotas(tokens_per_day=10_000))
    assert asked == 2
    assert entry.facts == {"trimmed_messages": 2, "trimmed_tokens": 580}
    assert ready.jobs[0].answer_tokens_max == CONTEXT - 870


@pytest.mark.parametrize(
    "otherwise", [Reply(b'{"error": "no"}', 400), Reply(b"{}", 404), Reply(b"{}"), Reply(b'{"input_tokens": "\xff"}')]
)
async def test_an_engine_that_does_not_tell(otherwise: Reply) -> None:
    """The prompt goes to it as it is, and what is held is the bound by its bytes."""
    call = chat(*LONG)
    ready, _, entry = await prepared(call, TRIM, quotas(tokens_per_day=10_000), otherwise)
    assert json.loads(ready.jobs[0].body)["messages"] == json.loads(call.jobs[0].body)["messages"]
    assert entry.facts is None


async def test_a_prompt_that_comes_to_a_second_lane() -> None:
    """Only what was left out for that lane is told, beside the notes of others."""
    notes = [(b"x-inhouse-ignored", b"zzz")]
    entry = Entry("id", "chat", 0.0)
    for fit in (Fit("trim", answer_tokens_max=50), Fit("trim", answer_tokens_max=60), REJECTING):
        await prepare(quotas(), ME, cast(Lane, FakeLane(fit)), chat(*LONG, max_tokens=100), entry, notes)
        told = dict(notes)
        assert len(notes) == len(told)
        if fit is REJECTING:
            assert set(told) == {b"x-inhouse-ignored"}
            assert not entry.facts
        else:
            assert told[b"x-inhouse-clamped"] == b"max_tokens=%d, asked=100" % (fit.answer_tokens_max or 0)
            assert b"x-inhouse-trimmed" in told


async def test_a_prompt_whose_last_part_is_denser_than_the_rest() -> None:
    """The estimate is corrected by what the engine counted, until it fits."""
    texts = ["plain " * 8] * 30 + ["é" * 1500]
    ready, asked, entry = await prepared(chat(*texts), TRIM, quotas())
    assert asked <= 6
    assert entry.facts is not None
    said = sum(len(message.content.encode()) for message in ready.jobs[0].source.messages)
    assert said // 4 <= CONTEXT - 100
    assert ready.jobs[0].source.messages[-1].content == texts[-1]


async def test_a_prompt_that_cannot_be_trimmed() -> None:
    """400 with both numbers."""
    with pytest.raises(ContextTooLong) as refused:
        await prepared(chat("x" * 8000), TRIM, quotas())
    assert (refused.value.prompt_tokens, refused.value.context_tokens) == (2000, CONTEXT)


async def test_a_prompt_that_leaves_less_room_than_is_wished_for() -> None:
    """What must stay may take of the answer's room: it is answered in what is left."""
    call = chat("x" * 3800)
    ready, _, _ = await prepared(call, TRIM, quotas())
    assert ready.jobs == call.jobs


async def test_a_client_with_too_many_requests() -> None:
    """It is refused without a count: no smaller number would let it in."""
    held = quotas(requests_per_minute=1, tokens_per_day=100_000)
    lane = FakeLane(REJECTING)
    entry = Entry("id", "chat", 0.0)
    ask = chat("hello", max_tokens=5)
    await prepare(held, ME, cast(Lane, lane), ask, entry, [])
    with pytest.raises(RateLimited):
        await prepare(held, ME, cast(Lane, lane), ask, entry, [])
    assert lane.counter.asked == 0


async def test_a_model_that_the_tenant_may_not_use() -> None:
    """It is refused before anything is counted."""
    stack = Stack.model_validate(
        {"models": {"m": {"source": "demo"}, "o": {"source": "demo"}}, "tenants": {"acme": {"models": ["o"]}}}
    )
    lane = FakeLane(TRIM)
    with pytest.raises(Forbidden):
        await prepare(Quotas(stack, MemoryLedger()), ME, cast(Lane, lane), chat(*LONG), Entry("id", "chat", 0.0), [])
    assert lane.counter.asked == 0


async def test_a_client_that_leaves_while_its_prompt_is_counted() -> None:
    """Its place among those that count is free again."""
    lane = FakeLane(TRIM)
    for _ in range(8):
        work = asyncio.create_task(prepare(quotas(), ME, cast(Lane, lane), chat(*LONG), Entry("id", "chat", 0.0), []))
        await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert lane.counter.asked == 8
    assert not lane.counting.locked()
