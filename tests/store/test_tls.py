"""Redis and PostgreSQL over TLS, with an authority of the test's own: whom it vouches for is spoken to, nobody else."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from authorities import Authority, authority
from inhouse.config import RedisSpec, StoreSpec
from inhouse.config.store import PostgresSpec
from inhouse.errors import StateError
from inhouse.store.store_check import check
from inhouse.store.stores import Stores
from services import free_port, postgres_server, redis_server


@dataclass(frozen=True)
class Places:
    """One server over TLS: under the name that its certificate has, and under another one."""

    right: str
    wrong: str


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("trusted"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("stranger"), "nobody we know")


@pytest.fixture(scope="module")
def redis(trusted: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    cert, key = trusted.certificate("localhost")
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key))
    with redis_server(tmp_path_factory.mktemp("redis"), *options, "--tls-auth-clients", "no"):
        yield Places(f"rediss://localhost:{port}/0", f"rediss://127.0.0.1:{port}/0")


@pytest.fixture(scope="module")
def postgres(trusted: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    with postgres_server(tmp_path_factory.mktemp("postgres"), tls=trusted.certificate("localhost")) as server:
        place = f"postgresql://inhouse@{{}}:{server.port}/inhouse"
        yield Places(place.format("localhost"), place.format("127.0.0.1"))


def states(store: StoreSpec, folder: Path) -> set[tuple[str, str]]:
    return {(one.state, one.said if one.state == "failed" else "") for one in check(Stores(folder, store))}


def test_redis_that_the_authority_vouches_for(
    redis: Places, trusted: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """With its name in the certificate and the authority named; not with another authority, name, or none."""

    def spec(url: str, ca_file: Path | None) -> StoreSpec:
        return StoreSpec(redis=RedisSpec(url=url, ca_file=ca_file, timeout=5.0))

    assert states(spec(redis.right, trusted.file), tmp_path) == {("ok", "")}
    for url, ca_file in ((redis.right, stranger.file), (redis.right, None), (redis.wrong, trusted.file)):
        ((state, said),) = states(spec(url, ca_file), tmp_path)
        assert state == "failed"
        assert "certificate verify failed" in said


def test_postgresql_that_the_authority_vouches_for(
    postgres: Places, trusted: Authority, stranger: Authority, tmp_path: Path
) -> None:
    """The same; the connection is encrypted, which the server says itself."""

    def spec(url: str, ca_file: Path | None) -> StoreSpec:
        return StoreSpec(postgres=PostgresSpec(url=url, ca_file=ca_file, timeout=5.0))

    assert states(spec(postgres.right, trusted.file), tmp_path) == {("ok", "")}
    with psycopg.connect(postgres.right, sslmode="verify-full", sslrootcert=str(trusted.file)) as connection:
        row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
        assert row == (True,)
    for url, ca_file in ((postgres.right, stranger.file), (postgres.wrong, trusted.file)):
        ((state, said),) = states(spec(url, ca_file), tmp_path)
        assert state == "failed"
        assert "certificate" in said


def test_without_an_authority_the_address_says_how_it_is_secured(
    postgres: Places, trusted: Authority, tmp_path: Path
) -> None:
    """`sslmode=verify-full` and `sslrootcert` in the address do as well as `ca_file`."""
    url = f"{postgres.right}?sslmode=verify-full&sslrootcert={trusted.file}"
    assert states(StoreSpec(postgres=PostgresSpec(url=url, timeout=5.0)), tmp_path) == {("ok", "")}
    stores = Stores(tmp_path, StoreSpec(postgres=PostgresSpec(url=url, timeout=5.0)))
    with contextlib.closing(stores.keys()) as keys:
        assert keys.by_id("aaaaaaaaaa") is None
    wrong = url.replace("localhost", "127.0.0.1")
    with (
        contextlib.closing(Stores(tmp_path, StoreSpec(postgres=PostgresSpec(url=wrong, timeout=5.0))).keys()) as keys,
        pytest.raises(StateError, match="certificate"),
    ):
        keys.by_id("aaaaaaaaaa")
