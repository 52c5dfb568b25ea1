"""The log between the requests and whoever reads it."""

from __future__ import annotations

import io
import json
import threading

from inhouse.telemetry.log import Log

TIMEOUT_S = 30.0


class Reader(io.StringIO):
    """Somebody who does not read for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.reads = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.asked.set()
        assert self.reads.wait(TIMEOUT_S)
        return super().write(text)


def test_nobody_reads() -> None:
    """Memory is bounded, nothing waits, and how many lines are missing is told once they are read again."""
    reader = Reader()
    log = Log(form="json", stream=reader)
    log.event("info", "first")
    log.flush()
    assert reader.asked.wait(TIMEOUT_S)
    for number in range(30_000):
        log.event("info", "later", number=number)
        if number % 100 == 0:
            log.flush()
    assert len(log._lines) == 10_000
    reader.reads.set()
    log.close()
    told = [json.loads(line) for line in reader.getvalue().splitlines()]
    assert [line["event"] for line in told] == ["first", *["later"] * 10_000, "log lines dropped"]
    assert [line["number"] for line in told[1:-1]] == list(range(10_000))
    assert told[-1]["lines"] == 20_000


def test_the_end() -> None:
    """What was logged after the last flush, and while it was written, is out when `close` returns."""
    reader = Reader()
    log = Log(form="json", stream=reader)
    log.event("info", "a")
    log.flush()
    log.event("info", "b")
    log.flush()
    threading.Timer(0.05, reader.reads.set).start()
    log.close()
    assert [json.loads(line)["event"] for line in reader.getvalue().splitlines()] == ["a", "b"]
