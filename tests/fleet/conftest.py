"""A gateway in front of fake engines that the test may break."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_engine import FakeEngine, fake_engine
from serving import Gateway, started

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "robustness")]

from fleet import Fakes, Start


@pytest.fixture
def fakes() -> Iterator[Fakes]:
    """Starts engines: `fakes(3, slots=2)`. They are ended after the test."""
    with contextlib.ExitStack() as exits:

        def some(count: int, **settings: Any) -> list[FakeEngine]:
            return [exits.enter_context(fake_engine(**settings)) for _ in range(count)]

        yield some


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway of a stack and waits until `ready` of its endpoints are."""
    running: list[Gateway] = []

    def one(stack: str, *, ready: int, args: tuple[str, ...] = ()) -> Gateway:
        folder = tmp_path / str(len(running))
        folder.mkdir()
        gateway = started(folder, stack, args=args)
        running.append(gateway)
        for _ in range(ready):
            gateway.wait_for(event="replica", state="ready")
        return gateway

    yield one
    for gateway in running:
        gateway.stop(9)
