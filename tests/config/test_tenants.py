"""Tenants, keys, limits and prices in the stack: read exactly, and every mistake with its place."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.config import Stack, load, read, schema
from inhouse.config.money import MONEY_MAX, parse_money, render_money
from inhouse.config.show import render
from inhouse.errors import StackError

STACK = """
models:
  chat: {source: demo, price: {input: 0.15, output: "0.6"}, limits: {requests_per_minute: 600}}
tenants:
  acme:
    weight: 3
    priority: interactive
    models: [chat]
    limits: {tokens_per_day: 2_000_000, money_per_month: 99.50}
tenant_defaults: {limits: {requests_per_minute: 20}}
keys:
  k4w7qd2mzp: {limits: {concurrent_requests: 2}}
currency: USD
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(text: str, **environ: str) -> Stack:
    Path("inhouse.yaml").write_text(text)
    return load(None, environ=environ, flags={})


def test_amounts_are_whole_millionths() -> None:
    stack = loaded(STACK)
    assert stack.models["chat"].price.model_dump() == {"input": 150_000, "cached_input": None, "output": 600_000}
    acme = stack.tenants["acme"]
    assert (acme.weight, acme.priority, acme.models) == (3, "interactive", ["chat"])
    assert (acme.limits.tokens_per_day, acme.limits.money_per_month) == (2_000_000, 99_500_000)
    assert stack.keys["k4w7qd2mzp"].limits.concurrent_requests == 2
    assert stack.tenant_defaults.limits.requests_per_minute == 20
    assert (stack.currency, Stack().currency) == ("USD", "EUR")


def test_what_show_prints_describes_the_same_stack() -> None:
    """Limits and prices that are not set are left out."""
    stack = loaded(STACK)
    text = render(read(None, environ={}, flags={}))
    assert "cached_input" not in text
    assert "tokens_per_day: 2000000" in text
    assert loaded(text) == stack


def test_variables_reach_tenants_and_keys() -> None:
    """A name that the file has is found whatever its spelling; another one makes a new entry."""
    stack = loaded(
        "tenants: {Acme-1: {weight: 2}}\n",
        INHOUSE_TENANTS__ACME_1__LIMITS__TOKENS_PER_DAY="5",
        INHOUSE_TENANTS__NEW__WEIGHT="4",
        INHOUSE_MODELS__DEMO__PRICE__INPUT="0.25",
        INHOUSE_TENANT_DEFAULTS__LIMITS__MONEY_PER_DAY="1.5",
    )
    assert (stack.tenants["Acme-1"].weight, stack.tenants["Acme-1"].limits.tokens_per_day) == (2, 5)
    assert stack.tenants["new"].weight == 4
    assert stack.models["demo"].price.input == 250_000
    assert stack.tenant_defaults.limits.money_per_day == 1_500_000


MISTAKES = [
    ("tenants:\n  acme:\n    limts: {}\n", 3, "unknown key `limts` in `tenants.acme`", "did you mean `limits`?"),
    (
        "tenants:\n  acme:\n    limits:\n      token_per_day: 1\n",
        4,
        "unknown key `token_per_day` in `tenants.acme.limits`",
        "did you mean `tokens_per_day`? expected form: a whole number from 1",
    ),
    ("tenants: {acme: {limits: {tokens_per_day: 0}}}\n", 1, "`tenants.acme.limits.tokens_per_day` is 0", "from 1 to"),
    ("tenants: {acme: {limits: {money_per_day: -1}}}\n", 1, "cannot be below zero", "an amount such as 0.15"),
    ("models: {demo: {price: {input: free}}}\n", 1, "`models.demo.price.input` is 'free': not an amount", "0.15"),
    ("models: {demo: {price: {output: 0.0000001}}}\n", 1, "finer than a millionth", "0.15"),
    ("tenants:\n  a b: {}\n", 2, "'a b' cannot name a tenant", "such as acme"),
    ("keys:\n  a b: {}\n", 2, "'a b' cannot name a key", "`inhouse keys list`"),
    ("tenants: [acme]\n", 1, "`tenants` is not a mapping", "{acme: {weight: 2}}"),
    ("tenants: {acme: 3}\n", 1, "`tenants.acme` is not a mapping", "{weight: …}"),
    ("tenants: {acme: {priority: urgent}}\n", 1, "not one of the choices", "interactive, standard, batch"),
    ("tenants:\n  acme:\n    models:\n    - demmo\n", 4, "`tenants.acme.models` names 'demmo'", "did you mean `demo`?"),
    ("keys: {k: {models: [x]}}\n", 1, "`keys.k.models` names 'x'", "its models: demo"),
    ("currency: euro\n", 1, "`currency` is 'euro': not a currency", "text"),
    ("tokens_per_day: 5\n", 1, "unknown key `tokens_per_day`", "belongs to `models.NAME.limits`"),
]


@pytest.mark.parametrize(("text", "line", "message", "hint"), MISTAKES)
def test_a_mistake_is_told_with_its_line_and_the_way_out(text: str, line: int, message: str, hint: str) -> None:
    with pytest.raises(StackError) as caught:
        loaded(text)
    assert caught.value.where == f"inhouse.yaml:{line}"
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_mistake_in_a_variable_names_the_nearest() -> None:
    with pytest.raises(StackError, match="no setting is called") as caught:
        loaded("tenants: {acme: {}}\n", INHOUSE_TENANTS__ACME__LIMITS__TOKEN_PER_DAY="1")
    assert caught.value.hint == "did you mean `INHOUSE_TENANTS__ACME__LIMITS__TOKENS_PER_DAY`?"


def test_editors_know_the_names() -> None:
    properties = schema()["properties"]
    assert properties["tenants"]["propertyNames"] == {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
    assert "propertyNames" in properties["keys"]


@given(st.integers(0, MONEY_MAX - 1))
def test_money_survives_being_written_and_read(micros: int) -> None:
    """As a number and as text, to the millionth."""
    assert parse_money(render_money(micros)) == micros
    assert parse_money(str(render_money(micros))) == micros


@pytest.mark.parametrize("value", [True, None, "", "1,5", "nan", "inf", "-0.5", -1, 1e9, "0.0000001", [1]])
def test_what_is_no_amount_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"amount|finer"):
        parse_money(value)
