"""Sections `requests` and `streams`: what a subject can do on one core, and what it adds to latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.gateway.peers import FASTAPI, LITELLM, ROUTER_CACHE, line_up
from benchmarks.gateway.settings import Settings
from benchmarks.gateway.subjects import MODEL
from benchmarks.rig import figures, requests
from benchmarks.rig.figures import (
    BUSY,
    CHUNK_CPU,
    CHUNKS,
    CPU,
    GAP_99,
    LATENCY_50,
    LATENCY_99,
    OTHERS,
    PACE_US,
    RATE,
    TTFT_50,
    TTFT_99,
    Measurement,
    Scenario,
)
from benchmarks.rig.processes import memory, pin
from benchmarks.rig.subject import Subject
from benchmarks.rig.tables import Row, Table

PACED_STREAMS = 500
LONG_BODY_BYTES = 300_000
"""75,000 tokens at 4 bytes each."""
WARM_UP_S = 0.5
GRACE_S = 40.0
AT_MOST = "memory at most: RSS"

ONE = Scenario("c1", 1, (LATENCY_50, LATENCY_99, CPU))
ONE_BESIDE = Scenario("c1, on the engine's core", 1, (LATENCY_50, LATENCY_99), beside=True)
MANY = Scenario("c32", 32, (RATE, CPU, BUSY, OTHERS, LATENCY_50, LATENCY_99))
SWEEP = tuple(Scenario(f"c{count}", count, (RATE,)) for count in (8, 16, 64))
LONG_BODY = Scenario("c8, body of 75,000 tokens", 8, (RATE, CPU), body_bytes=LONG_BODY_BYTES)
REQUESTS = (ONE, ONE_BESIDE, MANY, *SWEEP, LONG_BODY)

FIRST_TOKEN = Scenario("c1, streamed, on the engine's core", 1, (TTFT_50,), stream=True, tokens=8, beside=True)
BURST = Scenario("64 streams at once", 64, (CHUNKS, CHUNK_CPU, BUSY, OTHERS), stream=True, tokens=100)
PACED = Scenario(
    f"{PACED_STREAMS} streams, {1_000_000 // PACE_US} chunks/s each",
    PACED_STREAMS,
    (CHUNK_CPU, BUSY, OTHERS, TTFT_50, TTFT_99, GAP_99),
    stream=True,
    paced=True,
)
STREAMS = (FIRST_TOKEN, BURST, PACED)

_LEFT_OUT = {
    LITELLM: {*(scenario.name for scenario in SWEEP), PACED.name},
    ROUTER_CACHE: {*(scenario.name for scenario in SWEEP)},
    FASTAPI: {*(scenario.name for scenario in SWEEP), PACED.name},
}
"""What would take a slow peer minutes, what it cannot keep up with at all, and what one policy of two says already."""


def measure_requests(settings: Settings, say: Callable[[str], None]) -> Table:
    table = Table("requests", f"one process on core {settings.core}; engines and client on core {settings.load_core}")
    return _measure(settings, say, table, REQUESTS)


def measure_streams(settings: Settings, say: Callable[[str], None]) -> Table:
    table = Table("streams", f"one process on core {settings.core}; engines and client on core {settings.load_core}")
    return _measure(settings, say, table, STREAMS)


def _measure(settings: Settings, say: Callable[[str], None], table: Table, scenarios: Sequence[Scenario]) -> Table:
    with line_up(settings, table) as (_, found):
        for subject in found:
            _run(settings, MANY, subject, WARM_UP_S)

        def one(scenario: Scenario, subject: Subject) -> Measurement | None:
            if scenario.name in _LEFT_OUT.get(subject.name, ()):
                return None
            return _run(settings, scenario, subject, settings.seconds)

        taken = figures.take_turns(
            scenarios, found, settings.rounds, one, lambda scenario: say(f"{table.name}: {scenario}")
        )
        table.rows += figures.rows(scenarios, taken)
        peaks = {subject.name: memory(subject.pids()).peak_mib for subject in found if subject.pids()}
        table.rows.append(Row(AT_MOST, "MiB", dict(peaks)))
    for name, without in _LEFT_OUT.items():
        gone = [scenario.name for scenario in scenarios if scenario.name in without]
        if gone and name in table.columns:
            table.notes.append(f"{name} is left out of {', '.join(gone)}.")
    if settings.core == settings.load_core:
        table.notes.append("This machine has one core, shared by everything: requests/s are not those of a core.")
    return table


def _run(settings: Settings, scenario: Scenario, subject: Subject, seconds: float) -> Measurement:
    request = requests.chat(
        MODEL,
        subject.key,
        stream=scenario.stream,
        tokens=scenario.tokens_in(seconds),
        body_bytes=scenario.body_bytes,
        prompt=f"pace-us {PACE_US} " if scenario.paced else "",
    )
    core = settings.load_core if scenario.beside else settings.core
    pin(subject.pids(), core)
    try:
        return figures.run(
            settings.tools,
            scenario,
            subject,
            subject.addresses[MODEL],
            request,
            core=settings.load_core,
            seconds=seconds,
            grace_s=GRACE_S,
            own_core=None if core == settings.load_core else core,
        )
    finally:
        pin(subject.pids(), settings.core)
