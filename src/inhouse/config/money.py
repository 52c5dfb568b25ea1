"""Money as people write it: `0.15`, `2`, `"12.50"`. Kept as a whole number of millionths, never as a float."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

MICROS: Final = 1_000_000
MONEY_MAX: Final = 10**15
MONEY_PATTERN: Final = r"^\s*\d+(\.\d{1,6})?\s*$"


def parse_money(value: object) -> int:
    """Millionths of `0.15`, `2` or `"12.50"`.

    Raises:
        ValueError: when it is no amount, below zero, a billion or more, or finer than a millionth.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("not an amount of money")
    try:
        micros = Decimal(str(value).strip()) * MICROS
    except InvalidOperation:
        raise ValueError("not an amount of money") from None
    if not micros.is_finite():
        raise ValueError("not an amount of money")
    if micros < 0:
        raise ValueError("an amount of money cannot be below zero")
    if micros >= MONEY_MAX:
        raise ValueError("too large an amount of money")
    if micros != micros.to_integral_value():
        raise ValueError("finer than a millionth")
    return int(micros)


def parse_money_or_none(value: object) -> int | None:
    return None if value is None else parse_money(value)


def render_money(micros: int) -> int | float:
    """The amount as a number; `parse_money` makes the same of it again."""
    return micros // MICROS if micros % MICROS == 0 else float(Decimal(micros) / MICROS)
