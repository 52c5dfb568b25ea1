"""`python -m benchmarks.one_pod`: memory and CPU of the one-pod form's gateway, at rest and under a few streams."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.one_pod.run import at_rest, manifest, running, under_load
from benchmarks.rig import machine

STACK = Path(__file__).parents[2] / "tests" / "deploy" / "stacks" / "init-free-tier.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_pod", description=__doc__)
    parser.add_argument(
        "--stack", type=Path, default=STACK, help="what is rendered (what `inhouse init free-tier` writes)"
    )
    parser.add_argument("--rest", type=float, default=60, help="seconds at rest (60)")
    parser.add_argument("--streams", type=int, default=4, help="streams at once (4)")
    parser.add_argument("--requests", type=int, default=200, help="answers (200)")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of each (64)")
    parser.add_argument("--prompt", type=int, default=4000, help="bytes of each prompt (4000)")
    given = parser.parse_args()
    made = manifest(given.stack)
    for name, value in machine.facts(command=sys.argv, seconds=given.rest, rounds=1).items():
        print(f"{name}: {value}")
    engine = [sys.executable, "-m", "inhouse", "fake-engine", "--port", "0", "--control-port", "0"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen([*engine, "--tokens-per-s", "200"], stdout=subprocess.PIPE, text=True) as fake,
    ):
        try:
            assert fake.stdout is not None
            lines = [fake.stdout.readline() for _ in range(2)]
            url = lines[1].split()[-1]
            with running(made, url, Path(folder)) as one:
                print(f"\nlimit: {made.memory_bytes} bytes, {made.cpu_millicores} millicores asked for\n")
                print(f"before: {at_rest(one, given.rest)}")
                size = {"tokens": given.tokens, "prompt_bytes": given.prompt}
                print(f"load:   {under_load(one, streams=given.streams, requests=given.requests, **size)}")
                print(f"after:  {at_rest(one, given.rest)}")
        finally:
            fake.kill()


if __name__ == "__main__":
    main()
