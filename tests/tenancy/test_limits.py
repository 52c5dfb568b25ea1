"""Which limits hold for whom, what a request may cost at most, and what a refusal says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.config import Stack
from inhouse.core import Identity, Usage
from inhouse.errors import Forbidden, QuotaExceeded, RateLimited, RequestExceedsQuota
from inhouse.store.ledger import Demand, LimitName, Limits, Rate, Refusal, Shortage
from inhouse.tenancy.limits import Bound, check_fits, duration, rate_headers, refusal_error, terms
from inhouse.tenancy.prices import Price, amount, price_of

STACK = Stack.model_validate(
    {
        "models": {
            "chat": {"source": "demo", "price": {"input": 0.15, "cached_input": "0.05", "output": 0.6}},
            "big": {"source": "demo", "limits": {"tokens_per_minute": 5000}},
        },
        "tenants": {"acme": {"models": ["chat"], "limits": {"tokens_per_day": 900, "money_per_day": 0.01}}},
        "tenant_defaults": {"limits": {"requests_per_minute": 3}},
        "keys": {"k4w7qd2mzp": {"limits": {"concurrent_requests": 2}, "models": ["big"]}},
    }
)
SECOND = 1_000_000


def who(tenant: str = "acme", key: str = "a") -> Identity:
    return Identity(key_id=key, tenant=tenant)


def refusal(name: LimitName, *, retry_s: float, by_others: bool = False, used: int = 90, held: int = 5) -> Refusal:
    wait_us = round(retry_s * SECOND)
    shortage = Shortage("tenant:acme", name, 100, used, held, 20, wait_us, by_others)
    return Refusal(shortages=(shortage,), retry_after_us=wait_us, requests_rate=Rate(100, 0, wait_us))


def test_a_caller_counts_for_tenant_key_and_model_where_they_have_limits() -> None:
    """A scope without limits is left out; a tenant that is not named has the defaults."""
    assert [demand.scope for demand in terms(STACK, who(), "chat").demands] == ["tenant:acme"]
    both = terms(STACK, who("other", "k4w7qd2mzp"), "big").demands
    assert both == (
        Demand("tenant:other", Limits(requests_per_minute=3)),
        Demand("key:k4w7qd2mzp", Limits(concurrent_requests=2)),
        Demand("model:big", Limits(tokens_per_minute=5000)),
    )
    assert terms(Stack(), who(), "demo").demands == ()


def test_the_most_that_could_ever_be_let_in_is_known() -> None:
    """What a request without `max_tokens` is cut to."""
    assert terms(STACK, who(), "chat").tokens_max == 900
    assert terms(STACK, who("other"), "chat").tokens_max is None


def test_a_model_that_is_not_allowed_is_named_with_those_that_are() -> None:
    with pytest.raises(Forbidden, match=r"tenant 'acme' may not use the model 'big'; it may use: chat"):
        terms(STACK, who(), "big")
    with pytest.raises(Forbidden, match=r"key 'k4w7qd2mzp' may not use"):
        terms(STACK, who("other", "k4w7qd2mzp"), "chat")


def test_limits_of_a_key_and_of_the_file_hold_both() -> None:
    """The tighter of each; models must be allowed by the key's record, by the file and by the tenant."""
    key = Identity("k4w7qd2mzp", "other", models=("big", "gone"), limits=(("tokens_per_day", 9),))
    agreed = terms(STACK, key, "big")
    assert agreed.demands[1] == Demand("key:k4w7qd2mzp", Limits(tokens_per_day=9, concurrent_requests=2))
    assert agreed.tokens_max == 9
    with pytest.raises(Forbidden, match=r"key 'k4w7qd2mzp' may not use the model 'chat'; it may use: big, gone"):
        terms(STACK, key, "chat")
    with pytest.raises(Forbidden, match=r"key 'k4w7qd2mzp' may not use the model 'gone'; it may use: big"):
        terms(STACK, key, "gone")
    tight = Identity("k4w7qd2mzp", "other", limits=(("concurrent_requests", 1), ("money_per_day", 5)))
    assert terms(STACK, tight, "big").demands[1].limits == Limits(concurrent_requests=1, money_per_day=5)


def test_a_limit_of_a_key_is_named_by_its_key() -> None:
    """It may stand in the key's record or in the file, so no place in the file is named."""
    key = Identity("abc", "nobody", limits=(("tokens_per_day", 9),))
    with pytest.raises(RequestExceedsQuota, match=r"or have `tokens_per_day` of the key 'abc' raised"):
        check_fits(terms(STACK, key, "big"), Bound(5, 5), 0)


def test_a_request_that_never_fits_is_the_clients_to_change() -> None:
    """400, with the `max_tokens` that would fit."""
    agreed = terms(STACK, who(), "chat")
    check_fits(agreed, Bound(100, 800), 0)
    with pytest.raises(RequestExceedsQuota) as caught:
        check_fits(agreed, Bound(100, 801), 0)
    assert (caught.value.status, caught.value.code) == (400, "request_exceeds_quota")
    assert "tenant 'acme' never has more than 900 tokens per day (UTC)" in caught.value.message
    assert (
        "send `max_tokens` of 800 or less, or have `tenants.acme.limits.tokens_per_day` raised" in caught.value.message
    )
    with pytest.raises(RequestExceedsQuota, match=r"each of 2 answers\).*`max_tokens` of 400 or less"):
        check_fits(agreed, Bound(100, 401, answers=2), 0)
    with pytest.raises(RequestExceedsQuota, match="shorten the prompt"):
        check_fits(agreed, Bound(901, 1), 0)
    with pytest.raises(RequestExceedsQuota, match=r"need 0.01001 EUR .* more than 0.01 EUR per day"):
        check_fits(agreed, Bound(1, 1), 10_010)


