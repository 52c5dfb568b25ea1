"""Section `start`: how long a person waits. Files are in the page cache and byte code is there: the second start."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.first_light import requests, subjects
from benchmarks.first_light.errors import FailedError
from benchmarks.first_light.machine import python
from benchmarks.first_light.processes import clean_env
from benchmarks.first_light.settings import Settings
from benchmarks.first_light.subjects import KEY, START_S_MAX, Gateway
from benchmarks.first_light.tables import Row, Table

GOALS_S = {"inhouse --help": 0.3, "gateway: start to the first /health 200": 1.0}
IMPORTS = ("inhouse", "inhouse.cli.main", "inhouse.gateway.app")
RUNS_MIN = 5
POLL_S = 0.002


def measure(settings: Settings, say: Callable[[str], None]) -> Table:
    runs = max(RUNS_MIN, settings.rounds)
    table = Table(
        "start",
        f"medians of {runs} starts, after one that does not count",
        columns=["inhouse", "bare python", "goal"],
        ratios=[("inhouse", "bare python"), ("inhouse", "goal")],
    )
    say("start: commands and imports")
    bare_s = median(_walls([python(), "-c", "pass"], runs))
    steps: dict[str, Callable[[], list[float]]] = {
        "inhouse --help": lambda: _walls([*settings.inhouse, "--help"], runs),
        "inhouse version": lambda: _walls([*settings.inhouse, "version"], runs),
        **{f"import {name}": _import_step(name, runs) for name in IMPORTS},
        "gateway: start to the first /health 200": lambda: _starts(
            settings, subjects.mock_models(settings, None), runs, _healthy_s
        ),
        "gateway and demo model: start to the first token": lambda: _starts(
            settings, subjects.demo_models(settings, 4), runs, _first_token_s
        ),
    }
    for name, step in steps.items():
        if name.startswith("gateway"):
            say(f"start: {name}")
        taken = step()
        values = {"inhouse": median(taken), "bare python": bare_s, "goal": GOALS_S.get(name)}
        table.rows.append(Row(name, "s", values, rounds={"inhouse": taken}))
    table.notes.append("`import` rows are those of a whole interpreter that imports and ends.")
    return table


def _import_step(module: str, runs: int) -> Callable[[], list[float]]:
    return lambda: _walls([python(), "-c", f"import {module}"], runs)


def _walls(command: Sequence[str], runs: int) -> list[float]:
    """Wall times of a command that ends by itself. Raises FailedError if it fails."""
    taken = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, env=clean_env(), timeout=60, check=False
        )
        taken.append(time.perf_counter() - begin)
        if done.returncode:
            raise FailedError(f"{' '.join(command)} failed: {done.stderr.decode(errors='replace').strip()[-400:]}")
    return taken[1:]


def _starts(settings: Settings, models: Mapping[str, Any], runs: int, wait: Callable[[Gateway], None]) -> list[float]:
    """From the start of the process until `wait` returns."""
    taken = []
    for _ in range(runs + 1):
        begin = time.perf_counter()
        with subjects.gateway(settings, "start", models) as running:
            wait(running)
            taken.append(time.perf_counter() - begin)
    return taken[1:]


def _healthy_s(running: Gateway) -> None:
    until = time.monotonic() + START_S_MAX
    while time.monotonic() < until:
        running.child.check()
        try:
            if subjects.ask(running.address, "GET", "/health")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(POLL_S)
    raise FailedError(f"/health was not 200 within {START_S_MAX:g} s")


def _first_token_s(running: Gateway) -> None:
    """The token is the only one of a streamed answer, so the whole answer is its arrival."""
    head, _, body = requests.chat("bench", KEY, stream=True, tokens=1, prompt="Hello!").partition(b"\r\n\r\n")
    fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    until = time.monotonic() + START_S_MAX
    while time.monotonic() < until:
        running.child.check()
        try:
            status, text = subjects.ask(running.address, "POST", "/v1/chat/completions", body, fields)
            if status == 200 and b"[DONE]" in text:
                return
        except OSError:
            pass
        time.sleep(POLL_S)
    raise FailedError(f"no token within {START_S_MAX:g} s")
