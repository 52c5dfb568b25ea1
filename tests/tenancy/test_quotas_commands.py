"""`inhouse tenants` and `inhouse usage` as people and scripts use them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from inhouse.cli.commands import app_of
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
    return CliRunner().invoke(app_of(), list(arguments), catch_exceptions=False)


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


def test_usage_is_added_up_by_what_is_asked() -> None:
    """Columns in their own order, whatever order they are asked in; the sums are those of all rows."""
    rows = [line.split() for line in run("usage", "--by", "model", "--by", "tenant").stdout.splitlines()]
    assert rows[0] == ["TENANT", "MODEL", "REQUESTS", "PROMPT", "CACHED", "ANSWERS", "COST"]
    assert [row[:4] for row in rows[1:-1]] == [["acme", "chat", "2", "80"], ["guest", "chat", "1", "40"]]
    assert rows[-1] == ["in", "all", "3", "120", "15", "90", "0.00021", "CHF"]
    (total,) = json.loads(run("usage", "--by", "model", "--json").stdout)["usage"]
    assert (total["requests"], total["completion_tokens"]) == (3, 90)
    assert "day" not in total


def test_usage_for_spreadsheets() -> None:
    """One line for each row, and the head alone where nothing was used."""
    lines = run("usage", "--by", "tenant", "--csv").stdout.splitlines()
    assert lines == [
        "tenant,requests,prompt_tokens,cached_tokens,completion_tokens,money,currency",
        "acme,2,80,10,80,0.000160,CHF",
        "guest,1,40,5,10,0.000050,CHF",
    ]
    assert len(run("usage", "--tenant", "nobody", "--csv").stdout.splitlines()) == 1


def test_usage_of_certain_days() -> None:
    """Dates are days of UTC, both ends included."""
    today = datetime.now(UTC).date()
    yesterday = today - timedelta(days=1)
    assert run("usage", "--since", str(today), "--until", str(today), "--csv").stdout.count("\n") == 4
    assert run("usage", "--since", str(yesterday), "--until", str(yesterday), "--csv").stdout.count("\n") == 1


def test_one_tenant_with_all_of_its_limits() -> None:
    """Each limit with what is used and held; a tenant that the file does not name stands there by default."""
    lines = [" ".join(line.split()) for line in run("tenants", "show", "acme").stdout.splitlines()]
    assert "month 2 requests, 160 tokens, 0.00016 CHF" in lines
    assert lines[-4:] == [
        "LIMIT USED HELD OF",
        "tokens_per_day 160 100 1,000",
        "money_per_month 0.00016 CHF 0.0001 CHF 2.50 CHF",
        "concurrent_requests 0 1 3",
    ]
    guest = run("tenants", "show", "guest")
    assert "does not name 'guest'" in guest.stderr
    assert "no limits" in guest.stdout
    assert json.loads(run("tenants", "show", "acme", "--json").stdout)["limits"]["tokens_per_day"]["used"] == 160


@pytest.mark.parametrize(
    ("options", "where", "told"),
    [
        (("--since", "week"), "--since", "'week' is no time"),
        (("--until", "2027-02-30"), "--until", "is no time"),
        (("--by", "tennant"), "--by", "did you mean 'tenant'"),
    ],
)
def test_what_cannot_be_asked_for_is_told(options: tuple[str, ...], where: str, told: str) -> None:
    with pytest.raises(StackError, match=told) as caught:
        run("usage", *options)
    assert caught.value.where == where
