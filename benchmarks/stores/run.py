"""The command. Mock engine and load clients are in C; in each round all subjects take turns.

    without limits      nothing is held
    state folder        limits of tenant and model, in SQLite
    redis               the same limits, in Redis
    redis and postgres  and keys, use and audit in PostgreSQL

Each is measured with one gateway: one request at a time (what is added to its latency) and 32 at once; then, without
limits and with Redis, two and four gateways at once with 32 requests each.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.rig import machine, requests
from benchmarks.rig.errors import FailedError, SkippedError
from benchmarks.rig.processes import Child, clean_env, descendants, memory
from benchmarks.rig.subject import free_port, wait_ready
from benchmarks.rig.tools import Load, Tools

MODEL = "bench"
KEY = "stores-bench-0123456789-abcdefghijklmnop"
SUBJECTS = ("without limits", "state folder", "redis", "redis and postgres")
COUNTS = (2, 4)
CONNECTIONS = 32
PLENTY = {"requests_per_minute": 10**9, "tokens_per_minute": 10**12, "tokens_per_day": 10**13}
"""Limits that are counted and never reached."""


def main(argv: list[str] | None = None) -> int:
    """0: measured; 1: something failed."""
    flags = _parser().parse_args(argv)
    words = argv if argv is not None else sys.argv[1:]
    header = machine.facts(command=["python -m benchmarks.stores", *words], seconds=flags.seconds, rounds=flags.rounds)
    print("\n".join(f"{name:14} {value}" for name, value in header.items()), flush=True)
    found: dict[str, dict[str, list[float]]] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="stores-bench-") as place:
            tools = Tools.build(Path(place))
            with servers(tools.folder) as (redis, postgres), _engine(tools) as engine:
                for number in range(flags.rounds):
                    for name in SUBJECTS:
                        if name == "redis and postgres" and not postgres:
                            continue
                        _measure(tools, name, engine, redis, postgres, number, flags.seconds, found)
                print("\n".join(_lines(found)), flush=True)
    except (FailedError, SkippedError) as error:
        print(f"failed: {error}", flush=True)
        return 1
    if flags.json is not None:
        flags.json.write_text(json.dumps({"header": header, "figures": found}, indent=2))
    return 0


def _measure(
    tools: Tools,
    name: str,
    engine: str,
    redis: str,
    postgres: str,
    number: int,
    seconds: float,
    found: dict[str, dict[str, list[float]]],
) -> None:
    counts = (1, *COUNTS) if name in ("without limits", "redis") else (1,)
    figures = found.setdefault(name, {})
    request = requests.chat(MODEL, KEY, stream=False, tokens=1, body_bytes=requests.SMALL_BYTES)
    with contextlib.ExitStack() as exits:
        doors: list[str] = []
        for count in counts:
            while len(doors) < count:
                doors.append(exits.enter_context(_gateway(tools, name, engine, redis, postgres, number, len(doors))))
            if count == 1:
                tools.load(doors[0], request, connections=CONNECTIONS, seconds=0.5)
                one = tools.load(doors[0], request, connections=1, seconds=seconds)
                figures.setdefault("c1 latency p50, µs", []).append(one.latency_us.p50)
                figures.setdefault("c1 latency p99, µs", []).append(one.latency_us.p99)
            running = []
            for index, door in enumerate(doors):
                own = Tools(tools.mock, tools.client, tools.folder / f"load-{index}")  # each writes its request down
                own.folder.mkdir(exist_ok=True)
                running.append(own.start_load(door, request, connections=CONNECTIONS, seconds=seconds))
            loads = [load.result() for load in running]
            figures.setdefault(f"{count} gateways, requests/s", []).append(sum(load.requests_per_s for load in loads))
            figures.setdefault(f"{count} gateways, latency p99, ms", []).append(_worst(loads))


def _worst(loads: list[Load]) -> float:
    return max(load.latency_us.p99 for load in loads) / 1000


def _lines(found: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    metrics = list(dict.fromkeys(metric for figures in found.values() for metric in figures))
    yield ""
    yield f"{'median of the rounds':32}" + "".join(f"{name:>20}" for name in found)
    for metric in metrics:
        cells = [
            f"{statistics.median(figures[metric]):,.1f}" if metric in figures else "" for figures in found.values()
        ]
        yield f"{metric:32}" + "".join(f"{cell:>20}" for cell in cells)


@contextlib.contextmanager
def _engine(tools: Tools) -> Iterator[str]:
    port = free_port()
    command = [str(tools.mock), "--host", "127.0.0.1", "--port", str(port), "--alias", MODEL, "--parallel", "1"]
    with Child([*command, "--ctx-size", "131072"], log=tools.folder / "mock.log") as child:
        wait_ready(f"127.0.0.1:{port}", MODEL, child, key=KEY)
        yield f"127.0.0.1:{port}"


@contextlib.contextmanager
def _gateway(tools: Tools, name: str, engine: str, redis: str, postgres: str, number: int, index: int) -> Iterator[str]:
    """On a state folder of its own."""
    folder = tools.folder / f"{name.replace(' ', '-')}-{number}-{index}"
    folder.mkdir()
    port = free_port()
    limits = {} if name == "without limits" else PLENTY
    stack: dict[str, Any] = {
        "models": {
            MODEL: {"endpoints": [f"http://{engine}"], "engine": "openai", "slots": 512, "limits": limits},
        },
        "gateway": {"port": port},
        "tenants": {"default": {"limits": limits}},
        "log": {"level": "warning"},
    }
    if name.startswith("redis"):
        stack["store"] = {"redis": {"url": redis, "prefix": f"bench{number}"}}
    if name.endswith("postgres"):
        stack["store"]["postgres"] = {"url": postgres}
    (folder / "inhouse.yaml").write_text(json.dumps(stack))  # JSON is YAML
    env = clean_env(INHOUSE_STATE_DIR=str(folder / "state"), INHOUSE_API_KEY=KEY)
    command = [sys.executable, "-m", "inhouse", "serve", "--config", str(folder / "inhouse.yaml")]
    with Child(command, log=folder / "gateway.log", env=env) as child:
        wait_ready(f"127.0.0.1:{port}", MODEL, child, key=KEY)
        yield f"127.0.0.1:{port}"
        rss = memory([child.pid, *descendants(child.pid)]).rss_mib
        if index == 0:
            print(f"{name}, round {number + 1}: {rss:.0f} MiB", flush=True)


@contextlib.contextmanager
def servers(folder: Path) -> Iterator[tuple[str, str]]:
    """URLs of a Redis that writes its append-only file, and of a PostgreSQL, "" where there is none."""
    program = shutil.which("redis-server")
    if program is None:
        raise SkippedError("no Redis here (Debian: apt-get install redis-server)")
    with contextlib.ExitStack() as exits:
        own = folder / "redis"
        own.mkdir()
        port = free_port()
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(own), "--appendonly", "yes"]
        exits.enter_context(Child(command, log=own / "log"))
        yield f"redis://127.0.0.1:{port}/0", exits.enter_context(_postgres(folder / "postgres"))


@contextlib.contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not binaries or (os.getuid() == 0 and shutil.which("runuser") is None):
        yield ""
        return
    home, port = Path(binaries[-1]), free_port()
    folder.mkdir()
    folder.parent.chmod(0o755)
    folder.chmod(0o777)
    as_other = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    data = folder / "data"
    for line in ([str(home / "initdb"), "-D", str(data), "-U", "bench", "--auth=trust", "-E", "UTF8"],):
        done = subprocess.run([*as_other, *line], capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode:
            raise FailedError(f"initdb: {done.stderr.strip()[-400:]}")
    server = [*as_other, str(home / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)]
    with Child([*server, "-c", "listen_addresses=127.0.0.1"], log=folder.parent / "postgres.log") as child:
        url = f"postgresql://bench@127.0.0.1:{port}/postgres"
        while subprocess.run(
            [str(home / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)], check=False
        ).returncode:
            child.check()
        yield url


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stores", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; the median counts (3)")
    parser.add_argument("--json", type=Path, help="write all figures there")
    return parser
