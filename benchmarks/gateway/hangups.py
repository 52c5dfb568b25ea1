"""Section `hang-ups`: of the clients that leave early, how many does the engine learn of?

An engine that does not learn of it goes on generating for nobody. The mock engine counts who left before their answer
was whole. Once mid-stream, once before the document of a request that does not stream.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.gateway.peers import line_up
from benchmarks.gateway.settings import Settings
from benchmarks.gateway.subjects import MODEL, Engines
from benchmarks.rig import requests
from benchmarks.rig.errors import FailedError
from benchmarks.rig.figures import PACE_US
from benchmarks.rig.subject import Subject
from benchmarks.rig.tables import Row, Table

CLIENTS = 32
ANSWER_S = 6.0
"""How long the answers would take that nobody waits for."""
NOTICE_S = 2.0
"""Within this long the engine must know."""
ARRIVAL_S_MAX = 20.0
MID_STREAM, NO_STREAM = "left mid-stream: passed on", "left before a whole answer: passed on"
RUNNING, ABORTED = "vllm:num_requests_running", "mock:aborted_total"
_POLL_S = 0.01


def measure(settings: Settings, say: Callable[[str], None]) -> Table:
    table = Table("hang-ups", f"{CLIENTS} clients leave; the share that the engines learn of within {NOTICE_S:g} s")
    shares: dict[str, dict[str, float | None]] = {MID_STREAM: {}, NO_STREAM: {}}
    with line_up(settings, table) as (behind, found):
        for subject in found:
            say(f"hang-ups: {subject.name}")
            for what, stream in ((MID_STREAM, True), (NO_STREAM, False)):
                shares[what][subject.name] = 100 * _passed_on(subject, behind, stream=stream) / CLIENTS
    table.ratios = []
    table.rows = [Row(what, "%", values) for what, values in shares.items()]
    return table


def _passed_on(subject: Subject, behind: Engines, *, stream: bool) -> int:
    pace = f"pace-us {PACE_US} " if stream else f"wait-us {ANSWER_S * 1e6:.0f} "
    tokens = round(ANSWER_S * 1e6 / PACE_US)
    request = requests.chat(
        MODEL, subject.key, stream=stream, tokens=tokens, body_bytes=requests.SMALL_BYTES, prompt=pace
    )
    _wait(lambda: behind.count(RUNNING) == 0, ANSWER_S + NOTICE_S)  # what was not passed on
    before = behind.count(ABORTED)
    host, _, port = subject.addresses[MODEL].partition(":")
    with ExitStack() as clients:
        lines = [clients.enter_context(socket.create_connection((host, int(port)), 10)) for _ in range(CLIENTS)]
        for line in lines:
            line.settimeout(ARRIVAL_S_MAX)
            line.sendall(request)
        if stream:
            for line in lines:
                _read_until(line, b"data: ")
        elif not _wait(lambda: behind.count(RUNNING) >= CLIENTS, ARRIVAL_S_MAX):
            raise FailedError(
                f"{subject.name} brought {behind.count(RUNNING)} of {CLIENTS} requests to the engines at once"
            )
    _wait(lambda: behind.count(ABORTED) - before >= CLIENTS, NOTICE_S)
    return behind.count(ABORTED) - before


def _read_until(line: socket.socket, wanted: bytes) -> None:
    seen = b""
    while wanted not in seen:
        piece = line.recv(65536)
        if not piece:
            raise FailedError(f"no stream came: {seen[:200]!r}")
        seen += piece


def _wait(fact: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    until = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > until:
            return False
        time.sleep(_POLL_S)
    return True
