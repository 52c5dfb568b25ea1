"""Section `start`: from the start of a process until it is ready, and until the first token; cold and warm.

Cold: nothing of any file is in the page cache, neither weights nor programs. That takes root. What a virtual machine's
host still holds of its disk is not reached.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from statistics import median

from benchmarks.llamacpp import subjects
from benchmarks.llamacpp.settings import KEY, Settings, kept
from benchmarks.llamacpp.subjects import GATEWAY, SERVER, Running
from benchmarks.rig.answers import Work
from benchmarks.rig.processes import Child, clean_env
from benchmarks.rig.subject import free_port
from benchmarks.rig.tables import Row, Table

POLL_S = 0.002
_DROP = Path("/proc/sys/vm/drop_caches")


def measure(settings: Settings, say: Callable[[str], None]) -> Table:
    table = Table("start", "from the start of the process; medians", [GATEWAY, SERVER], [(GATEWAY, SERVER)])
    ways = {"warm": False, "cold": True} if os.access(_DROP, os.W_OK) else {"warm": False}
    if "cold" not in ways:
        table.notes.append("no cold starts: only root can empty the page cache")
    demo = Path(str(files("inhouse.weights") / "demo.gguf"))
    for model, file in (("demo", demo), ("Gemma-3-1B's shape" if settings.given is None else "the file", None)):
        weights = file or settings.weights()
        os.sync()
        for way, cold in ways.items():
            say(f"start: {model}, {way}")
            taken: dict[str, list[tuple[float, float]]] = {GATEWAY: [], SERVER: []}
            for number in range(settings.rounds + (not cold)):
                for name in taken:
                    times = _start(settings, name, weights, cold=cold)
                    if cold or number:  # the first of the warm ones warms
                        taken[name].append(times)
            for k, until in enumerate(("ready", "first token")):
                single = {name: [each[k] for each in all_] for name, all_ in taken.items()}
                values = {name: median(each) for name, each in single.items()}
                table.rows.append(Row(f"{model}, {way}: {until}", "s", values, rounds=single))
    return table


def _start(settings: Settings, name: str, weights: Path, *, cold: bool) -> tuple[float, float]:
    """Seconds until it is ready, and until it has said a token."""
    port = free_port()
    if name == GATEWAY:
        command, state = subjects.gateway_command(settings, str(weights), 4, port)
        env = clean_env(**kept(), INHOUSE_API_KEY=KEY, INHOUSE_STATE_DIR=str(state))
        path, key = "/health/ready", KEY
    else:
        command = subjects.plain_command(settings, weights, 4, port)
        env, path, key = clean_env(GOMP_SPINCOUNT=subjects.SPINS), "/health", ""
    if cold:
        with contextlib.suppress(OSError):
            _DROP.write_text("3")
    began_s = time.perf_counter()
    with Child(command, log=settings.tools.folder / "start.log", env=env, held=name == SERVER) as child:
        subjects.wait_healthy(f"127.0.0.1:{port}", child, path, POLL_S)
        ready_s = time.perf_counter() - began_s
        asked_s = time.perf_counter() - began_s
        seen = Running(name, port, key, child).run(Work(1, 1, 1, (8, 8)), 0)
        return ready_s, asked_s + seen.ttft_s[0]
