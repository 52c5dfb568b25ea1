"""What may be wanted of a key, and what those are told who want something else."""

from __future__ import annotations

from typing import Any

import pytest

from inhouse.errors import BadRequest
from inhouse.store.ledger import Limits
from inhouse.tenancy import wanted
from inhouse.tenancy.keys import Rights

DAY_S = 86400.0


def rights(**fields: Any) -> Rights:
    plain: dict[str, Any] = {"tenant": "acme", "roles": [], "models": [], "limits": {}, "known_models": ["chat", "big"]}
    return wanted.rights(**{**plain, **fields})


def test_rights_are_taken_as_they_are_meant() -> None:
    """Numbers may be text, as a command line has them; money is exact; what is said twice counts once."""
    limits = {"tokens_per_day": "50000", "concurrent_requests": 2, "money_per_month": "99.50"}
    assert rights(roles=["admin", "admin"], models=["big", "chat", "big"], limits=limits) == Rights(
        "acme",
        frozenset({"admin"}),
        ("big", "chat"),
        Limits(tokens_per_day=50_000, concurrent_requests=2, money_per_month=99_500_000),
    )
    assert rights(models=["served-elsewhere"], known_models=None).models == ("served-elsewhere",)


@pytest.mark.parametrize(
    ("fields", "param", "told"),
    [
        ({"tenant": "-a"}, "tenant", "begins with a letter or digit"),
        ({"tenant": ""}, "tenant", "1 to 64 letters"),
        ({"roles": ["operater"]}, "roles", "did you mean 'operator'"),
        ({"models": ["chats"]}, "models", "'chats' is no model of this stack; did you mean 'chat'"),
        ({"models": ["xyz"]}, "models", "its models: chat, big"),
        ({"models": ["a b"], "known_models": None}, "models", "cannot name a model"),
        ({"limits": {"tokens-per-day": 5}}, "limits", "did you mean 'tokens_per_day'"),
        ({"limits": {"zzz": 5}}, "limits", "the limits are requests_per_minute"),
        ({"limits": {"tokens_per_day": "many"}}, "limits", "not a whole number from 1"),
        ({"limits": {"tokens_per_day": 0}}, "limits", "not a whole number from 1"),
        ({"limits": {"tokens_per_day": True}}, "limits", "not a whole number from 1"),
        ({"limits": {"money_per_day": "-1"}}, "limits", "cannot be below zero"),
    ],
)
def test_what_cannot_be_is_told(fields: dict[str, Any], param: str, told: str) -> None:
    """The argument, and the nearest that would do."""
    with pytest.raises(BadRequest, match=told) as caught:
        rights(**fields)
    assert caught.value.param == param


def test_a_lifetime_is_a_time_or_a_date() -> None:
    """A date is its first instant, in UTC unless it says otherwise."""
    assert wanted.lifetime_s("30 d", now=5.0) == 30 * DAY_S
    assert wanted.lifetime_s("1970-01-11", now=DAY_S) == 9 * DAY_S
    assert wanted.lifetime_s("1970-01-02T01:00:00+01:00", now=0.0) == DAY_S
    for text in ("soon", "0 s", "1969-12-31", "1970-02-30", "3 fortnights"):
        with pytest.raises(BadRequest, match="is no lifetime") as caught:
            wanted.lifetime_s(text, now=0.0)
        assert caught.value.param == "expires"
    with pytest.raises(BadRequest, match="is no time"):
        wanted.grace_s("a while")
