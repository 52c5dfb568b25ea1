"""The sections in which whole engines answer: through the gateway, built for this CPU, beside peers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

from benchmarks.llamacpp import subjects, taken
from benchmarks.llamacpp.settings import Settings
from benchmarks.llamacpp.subjects import GATEWAY, PACKAGE, PYTHON, SERVER, Running
from benchmarks.llamacpp.taken import Taken, verdict
from benchmarks.rig.errors import FailedError, SkippedError
from benchmarks.rig.tables import Table

BUILT = "built here"
GATEWAY_GOAL = 0.98
BUILD_GOALS = {1: 1.8, 16: 2.5}
"""Where the CPU has AMX."""


def gateway(settings: Settings, say: Callable[[str], None]) -> Table:
    """Two engines are in memory; the one that is not asked costs nothing."""
    streams = (1, 4, 16)
    table = _table(settings, "gateway", "the gateway and its engine, beside llama-server by itself", GATEWAY, SERVER)
    seen: Taken = {}
    with ExitStack() as stack:
        found = [
            stack.enter_context(subjects.server(settings, settings.weights(), max(streams))),
            stack.enter_context(subjects.gateway(settings, settings.weights(), max(streams))),
        ]
        taken.take(settings, found, streams, seen, say)
    table.rows = taken.rows(seen, lambda count, rates: verdict(rates[GATEWAY] / rates[SERVER], GATEWAY_GOAL))
    return table


def native(settings: Settings, say: Callable[[str], None]) -> Table:
    """Raises SkippedError where nothing is built."""
    if settings.native is None:
        raise SkippedError("no engine is built here: `inhouse engine build`")
    table = _table(settings, "native", "a build for this CPU beside the engine in the package", BUILT, PACKAGE)
    seen: Taken = {}
    for name, program in ((PACKAGE, None), (BUILT, settings.native)):
        with subjects.engine(settings, name, settings.weights(), max(BUILD_GOALS), program) as running:
            taken.take(settings, [running], tuple(BUILD_GOALS), seen, say)
    amx = "AMX" in settings.hardware.cpu.features
    table.rows = taken.rows(
        seen, lambda count, rates: verdict(rates[BUILT] / rates[PACKAGE], BUILD_GOALS[count]) if amx else ""
    )
    table.notes.append(f"Instructions: {', '.join(settings.hardware.cpu.features)}.")
    return table


def peers(settings: Settings, say: Callable[[str], None]) -> Table:
    """One after the other, each alone in memory."""
    streams = (1, 4, 8)
    table = _table(settings, "peers", "who else serves the same file, each alone", GATEWAY, SERVER, PACKAGE, PYTHON)
    table.ratios = [(GATEWAY, SERVER), (GATEWAY, PYTHON)]
    seen: Taken = {}
    file = settings.weights()
    starts: tuple[Callable[[], AbstractContextManager[Running]], ...] = (
        lambda: subjects.gateway(settings, file, max(streams)),
        lambda: subjects.server(settings, file, max(streams)),
        lambda: subjects.engine(settings, PACKAGE, file, max(streams), None),
        lambda: subjects.python_server(settings, file),
    )
    for start in starts:
        try:
            with start() as running:
                taken.take(settings, [running], streams, seen, say)
        except SkippedError as absent:
            table.notes.append(f"left out: {absent}")
        except FailedError as failed:
            table.notes.append(f"failed, and what it was not asked for any more is left out: {failed}")
    table.rows = taken.rows(seen)
    return table


def _table(settings: Settings, name: str, title: str, *columns: str) -> Table:
    table = Table(name, f"{title}; {settings.tokens} tokens per answer", list(columns), [(columns[0], columns[1])])
    built = "the one built here" if settings.native is not None else "the one in the package"
    table.notes.append(f"llama-server is {built}; {settings.threads} threads; {settings.weights().name}.")
    return table
