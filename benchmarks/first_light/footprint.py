"""Section `memory`: what the gateway holds at rest, after many connections, and while it streams.

Twice: with a mock engine that really runs 64 streams at once, and with the real engine and the demo model on its four
slots, where the other requests wait in the gateway's queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.first_light import subjects
from benchmarks.first_light.settings import Settings
from benchmarks.first_light.subjects import KEY, Gateway
from benchmarks.rig import requests
from benchmarks.rig.figures import PACE_US
from benchmarks.rig.processes import Memory, memory
from benchmarks.rig.subject import wait_ready
from benchmarks.rig.tables import Row, Table

GOAL_MIB = 64.0
CONNECTIONS = 200
STREAMS = 64
SLOTS = 4
THREADS = 1  # speed does not matter here, and one thread copes on a busy machine too
PER_CONNECTION = 2
PROMPT = "Hello! What are you?"
SETTLE_S = 1.0
GRACE_S = 60.0
SAMPLE_S = 0.1


def measure(settings: Settings, say: Callable[[str], None]) -> Table:
    table = Table(
        "memory",
        f"gateway before a mock engine, gateway before the demo model ({SLOTS} slots), and the engine itself",
        columns=["gateway", "gateway, demo", "engine, demo", "goal"],
        ratios=[("gateway", "goal"), ("gateway, demo", "goal")],
    )
    say("memory: before a mock engine")
    with subjects.gateway(settings, "memory", subjects.mock_models(settings, None)) as running:
        mock = _states(settings, running, streamed_model="paced", tokens=round(settings.seconds * 1e6 / PACE_US))
    say("memory: before the demo model")
    with subjects.gateway(settings, "memory", subjects.demo_models(settings, SLOTS, THREADS)) as running:
        demo = _states(settings, running, streamed_model="bench", tokens=64)
    for state, (gateway, _) in mock.items():
        gateway_demo, engine_demo = demo[state]
        for name, field, goal in (("RSS", "rss_mib", GOAL_MIB), ("PSS", "pss_mib", None)):
            values = {
                "gateway": getattr(gateway, field),
                "gateway, demo": getattr(gateway_demo, field),
                "engine, demo": getattr(engine_demo, field),
                "goal": goal,
            }
            table.rows.append(Row(f"{state}: {name}", "MiB", values))
    last = f"during {STREAMS} streams"
    peaks = {
        "gateway": mock[last][0].peak_mib,
        "gateway, demo": demo[last][0].peak_mib,
        "engine, demo": demo[last][1].peak_mib,
        "goal": GOAL_MIB,
    }
    table.rows.append(Row("at most: RSS", "MiB", peaks))
    table.notes.append("The engine's column sums every process below the gateway.")
    return table


def _states(
    settings: Settings, running: Gateway, *, streamed_model: str, tokens: int
) -> dict[str, tuple[Memory, Memory]]:
    """Memory of gateway and engine, state by state."""
    for model in {"bench", streamed_model}:
        wait_ready(running.address, model, running.child, key=KEY)
    time.sleep(SETTLE_S)
    found = {"at rest": _now(running)}
    plain = requests.chat("bench", KEY, stream=False, tokens=8, prompt=PROMPT)
    settings.tools.load(
        running.address,
        plain,
        connections=CONNECTIONS,
        seconds=settings.seconds,
        requests=CONNECTIONS * PER_CONNECTION,
        grace_s=GRACE_S,
    )
    time.sleep(SETTLE_S)
    found[f"after {CONNECTIONS} connections"] = _now(running)
    streamed = requests.chat(streamed_model, KEY, stream=True, tokens=max(2, tokens), prompt=PROMPT, ignore_eos=True)
    load = settings.tools.start_load(
        running.address,
        streamed,
        connections=STREAMS,
        seconds=settings.seconds,
        requests=STREAMS * PER_CONNECTION,
        stream=True,
        grace_s=GRACE_S,
    )
    most: tuple[Memory, Memory] | None = None
    try:
        while load.running:
            seen = _now(running)
            most = seen if most is None or seen[0].rss_mib > most[0].rss_mib else most
            time.sleep(SAMPLE_S)
        load.result()
    finally:
        load.stop()
    found[f"during {STREAMS} streams"] = most or _now(running)
    return found


def _now(running: Gateway) -> tuple[Memory, Memory]:
    return memory(running.pids), memory(running.engine_pids)
