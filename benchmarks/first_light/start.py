"""Section `start`: how long a person waits. Files are in the page cache and byte code is there: the second start."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.first_light import subjects
from benchmarks.first_light.settings import Settings
from benchmarks.first_light.subjects import KEY, Gateway
from benchmarks.rig import requests
from benchmarks.rig.errors import FailedError
from benchmarks.rig.machine import python
from benchmarks.rig.processes import clean_env
from benchmarks.rig.subject import START_S_MAX, ask
from benchmarks.rig.tables import Row, Table

GOALS_S = {"inhouse --help": 0.3, "gateway: start to the first /health 200": 1.0}
IMPORTS = ("inhouse", "inhouse.cli.commands", "inhouse.gateway.app")
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
    walls = _walls(
        {
            "bare python": [python(), "-c", "pass"],
            "inhouse --help": [*settings.inhouse, "--help"],
            "inhouse version": [*settings.inhouse, "version"],
            **{f"import {name}": [python(), "-c", f"import {name}"] for name in IMPORTS},
        },
        runs,
    )
    bare_s = median(walls.pop("bare python"))
    say("start: gateway")
    mock, demo = subjects.mock_models(settings, None), subjects.demo_models(settings, 4)
    walls["gateway: start to the first /health 200"] = _starts(settings, mock, runs, _healthy_s)
    say("start: gateway and demo model")
    walls["gateway and demo model: start to the first token"] = _starts(settings, demo, runs, _first_token_s)
    for name, taken in walls.items():
        values = {"inhouse": median(taken), "bare python": bare_s, "goal": GOALS_S.get(name)}
        table.rows.append(Row(name, "s", values, rounds={"inhouse": taken}))
    table.notes.append("`import` rows are those of a whole interpreter that imports and ends.")
    return table


def _walls(commands: Mapping[str, Sequence[str]], runs: int) -> dict[str, list[float]]:
    """Wall times of commands that end by themselves, in turns. Raises FailedError if one fails."""
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs + 1):
        for name, command in commands.items():
            begin = time.perf_counter()
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, env=clean_env(), timeout=60, check=False
            )
            taken[name].append(time.perf_counter() - begin)
            if done.returncode:
                raise FailedError(f"{' '.join(command)} failed: {done.stderr.decode(errors='replace').strip()[-400:]}")
    return {name: walls[1:] for name, walls in taken.items()}


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
            if ask(running.address, "GET", "/health")[0] == 200:
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
            status, text = ask(running.address, "POST", "/v1/chat/completions", body, fields)
            if status == 200 and b"[DONE]" in text:
                return
        except OSError:
            pass
        time.sleep(POLL_S)
    raise FailedError(f"no token within {START_S_MAX:g} s")
