"""The audit between the requests and the disk: nothing waits for it, nothing is lost in silence, memory is bounded."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_args

import pytest

from inhouse.core import Usage
from inhouse.errors import StateError
from inhouse.telemetry.audit import RETRY_S, Audit, record_of
from inhouse.telemetry.audit_page import LOOKED_AT_MAX, Wanted, matching, page
from inhouse.telemetry.entry import FACTS, Entry, FactName
from inhouse.telemetry.record import ACTS, ActName, Record

TEXT_FIELDS = {"kind", "id", "api", "tenant", "key", "model", "client", "code", "act", "by", "target", "digest"}


class FakeSink:
    """A disk that can be full, or stand still."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.full = False
        self.moves = threading.Event()
        self.moves.set()
        self.asked = threading.Event()

    def append(self, bodies: Sequence[bytes]) -> None:
        self.asked.set()
        assert self.moves.wait(30)
        if self.full:
            raise StateError("the disk is full")
        self.records += map(json.loads, bodies)


class Desk:
    """An audit with a clock and a disk of its own."""

    def __init__(self, *, pending_max: int = 1000, refuse: bool = False) -> None:
        self.sink = FakeSink()
        self.now_s = 0.0
        self.told: list[str] = []
        self.writer = ThreadPoolExecutor(1)
        self.audit = Audit(
            self.sink, pending_max=pending_max, refuse=refuse, tell=self.told.append,
            clock=lambda: self.now_s, wall_clock=lambda: 1000.0 + self.now_s, writer=self.writer,
        )  # fmt: skip

    def flushed(self) -> None:
        """Two flushes with a finished write between them, past any pause."""
        self.now_s += 2 * RETRY_S
        self.sink.asked.clear()
        self.audit.flush()
        if self.audit.reading().pending:
            assert self.sink.asked.wait(30)
        self.written()

    def written(self) -> None:
        """Waits for the thread by giving it one more thing to do after the write."""
        self.audit._writer.submit(lambda: None).result(30)
        self.now_s += 2 * RETRY_S
        self.audit.flush()
        self.audit._writer.submit(lambda: None).result(30)

    @property
    def ids(self) -> list[str]:
        return [record.get("id", record.get("act", "")) for record in self.sink.records]


def entry(request_id: str) -> Entry:
    made = Entry(request_id, "chat", 1.0)
    made.status, made.ended_s = 200, 2.0
    return made


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_request_s_record() -> None:
    """Has what the entry says, in seconds since 1970, and leaves out what is not there."""
    made = Entry("id-1", "chat", 10.0)
    made.key_id, made.tenant, made.model, made.client = "k", "acme", "m", "10.0.0.1"
    made.status, made.waited_s, made.first_token_s, made.ended_s = 200, 0.5, 11.0, 12.5
    made.usage, made.money = Usage(3, 2, 1), 7
    made.note("credential", "expired")
    assert record_of(made, 1000.0) == Record(
        time=1012.5, kind="request", id="id-1", api="chat", tenant="acme", key="k", model="m", client="10.0.0.1",
        status=200, prompt_tokens=3, cached_tokens=1, completion_tokens=2, money_micros=7, queue_s=0.5,
        first_token_s=1.0, total_s=2.5, facts={"credential": "expired"},
    )  # fmt: skip


def test_there_is_no_field_for_content() -> None:
    """Every text of a record has a name that is known here; whoever adds one has to think of what may be in it."""
    fields = {name for name in Record.__struct_fields__ if "str" in str(Record.__annotations__[name])}
    assert fields - {"facts"} <= TEXT_FIELDS
    assert set(FACTS) == set(get_args(FactName))
    assert set(ACTS) == set(get_args(ActName))


def test_records_in_their_order(desk: Desk) -> None:
    """Requests and acts, over several batches; the last ones at the end."""
    desk.audit.act("gateway.started")
    for batch in range(3):
        for number in range(5):
            desk.audit.book(entry(f"{batch}.{number}"))
        desk.flushed()
    desk.audit.act("gateway.stopped")
    desk.audit.close()
    expected = [f"{batch}.{number}" for batch in range(3) for number in range(5)]
    assert desk.ids == ["gateway.started", *expected, "gateway.stopped"]
    reading = desk.audit.reading()
    assert (reading.written, reading.lost, reading.pending, reading.failing) == (17, 0, 0, False)


def test_a_disk_that_is_full_for_a_while(desk: Desk) -> None:
    """Nothing is lost and nothing is out of order; the trouble is told once, and its end."""
    desk.sink.full = True
    for number in range(5):
        desk.audit.book(entry(str(number)))
        desk.flushed()
    assert desk.audit.reading().failing
    assert not desk.audit.refusing
    desk.sink.full = False
    desk.flushed()
    desk.flushed()
    assert desk.ids == ["0", "1", "2", "3", "4"]
    assert desk.told == ["the disk is full", ""]
    assert not desk.audit.reading().failing


