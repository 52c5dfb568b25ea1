"""`inhouse tenants` and `inhouse usage` as people and scripts use them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from inhouse.cli.main import app
from inhouse.config import load
from inhouse.core import Identity, Usage
from inhouse.errors import StackError
from inhouse.store.ledger_sqlite import SqliteLedger
from inhouse.tenancy.limits import Bound
from inhouse.tenancy.quotas import Quotas

STACK = """
models: {chat: {source: demo, price: {input: 1, output: 1}}}
tenants:
  acme: {weight: 2, limits: {tokens_per_day: 1000, money_per_month: 2.5, concurrent_requests: 3}}
  idle: {priority: batch}
currency: CHF
"""


@pytest.fixture(autouse=True)
def _used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tenants used something; one request is in flight."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INHOUSE_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "inhouse.yaml").write_text(STACK)
    ledger = SqliteLedger(tmp_path / "state")
    quotas = Quotas(load(None, environ={}, flags={}), ledger)
    for tenant, key, answer in (("acme", "k1", 60), ("acme", "k2", 20), ("guest", "k3", 10)):
        quotas.reserve(Identity(key, tenant), "chat", Bound(40, 60)).settle(Usage(40, answer, 5))
    quotas.reserve(Identity("k1", "acme"), "chat", Bound(40, 60))
    quotas.close()
    ledger.close()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_tenants_stand_beside_their_limits() -> None:
    """Those of the file in its order, then those that used something without being named."""
    rows = [line.split() for line in run("tenants", "list").stdout.splitlines()]
    assert " ".join(rows[1]) == "acme 2 standard all 1 of 3 260 of 1,000 160 0.00026 of 2.50"
    assert " ".join(rows[2]) == "idle 1 batch all - 0 0 0.00"
    assert " ".join(rows[3]) == "guest (by default) 1 standard all - 50 50 0.00005"


def test_tenants_for_scripts() -> None:
    shown = json.loads(run("tenants", "list", "--json").stdout)
    assert shown["currency"] == "CHF"
    acme = shown["tenants"][0]
    assert acme["limits"]["tokens_per_day"] == {"limit": 1000, "used": 160, "held": 100}
    assert acme["limits"]["money_per_month"] == {"limit": 2.5, "used": 0.00016, "held": 0.0001}
    assert acme["month"] == {"requests": 2, "tokens": 160, "money": 0.00016}


def test_usage_by_tenant_key_and_model() -> None:
    """A line each, and their sum."""
    rows = [line.split() for line in run("usage").stdout.splitlines()]
    assert rows[0] == ["DAY", "TENANT", "KEY", "MODEL", "REQUESTS", "PROMPT", "CACHED", "ANSWERS", "COST"]
    assert [row[1:3] for row in rows[1:-1]] == [["acme", "k1"], ["acme", "k2"], ["guest", "k3"]]
    assert rows[-1] == ["in", "all", "3", "120", "15", "90", "0.00021", "CHF"]
    chosen = run("usage", "--tenant", "acme", "--key", "k2", "--model", "chat", "--since", "1d", "--json")
    only = json.loads(chosen.stdout)
    assert [(row["completion_tokens"], row["money"]) for row in only["usage"]] == [(20, 0.00006)]
    assert run("usage", "--tenant", "nobody").stdout == "Nothing was used in the last 7 d.\n"


def test_a_time_that_is_none_is_told() -> None:
    with pytest.raises(StackError, match="'week' is no time"):
        run("usage", "--since", "week")
