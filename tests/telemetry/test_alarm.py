"""A fault that lasts is told, and does not drown the log."""

from __future__ import annotations

import io
import json

from inhouse.telemetry.alarm import EVERY_S, Alarm
from inhouse.telemetry.log import Log


def test_a_fault_is_told_when_it_begins_and_then_once_in_a_while() -> None:
    """However often it is met; another fault is another line."""
    out, at = io.StringIO(), [1000.0]
    log = Log(form="json", stream=out)
    alarm = Alarm(log, clock=lambda: at[0])
    for passed_s in (0.0, 0.1, EVERY_S - 0.2, 0.2):
        at[0] += passed_s
        for _ in range(3):
            alarm.state("the disk is full")
    alarm.tell("internal error", fault="KeyError at f:1")
    log.close()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("state folder", "error"),
        ("state folder", "error"),
        ("internal error", "error"),
    ]
    assert lines[0]["reason"] == "the disk is full"
