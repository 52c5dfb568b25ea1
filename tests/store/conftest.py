"""Ledgers and servers that several suites share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import ledgers
from ledgers import Cluster
from services import Service, postgres_server, redis_server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A Redis for all tests that take a prefix of their own."""
    with redis_server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A Valkey for all tests that take a prefix of their own."""
    with redis_server(tmp_path_factory.mktemp("valkey"), valkey=True) as running:
        yield running


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A PostgreSQL for all tests that take a schema of their own."""
    with postgres_server(tmp_path_factory.mktemp("postgres")) as running:
        yield running


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three masters for all tests that take a prefix of their own."""
    with ledgers.redis_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running
