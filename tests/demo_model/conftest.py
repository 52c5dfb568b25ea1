"""The demo model behind a real engine, started once for the whole folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from demo_server import Engine

HERE = Path(__file__).parent

# The recipe is no package: its programs run in their own folder. Nor is this folder one.
sys.path += [str(HERE), str(HERE.parents[1] / "tools/demo_model")]


@pytest.fixture(scope="session")
def demo_engine() -> Iterator[Engine]:
    from demo_server import MODEL, Engine

    pytest.importorskip("xllamacpp")
    command = [sys.executable, str(HERE / "engine_child.py"), str(MODEL)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        yield Engine(json.loads(child.stdout.readline())["address"])
        child.stdin.close()
        child.wait(10)
