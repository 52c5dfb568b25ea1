"""Which limits hold for a caller, what a request may use at most, and what a refusal says. Pure.

A request counts for up to three scopes: its tenant, its key and its model (the last one is shared by all tenants). A
scope without limits is left out, so that a request that nothing limits costs nothing.

Not here: how much is used (`store/ledger`), and when to ask (`quotas`).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from inhouse.config import LimitsSpec, Stack
from inhouse.core import Identity, Usage
from inhouse.errors import Forbidden, QuotaExceeded, RateLimited, RequestExceedsQuota
from inhouse.store.ledger import Demand, LimitName, Limits, Rate, Refusal, Shortage
from inhouse.store.ledger_purse import Purse
from inhouse.tenancy.prices import FREE, Price, amount, price_of

NO_LIMITS = Limits()

_WORDS: dict[LimitName, tuple[str, str]] = {
    "requests_per_minute": ("requests", "per minute"),
    "tokens_per_minute": ("tokens", "per minute"),
    "tokens_per_day": ("tokens", "per day (UTC)"),
    "tokens_per_month": ("tokens", "per month (UTC)"),
    "money_per_day": ("", "per day (UTC)"),
    "money_per_month": ("", "per month (UTC)"),
    "concurrent_requests": ("requests", "at once"),
}
_SECTIONS = {"tenant": "tenants", "model": "models"}
_OF_REQUESTS = frozenset({"requests_per_minute", "concurrent_requests"})
_PERIODS = frozenset({"tokens_per_day", "tokens_per_month", "money_per_day", "money_per_month"})
_REQUESTS_LINES, _TOKENS_LINES = (
    b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n" % ((name,) * 3)
    for name in (b"requests", b"tokens")
)
_LONG_S = 60.0
"""Longer than clients wait of their own accord."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a request may use at most. All its prompts together, which count once, and each of its answers."""

    prompt_tokens: int
    completion_tokens: int
    answers: int = 1

    @property
    def usage(self) -> Usage:
        return Usage(self.prompt_tokens, self.completion_tokens * self.answers)

    @property
    def tokens(self) -> int:
        """All together."""
        return self.prompt_tokens + self.completion_tokens * self.answers

    def spent(self, told: Usage, events: int, reused_tokens: int = 0) -> Usage:
        """What to charge: what the engine told; where it was cut off, the prompt's bound and a token for each event.

        Some events carry no token: there are never more tokens than the answers may have. Of an answer that was reused
        the prompt counts as cached, and tokens that were not generated for it not at all.
        """
        if told.total_tokens:
            return told.without(reused_tokens)
        if not events:
            return Usage()
        most = self.usage.completion_tokens or events
        cached = self.prompt_tokens if reused_tokens else 0
        return Usage(self.prompt_tokens, min(events, most), cached).without(reused_tokens)


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for one caller and one model. `tokens_max`: no request of more can ever be let in."""

    demands: tuple[Demand, ...]
    price: Price
    tokens_max: int | None
    currency: str


def limits_of(spec: LimitsSpec) -> Limits:
    return Limits(**spec.model_dump())


def tighter(one: Limits, other: Limits) -> Limits:
    """Both hold: of each limit the smaller."""
    found: dict[str, int | None] = {}
    for name in Limits.__struct_fields__:
        given = [limit for limits in (one, other) if (limit := getattr(limits, name)) is not None]
        found[name] = min(given, default=None)
    return Limits(**found)


def models_allowed(stack: Stack, identity: Identity) -> frozenset[str] | None:
    """The models that tenant and key may both use; None where neither names any."""
    tenant = stack.tenants.get(identity.tenant, stack.tenant_defaults)
    key = stack.keys.get(identity.key_id)
    named = [tenant.models, list(identity.models), [] if key is None else key.models]
    lists = [frozenset(models) for models in named if models]
    return frozenset.intersection(*lists) if lists else None


def terms(stack: Stack, identity: Identity, model: str) -> Terms:
    """Raises `Forbidden` where tenant or key may not use the model."""
    tenant = stack.tenants.get(identity.tenant, stack.tenant_defaults)
    key = stack.keys.get(identity.key_id)
    key_limits = Limits(**dict(identity.limits)) if identity.limits else NO_LIMITS
    _check_model(model, f"tenant '{identity.tenant}'", tenant.models)
    _check_model(model, f"key '{identity.key_id}'", identity.models)
    if key is not None:
        _check_model(model, f"key '{identity.key_id}'", key.models)
        key_limits = tighter(key_limits, limits_of(key.limits))
    spec = stack.models.get(model)
    scopes = [
        (f"tenant:{identity.tenant}", limits_of(tenant.limits)),
        (f"key:{identity.key_id}", key_limits),
        (f"model:{model}", NO_LIMITS if spec is None else limits_of(spec.limits)),
    ]
    demands = tuple(Demand(scope, limits) for scope, limits in scopes if limits != NO_LIMITS)
    bounds = [limit for demand in demands for _, limit in _token_limits(demand.limits) if limit is not None]
    price = FREE if spec is None else price_of(spec.price)
    return Terms(demands, price, min(bounds, default=None), stack.currency)


def check_fits(terms: Terms, bound: Bound, money: int) -> None:
    """Raises `RequestExceedsQuota` for a request that could not be let in even if nothing were used."""
    tokens = bound.tokens
    for demand in terms.demands:
        for name, limit in _token_limits(demand.limits):
            if limit is not None and tokens > limit:
                raise _too_large(demand.scope, name, _needs(bound), f"{limit:,} tokens", terms, limit, bound)
        for name, limit in _money_limits(demand.limits):
            if limit is not None and money > limit:
                asked, most = amount(money, terms.currency), amount(limit, terms.currency)
                raise _too_large(demand.scope, name, f"{asked} ({_needs(bound)})", most, terms, None, bound)


def refusal_error(refusal: Refusal, bound: Bound, currency: str) -> RateLimited:
    """The error for the limit that holds the longest: what it is, how much is used, when to come back."""
    worst = max(refusal.shortages, key=lambda shortage: shortage.retry_after_us)
    retry_after_s = math.ceil(refusal.retry_after_us / 1000) / 1000
    held = rate_headers(refusal.requests_rate, refusal.tokens_rate)
    limits = tuple(f"{shortage.scope} {shortage.name}" for shortage in refusal.shortages)
    if worst.name in _PERIODS and not worst.held_by_others:
        message = f"{_standing(worst, currency)}; it begins anew in {_in_words(retry_after_s)}; {_raise_it(worst)}"
        again = ((b"x-should-retry", b"false"),) if retry_after_s > _LONG_S else ()
        return QuotaExceeded(message, retry_after_s=retry_after_s, headers=(*held, *again), limits=limits)
    message = f"{_standing(worst, currency)}; retry in {_in_words(retry_after_s)}"
    if worst.name == "tokens_per_minute" and bound.completion_tokens > 1:
        message += ", or ask for fewer `max_tokens`"
    by_number = any(shortage.name in _OF_REQUESTS for shortage in refusal.shortages)
    return RateLimited(
        message, retry_after_s=retry_after_s, headers=held, fewer_tokens_help=not by_number, limits=limits
    )


def rate_headers(requests: Rate | None, tokens: Rate | None) -> tuple[tuple[bytes, bytes], ...]:
    """The same as names and values."""
    found = (line.partition(b": ") for line in rate_lines(requests, tokens).split(b"\r\n")[:-1])
    return tuple([(name, value) for name, _, value in found])


def rate_lines(requests: Rate | None, tokens: Rate | None) -> bytes:
    """`x-ratelimit-limit-requests` and its kin, as OpenAI sends them, as lines of a head; none where no limit per
    minute is set."""
    lines = b""
    if requests is not None:
        lines = _REQUESTS_LINES % (requests.limit, requests.remaining, _reset(requests.reset_us))
    if tokens is not None:
        lines += _TOKENS_LINES % (tokens.limit, tokens.remaining, _reset(tokens.reset_us))
    return lines


def purse_lines(purse: Purse) -> bytes:
    """As `rate_lines`, of where the limits of a purse stand: what it tells is there again in a minute. (Written out, as
    that is compiled to a third of the time.)
    """
    requests, tokens, idle = purse.requests_rate, purse.tokens_rate, purse.idle
    if requests is None or tokens is None:
        return rate_lines(*purse.rates())
    return (
        b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\nx-ratelimit-reset-requests: 1m0s\r\n"
        b"x-ratelimit-limit-tokens: %d\r\nx-ratelimit-remaining-tokens: %d\r\nx-ratelimit-reset-tokens: 1m0s\r\n"
    ) % (
        requests.limit,
        requests.remaining + idle.requests,
        tokens.limit,
        tokens.remaining + idle.tokens,
    )


@lru_cache(maxsize=1024)
def _reset(microseconds: int) -> bytes:
    return duration(microseconds).encode()


def duration(microseconds: int) -> str:
    """In OpenAI's form: `0s`, `20ms`, `1.5s`, `6m0s`, `1h0m0s`. Rounded up to a millisecond."""
    milliseconds = -(-microseconds // 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds > 0 else "0s"
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{seconds}.{rest:03d}".rstrip("0").rstrip(".") + "s" if rest else f"{seconds}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _check_model(model: str, whose: str, models: Collection[str]) -> None:
    if models and model not in models:
        raise Forbidden(
            f"{whose} may not use the model '{model}'; it may use: {', '.join(models)}; "
            "who runs this server can allow it",
            param="model",
        )


def _token_limits(limits: Limits) -> tuple[tuple[LimitName, int | None], ...]:
    return (
        ("tokens_per_minute", limits.tokens_per_minute),
        ("tokens_per_day", limits.tokens_per_day),
        ("tokens_per_month", limits.tokens_per_month),
    )


def _money_limits(limits: Limits) -> tuple[tuple[LimitName, int | None], ...]:
    return (("money_per_day", limits.money_per_day), ("money_per_month", limits.money_per_month))


def _too_large(
    scope: str, name: LimitName, asked: str, most: str, terms: Terms, limit: int | None, bound: Bound
) -> RequestExceedsQuota:
    room = None if limit is None else (limit - bound.prompt_tokens) // bound.answers
    if room is not None and room < 1:
        way_out = "shorten the prompt"
    else:
        way_out = "ask for fewer `max_tokens`" if room is None else f"send `max_tokens` of {room:,} or less"
    return RequestExceedsQuota(
        f"this request may need {asked}, {_who(scope)} never has more than {most} {_WORDS[name][1]}; {way_out}, "
        f"or have {_setting(scope, name)} raised",
        param="max_tokens",
    )


def _needs(bound: Bound) -> str:
    times = f" for each of {bound.answers} answers" if bound.answers > 1 else ""
    parts = f"a prompt of up to {bound.prompt_tokens:,} and `max_tokens` of {bound.completion_tokens:,}{times}"
    return f"{bound.usage.total_tokens:,} tokens ({parts})"


def _standing(shortage: Shortage, currency: str) -> str:
    unit, period = _WORDS[shortage.name]

    def shown(value: int) -> str:
        return f"{value:,}" if unit else amount(value, currency)

    of = f"{shown(shortage.limit)}{f' {unit}' if unit else ''} {period}"
    if shortage.name == "concurrent_requests":
        return f"{_who(shortage.scope)} has {shown(shortage.held)} of {of} in flight"
    held = f" and requests in flight may use {shown(shortage.held)} more" if shortage.held else ""
    asked = "" if shortage.name == "requests_per_minute" else f"; this request may need {shown(shortage.asked)}"
    return f"{_who(shortage.scope)} has used {shown(shortage.used)} of {of}{held}{asked}"


def _raise_it(shortage: Shortage) -> str:
    return f"who runs this server can raise {_setting(shortage.scope, shortage.name)}"


def _who(scope: str) -> str:
    kind, _, name = scope.partition(":")
    return f"{kind} '{name}'"


def _setting(scope: str, name: LimitName) -> str:
    kind, _, of = scope.partition(":")
    if kind == "key":  # its limits are in its record, in inhouse.yaml, or in both
        return f"`{name}` of the key '{of}'"
    return f"`{_SECTIONS[kind]}.{of}.limits.{name}`"


def _in_words(seconds: float) -> str:
    whole = math.ceil(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes = math.ceil(whole / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = math.ceil(minutes / 60)
    return f"{hours} h" if hours < 72 else f"{math.ceil(hours / 24)} days"
