"""A real Redis, gateways and workers as processes, fake engines beside the workers."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parent)]
sys.path += [str(Path(__file__).parents[1] / name) for name in ("robustness", "fleet")]

from pool import Pool

from services import Service, redis_server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Service]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with redis_server(folder) as service:
        yield service


@pytest.fixture
def pool(tmp_path: Path, redis: Service) -> Iterator[Pool]:
    """Starts gateways and workers on one Redis; all of them are ended after the test."""
    with contextlib.ExitStack() as exits:
        yield Pool(tmp_path, redis, exits)
