"""What the tests of the pages share: the pages, and a shell that finds the gateway."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse.store.sqlite import SqliteStore
from inhouse.tenancy import keys
from serving import KEY, Gateway


@pytest.fixture
def environment(gateway: Gateway) -> Iterator[dict[str, str]]:
    """Variables for a program that speaks to the gateway, `inhouse` on its path. Keys that it makes are revoked."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")}
    with SqliteStore(gateway.state_dir) as store:
        before = {key.id for key in store.list()}
        yield {
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
            "INHOUSE_API_KEY": KEY,
            "INHOUSE_BASE_URL": gateway.base_url,
            "INHOUSE_STATE_DIR": str(gateway.state_dir),
        }
        for key in store.list():
            if key.id not in before:
                keys.revoke(store, key.id, now=time.time())


@pytest.fixture
def require() -> object:
    """`require("curl")`: skips on a laptop without that program, fails in CI."""

    def check(program: str) -> None:
        if shutil.which(program) is None:
            if os.environ.get("CI"):
                pytest.fail(f"{program} is not installed; .ci/run should have seen to it")
            pytest.skip(f"{program} is not installed")

    return check
