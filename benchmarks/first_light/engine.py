"""Section `engine`: the gateway on against the engine alone, with the real engine and the demo model.

The engine is one and the same process: it is reached through the gateway, or straight on its own unix socket.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from statistics import median

from benchmarks.first_light import subjects
from benchmarks.first_light.settings import Settings
from benchmarks.first_light.subjects import KEY, Gateway
from benchmarks.rig import requests
from benchmarks.rig.processes import cpu_s
from benchmarks.rig.subject import wait_ready
from benchmarks.rig.tables import Row, Table
from benchmarks.rig.tools import Load

STREAMS = (1, 4, 16)
TOKENS = 64
PROMPT = "Hello! What can you tell me about serving language models on machines of one's own?"


def measure(settings: Settings, say: Callable[[str], None]) -> Table:
    table = Table(
        "engine",
        f"the embedded engine with {_named(settings.source)}, {max(STREAMS)} slots, {TOKENS} tokens per answer, "
        "every core for both",
        columns=["direct", "gateway"],
        ratios=[("gateway", "direct")],
    )
    with subjects.gateway(settings, "engine", subjects.demo_models(settings, max(STREAMS))) as running:
        wait_ready(running.address, "bench", running.child, key=KEY)
        for streams in STREAMS:
            say(f"engine: {_streams(streams)}")
            table.rows += _rows(settings, running, streams)
    table.notes.append("Every request has the same prompt, so the engine takes it from its cache after the first.")
    return table


def _rows(settings: Settings, running: Gateway, streams: int) -> list[Row]:
    """All at one number of streams; direct and gateway take turns."""
    request = requests.chat(
        "bench", KEY, stream=True, tokens=TOKENS, prompt=PROMPT, temperature=0, seed=1, ignore_eos=True
    )
    addresses = {"direct": f"unix:{running.engine_socket()}", "gateway": running.address}
    taken: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(settings.rounds):
        for name, address in addresses.items():
            before = cpu_s(running.pids)
            load = settings.tools.load(address, request, connections=streams, seconds=settings.seconds, stream=True)
            used_s = cpu_s(running.pids) - before
            for figure, value in _figures(load).items():
                taken[figure][name].append(value)
            if name == "gateway":
                taken["CPU of the gateway", "% of core"][name].append(100 * used_s / load.elapsed_s)
    return [
        Row(f"{_streams(streams)}: {name}", unit, {who: median(v) for who, v in rounds.items()}, rounds=dict(rounds))
        for (name, unit), rounds in taken.items()
    ]


def _figures(load: Load) -> dict[tuple[str, str], float]:
    found = {("tokens", "1/s"): load.tokens_per_s}
    if load.ttft_us:
        found |= {("TTFT p50", "ms"): load.ttft_us.p50 / 1e3, ("TTFT p99", "ms"): load.ttft_us.p99 / 1e3}
    if load.gap_us:
        found |= {("gap p50", "ms"): load.gap_us.p50 / 1e3, ("gap p99", "ms"): load.gap_us.p99 / 1e3}
    return found


def _named(source: str) -> str:
    return "the demo model" if source == "demo" else source.rpartition("/")[2]


def _streams(count: int) -> str:
    return "1 stream" if count == 1 else f"{count} streams"
