"""Loads and what is read off them: scenarios, figures, and the rounds in which the subjects take turns.

Within a round every subject is measured once, so that a slow minute of the machine slows all of them.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.rig import requests
from benchmarks.rig.processes import core_s, cpu_s, trim_logs
from benchmarks.rig.subject import Subject
from benchmarks.rig.tables import Row
from benchmarks.rig.tools import Load, Tools

PACE_US = 50_000
"""Between two chunks of a paced stream: 20 a second, as an engine sends them."""
DIRECT = "direct"
"""The subject that is the engine itself; what others add is the difference to it."""


@dataclass(frozen=True, slots=True)
class Measurement:
    load: Load
    cpu_s: float
    has_cpu: bool
    others_percent: float | None = None
    """What others took of the subject's core meanwhile; None where that was not looked at."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantity of a scenario; `read` gives None where there is nothing to say."""

    name: str
    unit: str
    read: Callable[[Measurement], float | None]
    added: bool = False
    """Shown a second time as the difference to `direct`."""
    compared: bool = True


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load; `figures` are what is read off it."""

    name: str
    connections: int
    figures: tuple[Figure, ...]
    stream: bool = False
    tokens: int = 1
    body_bytes: int = requests.SMALL_BYTES
    paced: bool = False
    """One stream per connection, as long as the measurement, a chunk every PACE_US."""
    beside: bool = False
    """The subject runs on the core of engine and client: no core has to be woken, so that latency is its own work."""

    def tokens_in(self, seconds: float) -> int:
        return max(2, round(seconds * 1e6 / PACE_US)) if self.paced else self.tokens


Rounds = dict[tuple[str, str], dict[str, list[float]]]
"""(scenario, figure) → subject → one value per round."""


def _cpu_per_request(m: Measurement) -> float | None:
    return m.cpu_s / m.load.requests * 1e6 if m.has_cpu else None


def _cpu_per_chunk(m: Measurement) -> float | None:
    return m.cpu_s / m.load.events * 1e6 if m.has_cpu else None


def _busy(m: Measurement) -> float | None:
    return 100 * m.cpu_s / m.load.elapsed_s if m.has_cpu else None


RATE = Figure("requests", "1/s", lambda m: m.load.requests_per_s)
CPU = Figure("CPU per request", "µs", _cpu_per_request)


BUSY = Figure("busy", "% of core", _busy, compared=False)
OTHERS = Figure("core taken by others", "%", lambda m: m.others_percent, compared=False)
CHUNKS = Figure("chunks", "1/s", lambda m: m.load.events_per_s)
CHUNK_CPU = Figure("CPU per chunk", "µs", _cpu_per_chunk)
TTFT_50 = Figure("TTFT p50", "µs", lambda m: m.load.ttft_us.p50 if m.load.ttft_us else None, added=True)
TTFT_99 = Figure("TTFT p99", "µs", lambda m: m.load.ttft_us.p99 if m.load.ttft_us else None)
GAP_99 = Figure("gap p99", "µs", lambda m: m.load.gap_us.p99 if m.load.gap_us else None)
LATENCY_50 = Figure("latency p50", "µs", lambda m: m.load.latency_us.p50, added=True)
LATENCY_99 = Figure("latency p99", "µs", lambda m: m.load.latency_us.p99, added=True)


def added(figure: str) -> str:
    return f"added {figure}"


def run(
    tools: Tools,
    scenario: Scenario,
    subject: Subject,
    address: str,
    request: bytes,
    *,
    core: int,
    seconds: float,
    grace_s: float = 30.0,
    own_core: int | None = None,
) -> Measurement:
    """One measurement, with the load on `core`. Raises FailedError if any request fails.

    `own_core` is the subject's, where nothing else is meant to run: whether that was so is looked at too.
    """
    pids = subject.pids()
    began_s, used_s, taken_s = time.monotonic(), cpu_s(pids), core_s(own_core)
    load = tools.load(
        address,
        request,
        connections=scenario.connections,
        seconds=seconds,
        requests=scenario.connections if scenario.paced else None,
        stream=scenario.stream,
        core=core,
        grace_s=grace_s,
    )
    used_s, taken_s = cpu_s(pids) - used_s, core_s(own_core) - taken_s
    trim_logs(tools.folder)
    others = None
    if own_core is not None and pids:
        others = 100 * max(0.0, taken_s - used_s) / (time.monotonic() - began_s)
    return Measurement(load, used_s, bool(pids), others)


def take_turns(
    scenarios: Sequence[Scenario],
    subjects: Sequence[Subject],
    rounds: int,
    measure: Callable[[Scenario, Subject], Measurement | None],
    say: Callable[[str], None],
) -> Rounds:
    """Every scenario in `rounds` rounds; `measure` gives None where a subject is left out of one."""
    taken: Rounds = defaultdict(lambda: defaultdict(list))
    for scenario in scenarios:
        say(scenario.name)
        for _ in range(rounds):
            for subject in subjects:
                measurement = measure(scenario, subject)
                for figure in scenario.figures if measurement else ():
                    value = figure.read(measurement) if measurement else None
                    if value is not None:
                        taken[scenario.name, figure.name][subject.name].append(value)
    return taken


def rows(scenarios: Sequence[Scenario], taken: Rounds) -> list[Row]:
    """The medians, and beside some of them what a subject adds to `direct`."""
    found = []
    for scenario in scenarios:
        for figure in scenario.figures:
            rounds = taken[scenario.name, figure.name]
            found.append(_row(f"{scenario.name}: {figure.name}", figure, rounds))
            if figure.added and rounds.get(DIRECT):
                found.append(_row(f"{scenario.name}: {added(figure.name)}", figure, _differences(rounds)))
    return found


def _row(name: str, figure: Figure, rounds: Mapping[str, list[float]]) -> Row:
    values = {subject: median(values) for subject, values in rounds.items() if values}
    return Row(name, figure.unit, values, figure.compared, dict(rounds))


def _differences(rounds: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """To `direct` of the same round."""
    base = rounds[DIRECT]
    return {
        name: [value - under for value, under in zip(values, base, strict=False)]
        for name, values in rounds.items()
        if name != DIRECT
    }