def test_more_than_may_wait() -> None:
    """The newest are lost and counted, and the chain says how many once it can be written."""
    desk = Desk(pending_max=10)
    desk.sink.full = True
    for number in range(25):
        desk.audit.book(entry(str(number)))
        if number % 5 == 4:
            desk.flushed()
            assert desk.audit.reading().pending <= 20
    reading = desk.audit.reading()
    assert reading.lost == 15
    desk.sink.full = False
    desk.flushed()
    desk.audit.book(entry("after"))
    desk.flushed()
    desk.audit.close()
    assert desk.ids[:10] == [str(number) for number in range(10)]
    assert sorted(desk.ids[10:]) == ["after", "audit.lost"]
    assert next(record for record in desk.sink.records if record.get("act"))["facts"] == {"records": 15}
    assert desk.audit.reading().lost == 15


def test_a_disk_that_stands_still(desk: Desk) -> None:
    """Booking and flushing go on; memory stays bounded; all is written once it moves."""
    desk.sink.moves.clear()
    desk.audit.book(entry("first"))
    desk.audit.flush()
    assert desk.sink.asked.wait(30)
    for number in range(5):
        desk.audit.book(entry(str(number)))
        desk.audit.flush()
    assert desk.ids == []
    assert desk.audit.reading().pending == 6
    desk.sink.moves.set()
    desk.audit.close()
    assert desk.ids == ["first", "0", "1", "2", "3", "4"]


def test_refusing_while_it_cannot_be_written() -> None:
    """Begins when a write failed, or when no more may wait; ends when it works again."""
    desk = Desk(pending_max=3, refuse=True)
    desk.sink.full = True
    desk.audit.book(entry("a"))
    desk.flushed()
    assert desk.audit.refusing
    desk.sink.full = False
    desk.flushed()
    assert not desk.audit.refusing
    desk.sink.moves.clear()
    for number in range(8):
        desk.audit.book(entry(str(number)))
    assert desk.audit.refusing
    desk.sink.moves.set()
    desk.flushed()
    desk.flushed()
    assert not desk.audit.refusing
    assert desk.ids[:4] == ["a", "0", "1", "2"]


def test_no_audit() -> None:
    """Without a sink nothing gathers and nothing is refused."""
    audit = Audit(None, pending_max=1, refuse=True, tell=lambda reason: None, clock=lambda: 0.0)
    for number in range(5):
        audit.book(entry(str(number)))
        audit.act("audit.read")
        audit.flush()
    reading = audit.reading()
    assert (reading.pending, reading.lost, audit.refusing) == (0, 0, False)
    audit.close()


def lines(*records: dict[str, Any]) -> list[bytes]:
    return [
        json.dumps({"seq": seq, "time": float(seq), "kind": "request", **record, "hash": "h"}).encode()
        for seq, record in enumerate(records, start=1)
    ]


def found(wanted: Wanted, *records: dict[str, Any]) -> list[int]:
    return [json.loads(line)["seq"] for line in matching(lines(*records), wanted)]


def test_what_is_wanted() -> None:
    """Each filter by itself, and two together."""
    records: tuple[dict[str, Any], ...] = (
        {"tenant": "a", "key": "k1", "status": 200, "id": "x"},
        {"tenant": "b", "key": "k1", "status": 429, "model": "m"},
        {"tenant": "b", "key": "k2", "status": 404},
        {"kind": "act", "act": "key.revoked", "by": "k1", "target": "k2"},
    )
    assert found(Wanted(), *records) == [1, 2, 3, 4]
    assert found(Wanted(tenant="b"), *records) == [2, 3]
    assert found(Wanted(key="k2"), *records) == [3, 4], "a key as the caller, and as what an act was done to"
    assert found(Wanted(key="k1"), *records) == [1, 2, 4]
    assert found(Wanted(status="429"), *records) == [2]
    assert found(Wanted(status="4xx"), *records) == [2, 3]
    assert found(Wanted(kind="act"), *records) == [4]
    assert found(Wanted(model="m"), *records) == [2]
    assert found(Wanted(request="x"), *records) == [1]
    assert found(Wanted(since=2.0, until=4.0), *records) == [2, 3]
    assert found(Wanted(tenant="b", status="404"), *records) == [3]


def test_pages() -> None:
    """Put together they are all that is wanted, each once, whatever the page's size; a rare record is reached too."""
    every = lines(*({"tenant": "rare" if seq % 97 == 0 else "usual"} for seq in range(1, 501)))[::-1]
    for wanted, limit in ((Wanted(), 7), (Wanted(tenant="rare"), 2), (Wanted(tenant="rare"), 100)):
        seen: list[int] = []
        before: int | None = 501
        while before is not None:
            rest = [line for line in every if json.loads(line)["seq"] < before]
            one = page(rest, wanted, limit=limit, looked_at_max=50)
            assert len(one.lines) <= limit
            seen += [json.loads(line)["seq"] for line in one.lines]
            before = one.before
        assert seen == [json.loads(line)["seq"] for line in matching(every, wanted)]
    assert LOOKED_AT_MAX > 1000


def test_a_line_that_somebody_broke() -> None:
    """Is passed over here; `audit verify` names it."""
    assert len(page([b"{broken", *lines({})], Wanted(), limit=10).lines) == 1