def test_a_quota_of_a_day_is_another_error_than_a_limit_per_minute() -> None:
    """Each names scope, limit, use and the way out; what is held by requests in flight is no used-up quota."""
    spent = refusal_error(refusal("tokens_per_day", retry_s=7200), Bound(10, 10), "EUR")
    assert type(spent) is QuotaExceeded
    assert (spent.status, spent.code, spent.type, spent.retry_after_s) == (
        429,
        "insufficient_quota",
        "insufficient_quota",
        7200,
    )
    assert spent.message == (
        "tenant 'acme' has used 90 of 100 tokens per day (UTC) and requests in flight may use 5 more; this request may "
        "need 20; it begins anew in 2 h; who runs this server can raise `tenants.acme.limits.tokens_per_day`"
    )
    assert (b"x-should-retry", b"false") in spent.headers
    quick = refusal_error(refusal("tokens_per_minute", retry_s=11.2), Bound(10, 10), "EUR")
    assert (type(quick), quick.code, quick.retry_after_s) == (RateLimited, "rate_limit_exceeded", 11.2)
    assert quick.message.endswith("this request may need 20; retry in 12 s, or ask for fewer `max_tokens`")
    assert quick.headers[0] == (b"x-ratelimit-limit-requests", b"100")
    held = refusal_error(refusal("tokens_per_day", retry_s=1, by_others=True, used=10, held=85), Bound(10, 10), "EUR")
    assert type(held) is RateLimited
    money = refusal_error(refusal("money_per_month", retry_s=400_000), Bound(1, 1), "CHF")
    assert "has used 0.00009 CHF of 0.0001 CHF per month" in money.message
    assert "begins anew in 5 days" in money.message
    busy = refusal_error(refusal("concurrent_requests", retry_s=1, used=0, held=100), Bound(1, 1), "EUR")
    assert busy.message == "tenant 'acme' has 100 of 100 requests at once in flight; retry in 1 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0000001, "0s"),
        (0.000001, "1ms"),
        (0.02, "20ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (6.0001, "6.001s"),
        (59.9999, "1m0s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
    ],
)
def test_durations_are_in_the_form_of_openai(seconds: float, text: str) -> None:
    assert duration(round(seconds * SECOND)) == text


def test_headers_are_those_of_openai() -> None:
    """Three for requests, three for tokens; none where no limit per minute holds."""
    assert rate_headers(None, None) == ()
    assert dict(rate_headers(Rate(60, 59, SECOND), Rate(150_000, 149_984, 360 * SECOND))) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"59",
        b"x-ratelimit-reset-requests": b"1s",
        b"x-ratelimit-limit-tokens": b"150000",
        b"x-ratelimit-remaining-tokens": b"149984",
        b"x-ratelimit-reset-tokens": b"6m0s",
    }


def test_a_hang_up_is_charged_for_the_prompt_and_what_was_sent() -> None:
    """What the engine told goes first; before the first token nothing was used."""
    bound = Bound(100, 50, answers=2)
    assert bound.spent(Usage(30, 7, 10), 9) == Usage(30, 7, 10)
    assert bound.spent(Usage(), 9) == Usage(100, 9)
    assert bound.spent(Usage(), 0) == Usage()


@given(
    told=st.one_of(st.just(Usage()), st.builds(Usage, st.integers(1, 100), st.integers(0, 20), st.integers(0, 100))),
    events=st.integers(0, 20),
    reused_tokens=st.integers(0, 40),
)
def test_an_answer_that_was_reused(told: Usage, events: int, reused_tokens: int) -> None:
    """It is charged at most what it would be charged anew, and never more than was held."""
    bound, price = Bound(100, 20), Price(input=7, cached_input=3, output=11)
    anew, reused = bound.spent(told, events), bound.spent(told, events, reused_tokens)
    assert reused.completion_tokens == max(0, anew.completion_tokens - reused_tokens)
    assert reused.total_tokens <= anew.total_tokens <= bound.usage.total_tokens
    assert price.cost(reused) <= price.cost(anew) <= price.cost_max(100, 20)


def test_prices_are_exact() -> None:
    """A fifteenth of a cent for a thousand tokens is that, not a float near it; rounded up once, to a millionth."""
    price = price_of(STACK.models["chat"].price)
    assert price == Price(input=150_000, cached_input=50_000, output=600_000)
    assert price.cost(Usage(1_000_000, 1_000_000, 0)) == 750_000
    assert price.cost(Usage(1000, 10, 900)) == 15 + 45 + 6
    assert price.cost(Usage(1, 0, 0)) == 1
    assert price_of(STACK.models["big"].price).cost(Usage(10**9, 10**9)) == 0
    assert price_of(STACK.models["chat"].price.model_copy(update={"cached_input": None})).cached_input == 150_000
    assert amount(1_234_500_000, "EUR") == "1,234.50 EUR"
    assert amount(1, "EUR") == "0.000001 EUR"


COUNTS = st.integers(0, 10**6)


@given(
    price=st.builds(Price, COUNTS, COUNTS, COUNTS),
    prompt=COUNTS,
    answer=COUNTS,
    less=COUNTS,
    fewer=COUNTS,
    cached=COUNTS,
)
def test_no_request_costs_more_than_its_bound(
    price: Price, prompt: int, answer: int, less: int, fewer: int, cached: int
) -> None:
    """For every price, also one where cached tokens are the dear ones."""
    used = Usage(max(0, prompt - less), max(0, answer - fewer), cached)
    assert 0 <= price.cost(used) <= price.cost_max(prompt, answer)
