"""Section `gateway`: what the gateway adds per request and per chunk, on one core, beside a plain nginx."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from benchmarks.first_light import subjects
from benchmarks.first_light.settings import Settings
from benchmarks.rig import figures, machine, requests
from benchmarks.rig.errors import SkippedError
from benchmarks.rig.figures import (
    BUSY,
    CHUNK_CPU,
    CHUNKS,
    CPU,
    GAP_99,
    LATENCY_50,
    LATENCY_99,
    PACE_US,
    RATE,
    TTFT_50,
    TTFT_99,
    Measurement,
    Scenario,
)
from benchmarks.rig.processes import memory
from benchmarks.rig.subject import Subject
from benchmarks.rig.tables import Row, Table

PACED_STREAMS = 200
WARM_UP_S = 0.3

SCENARIOS = (
    Scenario("c1, 1 KB", 1, (LATENCY_50, LATENCY_99, CPU)),
    Scenario("c1, 1 KB, streamed, 8 tokens", 1, (TTFT_50, LATENCY_50, CPU), stream=True, tokens=8),
    Scenario("c32, 1 KB", 32, (RATE, CPU, BUSY, LATENCY_99)),
    Scenario("c32, 1 KB, 16 tokens", 32, (RATE, CPU, BUSY), tokens=16),
    Scenario("c32, 32 KB", 32, (RATE, CPU, BUSY), body_bytes=requests.LARGE_BYTES),
    Scenario("c32, 1 KB, streamed, 8 tokens", 32, (RATE, CPU, BUSY), stream=True, tokens=8),
    Scenario("burst, 64 × 100 tokens", 64, (CHUNKS, CHUNK_CPU, BUSY, TTFT_99), stream=True, tokens=100),
    Scenario(
        f"paced, {PACED_STREAMS} × {1_000_000 // PACE_US} tokens/s",
        PACED_STREAMS,
        (CHUNK_CPU, BUSY, TTFT_50, TTFT_99, GAP_99),
        stream=True,
        paced=True,
    ),
)


def measure(settings: Settings, say: Callable[[str], None]) -> Table:
    """Raises SkippedError on a machine with one core."""
    pinned = machine.cores()
    if pinned is None:
        raise SkippedError("this needs two cores: one for what is measured, one for the load")
    core, load_core = pinned
    table = Table("gateway", f"one process on core {core}; mock engine and client on core {load_core}")
    with ExitStack() as stack:
        engines = stack.enter_context(subjects.direct(settings, load_core))
        found = [engines, stack.enter_context(subjects.gateway_before_mock(settings, core, load_core))]
        peers: tuple[Callable[[], AbstractContextManager[Subject]], ...] = (
            lambda: subjects.nginx(settings, core, load_core),
            lambda: subjects.litellm(settings, core, engines),
        )
        for start in peers:
            try:
                found.append(stack.enter_context(start()))
            except SkippedError as absent:
                table.notes.append(f"left out: {absent}")
        _fill(table, settings, found, load_core, say)
    return table


def _fill(table: Table, settings: Settings, found: list[Subject], core: int, say: Callable[[str], None]) -> None:
    table.columns = [subject.name for subject in found]
    table.ratios = [("gateway", name) for name in table.columns if name != "gateway"]
    for subject in found:
        _run(settings, SCENARIOS[2], subject, core, WARM_UP_S)
    taken = figures.take_turns(
        SCENARIOS,
        found,
        settings.rounds,
        lambda scenario, subject: _run(settings, scenario, subject, core, settings.seconds),
        lambda scenario: say(f"gateway: {scenario}"),
    )
    table.rows += figures.rows(SCENARIOS, taken)
    peaks = {subject.name: memory(subject.pids()).peak_mib for subject in found if subject.pids()}
    table.rows.append(Row("memory at most (RSS)", "MiB", dict(peaks)))
    table.notes.append(
        "The gateway lets its engine stream also where the client does not; a busy share well below 100 % at c32 or in "
        "the burst means that the load's core was the limit, and CPU per request or chunk is the figure to read."
    )


def _run(settings: Settings, scenario: Scenario, subject: Subject, core: int, seconds: float) -> Measurement:
    model = "paced" if scenario.paced else "bench"
    request = requests.chat(
        model,
        subject.key,
        stream=scenario.stream,
        tokens=scenario.tokens_in(seconds),
        body_bytes=scenario.body_bytes,
    )
    return figures.run(settings.tools, scenario, subject, subject.addresses[model], request, core=core, seconds=seconds)
