"""Redis as it is run: with a user of few rights, and behind Sentinel. Over TLS: `test_tls`."""

from __future__ import annotations

import contextlib
import re
import time
from pathlib import Path

import pytest
import redis

from inhouse.config import RedisSpec, StoreSpec
from inhouse.errors import StateError
from inhouse.store.ledger import Demand, Limits, Reservation, Use
from inhouse.store.store_check import check
from inhouse.store.stores import Stores
from sentinels import watched
from services import redis_server

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


def test_behind_sentinel(tmp_path: Path) -> None:
    """After its server was killed the replica is asked, by the same gateway, and what was counted is there."""
    with watched(tmp_path) as servers:
        stores = Stores(tmp_path, StoreSpec(redis=RedisSpec(url=servers.url, timeout=1.0)))
        with contextlib.closing(stores.gateway()) as opened:
            ledger = opened.ledger
            done = ledger.reserve(DEMANDS, 10, 0, ledger.now())
            open_one = ledger.reserve(DEMANDS, 20, 0, ledger.now())
            assert isinstance(done, Reservation)
            assert isinstance(open_one, Reservation)
            ledger.settle(done, 7, 0, ledger.now())
            ledger.live("tenant:acme", ledger.now())
            servers.fail_over()

            def stands() -> bool:
                with contextlib.suppress(StateError):
                    live = ledger.live("tenant:acme", ledger.now())
                    return live["tokens_per_day"] == Use(used=7, held=20)
                return False

            _until(stands)
            ledger.settle(open_one, 11, 0, ledger.now())
            assert ledger.live("tenant:acme", ledger.now())["tokens_per_day"] == Use(used=18, held=0)


def _until(true: object, wait_s: float = 30.0) -> None:
    end_s = time.monotonic() + wait_s
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end_s
        time.sleep(0.05)
