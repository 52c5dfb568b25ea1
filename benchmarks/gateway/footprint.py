"""Section `memory`: what a subject holds at rest, and after very many requests."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.gateway.peers import line_up
from benchmarks.gateway.settings import Settings
from benchmarks.gateway.speed import AT_MOST
from benchmarks.gateway.subjects import MODEL
from benchmarks.rig import requests
from benchmarks.rig.processes import memory
from benchmarks.rig.tables import Row, Table

CONNECTIONS = 32
PATIENCE = 10
"""Measurements' lengths that a subject may take for them; who is slower is looked at after fewer."""
AT_REST = "at rest: RSS"


def measure(settings: Settings, say: Callable[[str], None]) -> Table:
    table = Table("memory", f"fresh processes, {CONNECTIONS} connections")
    rest, after, most = (dict[str, float | None]() for _ in range(3))
    with line_up(settings, table) as (_, found):
        for subject in found:
            if not subject.pids():
                continue
            say(f"memory: {subject.name}")
            rest[subject.name] = memory(subject.pids()).rss_mib
            request = requests.chat(MODEL, subject.key, stream=False, tokens=8, body_bytes=requests.SMALL_BYTES)
            load = settings.tools.load(
                subject.addresses[MODEL],
                request,
                connections=CONNECTIONS,
                seconds=PATIENCE * settings.seconds,
                requests=settings.memory_requests,
                core=settings.load_core,
            )
            seen = memory(subject.pids())
            after[subject.name] = seen.rss_mib
            most[subject.name] = seen.peak_mib
            if load.requests < settings.memory_requests:
                table.notes.append(f"{subject.name} is looked at after {load.requests:,} requests: it is slower.")
    table.rows = [
        Row(AT_REST, "MiB", rest),
        Row(f"after {settings.memory_requests:,} requests: RSS", "MiB", after),
        Row(AT_MOST, "MiB", most),
    ]
    return table
