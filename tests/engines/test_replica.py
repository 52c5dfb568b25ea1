"""When an engine that ends again and again is left alone, however long it takes to load."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from inhouse.core import ReplicaReport
from inhouse.engines import replica
from inhouse.engines.engine import Command, Spec
from inhouse.engines.http import Address
from inhouse.engines.member import Member
from inhouse.engines.openai import OPENAI
from inhouse.engines.replica import Replica

SLOW = """
import http.server, os, sys, threading, time
time.sleep(0.6)
ends = threading.Timer(float(sys.argv[2]), lambda: os._exit(3))
class Door(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if not ends.ident:
            ends.start()
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Door).serve_forever()
"""


async def lives(folder: Path, monkeypatch: pytest.MonkeyPatch, up_s: float, count: int) -> list[str]:
    """The states that it enters until it was ready `count` times or has failed. Being ready for 0.4 s is enough, and
    loading alone takes longer."""
    monkeypatch.setattr(replica, "_STABLE_S", 0.4)
    told: list[str] = []
    over = asyncio.Event()

    def report(what: ReplicaReport) -> None:
        told.append(what.state)
        if what.state == "failed" or told.count("ready") == count:
            over.set()

    def argv(spec: Spec, address: Address) -> Command:
        return Command((sys.executable, "-c", SLOW, str(address.port), str(up_s)))

    member = Member("m", replace(OPENAI, argv=argv), 1)
    spec = Spec("m", folder, context_tokens=512, slots=1, threads=1)
    one = Replica(spec, folder, member, start_s_max=20, silence_s_max=5, crashes_max=3, crash_pause_s=60, report=report)
    running = asyncio.create_task(one.run())
    try:
        async with asyncio.timeout(40):
            await over.wait()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return told


async def test_it_loads_for_long_and_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that it loads is none that it was up."""
    told = await lives(tmp_path, monkeypatch, 0.2, 5)
    assert told.count("ready") == 3
    assert "failed" in told


async def test_it_is_up_for_long_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is started again each time."""
    told = await lives(tmp_path, monkeypatch, 1.0, 5)
    assert told.count("ready") == 5
    assert "failed" not in told
