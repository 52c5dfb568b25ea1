"""Section `gateway`: what the gateway adds per request and per chunk, on one core, beside a plain nginx.

Subjects take turns within a round, so that a slow minute of the machine slows all of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from statistics import median

from benchmarks.first_light import machine, requests, subjects
from benchmarks.first_light.errors import SkippedError
from benchmarks.first_light.processes import cpu_s, memory, trim_logs
from benchmarks.first_light.settings import Settings
from benchmarks.first_light.subjects import PACE_US, Subject
from benchmarks.first_light.tables import Row, Table
from benchmarks.first_light.tools import Load

PACED_STREAMS = 200
WARM_UP_S = 0.3


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load; `figures` are what is read off it."""

    name: str
    connections: int
    figures: tuple[Figure, ...]
    model: str = "bench"
    stream: bool = False
    tokens: int = 1
    body_bytes: int = requests.SMALL_BYTES


@dataclass(frozen=True, slots=True)
class Measurement:
    load: Load
    cpu_s: float
    has_cpu: bool


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantity of a scenario; `read` gives None where there is nothing to say."""

    name: str
    unit: str
    read: Callable[[Measurement], float | None]
    added: bool = False
    """Shown a second time as the difference to `direct`."""


def _cpu_per_request(m: Measurement) -> float | None:
    return m.cpu_s / m.load.requests * 1e6 if m.has_cpu else None


def _cpu_per_chunk(m: Measurement) -> float | None:
    return m.cpu_s / m.load.events * 1e6 if m.has_cpu else None


def _busy(m: Measurement) -> float | None:
    return 100 * m.cpu_s / m.load.elapsed_s if m.has_cpu else None


RATE = Figure("requests", "1/s", lambda m: m.load.requests_per_s)
CPU = Figure("CPU per request", "µs", _cpu_per_request)
BUSY = Figure("busy", "% of core", _busy)
CHUNK_CPU = Figure("CPU per chunk", "µs", _cpu_per_chunk)
TTFT_50 = Figure("TTFT p50", "µs", lambda m: m.load.ttft_us.p50 if m.load.ttft_us else None, added=True)
TTFT_99 = Figure("TTFT p99", "µs", lambda m: m.load.ttft_us.p99 if m.load.ttft_us else None)
GAP_99 = Figure("gap p99", "µs", lambda m: m.load.gap_us.p99 if m.load.gap_us else None)
LATENCY_50 = Figure("latency p50", "µs", lambda m: m.load.latency_us.p50, added=True)
LATENCY_99 = Figure("latency p99", "µs", lambda m: m.load.latency_us.p99, added=True)
CHUNKS = Figure("chunks", "1/s", lambda m: m.load.events_per_s)

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
        model="paced",
        stream=True,
        tokens=0,  # as many as the time allows
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
    taken: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for scenario in SCENARIOS:
        say(f"gateway: {scenario.name}")
        for _ in range(settings.rounds):
            for subject in found:
                measurement = _run(settings, scenario, subject, core, settings.seconds)
                for figure in scenario.figures:
                    value = figure.read(measurement)
                    if value is not None:
                        taken[scenario.name, figure.name][subject.name].append(value)
    for scenario in SCENARIOS:
        for figure in scenario.figures:
            rounds = taken[scenario.name, figure.name]
            values = {name: median(figures) for name, figures in rounds.items()}
            compared = figure is not BUSY
            table.rows.append(Row(f"{scenario.name}: {figure.name}", figure.unit, values, compared, dict(rounds)))
            if figure.added:
                table.rows.append(_added(scenario, figure, rounds))
    peaks = {subject.name: memory(subject.pids()).peak_mib for subject in found if subject.pids()}
    table.rows.append(Row("memory at most (RSS)", "MiB", dict(peaks)))
    table.notes.append(
        "The gateway lets its engine stream also where the client does not; a busy share well below 100 % at c32 or in "
        "the burst means that the load's core was the limit, and CPU per request or chunk is the figure to read."
    )


def _added(scenario: Scenario, figure: Figure, rounds: dict[str, list[float]]) -> Row:
    """What a subject adds to `direct`, round by round."""
    base = rounds["direct"]
    added = {
        name: [value - under for value, under in zip(values, base, strict=True)]
        for name, values in rounds.items()
        if name != "direct"
    }
    values = {name: median(figures) for name, figures in added.items()}
    return Row(f"{scenario.name}: added {figure.name}", figure.unit, dict(values), rounds=added)


def _run(settings: Settings, scenario: Scenario, subject: Subject, core: int, seconds: float) -> Measurement:
    paced = scenario.model == "paced"
    request = requests.chat(
        scenario.model,
        subjects.key_of(subject.name),
        stream=scenario.stream,
        tokens=scenario.tokens or max(1, round(seconds * 1e6 / PACE_US)),
        body_bytes=scenario.body_bytes,
    )
    pids = subject.pids()
    before = cpu_s(pids)
    load = settings.tools.load(
        subject.addresses[scenario.model],
        request,
        connections=scenario.connections,
        seconds=seconds,
        requests=scenario.connections if paced else None,
        stream=scenario.stream,
        core=core,
    )
    used_s = cpu_s(pids) - before
    trim_logs(settings.tools.folder)
    return Measurement(load, used_s, bool(pids))
