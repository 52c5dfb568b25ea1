"""Redis as it is run: with a user of few rights, over TLS, and behind Sentinel."""

from __future__ import annotations

import contextlib
import datetime
import re
import subprocess
import time
from pathlib import Path

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from inhouse.config import RedisSpec, StoreSpec
from inhouse.errors import StateError
from inhouse.store.ledger import Demand, Limits, Reservation, Use
from inhouse.store.store_check import check
from inhouse.store.stores import Stores
from services import free_port, redis_server

DEMANDS = (Demand("tenant:acme", Limits(tokens_per_day=100)), Demand("key:k", Limits(tokens_per_day=90)))
PAGE = Path(__file__).parents[2] / "docs" / "many-gateways.md"


def used(spec: RedisSpec, folder: Path, environ: dict[str, str] | None = None) -> Use:
    """Reserves and settles once; where the tenant then stands."""
    stores = Stores(folder, StoreSpec(redis=spec), environ or {})
    with contextlib.closing(stores.gateway()) as opened:
        ledger = opened.ledger
        reservation = ledger.reserve(DEMANDS, 10, 0, ledger.now())
        assert isinstance(reservation, Reservation)
        ledger.settle(reservation, 7, 0, ledger.now())
        return ledger.live("tenant:acme", ledger.now())["tokens_per_day"]


def test_a_user_with_the_rights_that_the_page_names(tmp_path: Path) -> None:
    """They are enough, for the check too, and no more than that is allowed."""
    with redis_server(tmp_path) as server:
        rights = re.search(r"^ACL SETUSER (inhouse .*)$", PAGE.read_text(), re.MULTILINE)
        assert rights is not None
        with redis.Redis.from_url(server.url) as client:
            client.execute_command("ACL", "SETUSER", *rights[1].replace(">password", ">hidden").split())
            client.execute_command("ACL", "SETUSER", "default", "off")
        spec = RedisSpec(url=server.url, username="inhouse", password="env:SECRET", timeout=5.0)
        assert used(spec, tmp_path, {"SECRET": "hidden"}) == Use(used=7, held=0)
        found = list(check(Stores(tmp_path, StoreSpec(redis=spec), {"SECRET": "hidden"})))
        assert {one.state for one in found} == {"ok"}
        with pytest.raises(StateError, match=r"(WRONGPASS|invalid username)") as caught:
            used(spec, tmp_path, {"SECRET": "wrong"})
        assert "wrong" not in str(caught.value).lower().replace("wrongpass", "")
        with redis.Redis(port=server.port, username="inhouse", password="hidden") as client:
            for denied in (("FLUSHALL",), ("GET", "other"), ("CONFIG", "GET", "*"), ("KEYS", "*")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command(*denied)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Of 127.0.0.1, signed by itself; and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    now = datetime.datetime.now(datetime.UTC)
    import ipaddress

    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"


def test_over_tls(tmp_path: Path) -> None:
    """With the authority that vouches for it; without, nothing is said to it."""
    cert, key = certificate(tmp_path)
    port = free_port()
    options = ("--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key))
    with redis_server(tmp_path, *options, "--tls-auth-clients", "no"):
        url = f"rediss://127.0.0.1:{port}/0"
        assert used(RedisSpec(url=url, ca_file=cert, timeout=5.0), tmp_path) == Use(used=7, held=0)
        with pytest.raises(StateError, match="certificate verify failed"):
            used(RedisSpec(url=url, timeout=5.0), tmp_path)


def test_behind_sentinel(tmp_path: Path) -> None:
    """After its server was killed the replica is asked, by the same gateway, and what was counted is there."""
    port = free_port()
    for name in ("one", "two", "watch"):
        (tmp_path / name).mkdir()
    with redis_server(tmp_path / "one") as first:
        options = ("--replicaof", "127.0.0.1", str(first.port), "--repl-diskless-sync-delay", "0")
        with redis_server(tmp_path / "two", *options) as second:
            config = tmp_path / "watch" / "sentinel.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {tmp_path / 'watch'}\n"
                f"sentinel monitor main 127.0.0.1 {first.port} 1\nsentinel down-after-milliseconds main 300\n"
                "sentinel failover-timeout main 2000\n"
            )
            sentinel = subprocess.Popen(
                ["redis-server", str(config), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                with redis.Redis(port=port) as watch, redis.Redis.from_url(first.url) as client:
                    _until(lambda: len(watch.execute_command("SENTINEL", "REPLICAS", "main")) == 1)
                    spec = RedisSpec(url=f"redis+sentinel://127.0.0.1:{port}/main", timeout=1.0)
                    stores = Stores(tmp_path, StoreSpec(redis=spec))
                    with contextlib.closing(stores.gateway()) as opened:
                        ledger = opened.ledger
                        done = ledger.reserve(DEMANDS, 10, 0, ledger.now())
                        open_one = ledger.reserve(DEMANDS, 20, 0, ledger.now())
                        assert isinstance(done, Reservation)
                        assert isinstance(open_one, Reservation)
                        ledger.settle(done, 7, 0, ledger.now())
                        ledger.live("tenant:acme", ledger.now())
                        assert client.execute_command("WAIT", 1, 5000) == 1
                        first.kill()
                        _until(lambda: _is_second(watch, second.port))

                        def stands() -> bool:
                            with contextlib.suppress(StateError):
                                live = ledger.live("tenant:acme", ledger.now())
                                return live["tokens_per_day"] == Use(used=7, held=20)
                            return False

                        _until(stands)
                        ledger.settle(open_one, 11, 0, ledger.now())
                        assert ledger.live("tenant:acme", ledger.now())["tokens_per_day"] == Use(used=18, held=0)
            finally:
                sentinel.kill()
                sentinel.wait()


def _is_second(watch: redis.Redis, port: int) -> bool:
    told = watch.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
    return int(told[1]) == port


def _until(true: object, wait_s: float = 30.0) -> None:
    end_s = time.monotonic() + wait_s
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end_s
        time.sleep(0.05)
