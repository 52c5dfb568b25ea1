"""What the tests of many gateways share: servers, and the helpers beside this file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services import Service, postgres_server, redis_server

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A Redis for all tests that leave it running and take a prefix of their own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A PostgreSQL for all tests that leave it running and take a schema of their own."""
    with postgres_server(tmp_path_factory.mktemp("postgres")) as running:
        yield running
