"""What tokens cost, in whole millionths of the stack's currency. Pure.

A request's cost is rounded up to the next millionth, once. It grows with every count of tokens, so what a request may
cost at most is the cost of the most tokens that it may use.
"""

from __future__ import annotations

from dataclasses import dataclass

from inhouse.config import PriceSpec
from inhouse.config.money import MICROS
from inhouse.core import Usage

TOKENS = 1_000_000
"""Prices are for so many."""


@dataclass(frozen=True, slots=True)
class Price:
    """Millionths of the currency for a million tokens of each kind."""

    input: int = 0
    cached_input: int = 0
    output: int = 0

    def cost(self, usage: Usage) -> int:
        """What was used costs; a cached token counts for the price of one."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        fresh = usage.prompt_tokens - cached
        return _rounded_up(fresh * self.input + cached * self.cached_input + usage.completion_tokens * self.output)

    def cost_max(self, prompt_tokens: int, completion_tokens: int) -> int:
        """What it may cost at most, whatever comes from the cache."""
        return _rounded_up(prompt_tokens * max(self.input, self.cached_input) + completion_tokens * self.output)


FREE = Price()
"""The price of every model that costs nothing."""


def price_of(spec: PriceSpec) -> Price:
    """What is left out costs nothing; cached input without a price of its own costs as much as input."""
    plain = spec.input or 0
    price = Price(plain, plain if spec.cached_input is None else spec.cached_input, spec.output or 0)
    return FREE if price == FREE else price


def amount(micros: int, currency: str) -> str:
    """`0.15 EUR`; at least two decimals, more where there are any."""
    whole, rest = divmod(micros, MICROS)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{whole:,}.{decimals} {currency}"


def _rounded_up(micros_times_tokens: int) -> int:
    return -(-micros_times_tokens // TOKENS)
