"""Prints the development set, pinned: `python tools/lock.py > requirements-dev.lock` (`make lock`).

A virtual environment of its own gets the newest versions that pyproject.toml allows; what is in it afterwards is the
set. With `--constraint FILE` the versions of that file are kept. No hashes and no addresses: an index is chosen by
whoever installs.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
HEAD = """\
# What tests and tools need, pinned. Made by `make lock` from pyproject.toml; `make test` installs it.
"""
_PIN = re.compile(r"^[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+$")


def lock(constraint: Path | None) -> str:
    """The file's text."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    with tempfile.TemporaryDirectory(prefix="inhouse-lock-") as folder:
        venv.create(folder, with_pip=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "-qq", "--disable-pip-version-check", "--no-input"]
        kept = ["--constraint", str(constraint)] if constraint else []
        subprocess.run([*pip, "install", *kept, *wanted], check=True, stdout=sys.stderr)
        frozen = subprocess.run([*pip, "freeze"], check=True, stdout=subprocess.PIPE, text=True).stdout
    # a build of torch for the CPU calls itself 2.13.0+cpu, which an index may not know by that name
    pins = sorted((line.partition("+")[0] for line in frozen.split("\n")), key=str.lower)
    strange = [line for line in pins if line and not _PIN.match(line)]
    if strange:
        raise SystemExit(f"not pins: {strange}")
    return HEAD + "".join(f"{line}\n" for line in pins if line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--constraint", type=Path)
    sys.stdout.write(lock(parser.parse_args().constraint))
