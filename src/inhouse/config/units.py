"""Sizes and durations as people write them: `8 MiB`, `500 ms`. Bytes are whole, seconds are floats.

Parsing accepts plain numbers too (bytes, seconds). Rendering is canonical: `parse(render(x)) == x` for every x, with
the unit that leaves the smallest whole number in front. Letters that mean two things (`M`, `k`, `m`) are refused.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

KIB: Final = 1024
MIB: Final = 1024**2
GIB: Final = 1024**3
SIZE_MAX: Final = 1024**6
DURATION_MAX_S: Final = 36525 * 86400.0

SIZES: Final[dict[str, int]] = {
    "B": 1,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
}
DURATIONS: Final[dict[str, Decimal]] = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "min": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
SIZE_PATTERN: Final = r"^\s*\d+(\.\d+)?\s*([Bb]|[KkMmGgTt][Ii]?[Bb])?\s*$"
PERCENT_PATTERN: Final = r"^\s*\d+(\.\d+)?\s*%\s*$"
DURATION_PATTERN: Final = r"^\s*(\d+(\.\d+)?|(\d+(\.\d+)?\s*(ms|s|min|h|d)\s*)+)\s*$"

_NUMBER = r"(\d+(?:\.\d+)?)"
_SIZE = re.compile(rf"\s*{_NUMBER}\s*([A-Za-z]*)\s*", re.ASCII)
_PART = re.compile(rf"\s*{_NUMBER}\s*([A-Za-z]+)\s*", re.ASCII)
_PERCENT = re.compile(rf"\s*{_NUMBER}\s*%\s*", re.ASCII)
_PLAIN = re.compile(rf"\s*{_NUMBER}\s*", re.ASCII)
_BY_FOLDED = {unit.lower(): factor for unit, factor in SIZES.items()}


def parse_size(value: object) -> int:
    """Bytes of `8 MiB`, `512 KiB`, `1 GB` or a plain whole number.

    Raises:
        ValueError: when it is no size, below zero, beyond 1024 PiB, or not a whole number of bytes.
    """
    if isinstance(value, bool):
        raise ValueError("not a size")
    if isinstance(value, int):
        return _in_bounds(value)
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a size")
    number, unit = match.groups()
    factor = _BY_FOLDED.get(unit.lower() or "b")
    if factor is None:
        raise ValueError(f"unknown unit {unit!r}; the units are {', '.join(SIZES)}")
    size = Decimal(number) * factor
    if size != size.to_integral_value():
        raise ValueError("not a whole number of bytes")
    return _in_bounds(int(size))


def render_size(size: int) -> str:
    """The canonical text: the unit that leaves the smallest whole number."""
    if size == 0:
        return "0 B"
    unit = min((unit for unit, factor in SIZES.items() if size % factor == 0), key=lambda unit: size // SIZES[unit])
    return f"{size // SIZES[unit]} {unit}"


def parse_duration(value: object) -> float:
    """Seconds of `500 ms`, `30 s`, `2 min`, `1 h 30 min` or a plain number.

    Raises:
        ValueError: when it is no duration, below zero, or longer than a century.
    """
    if isinstance(value, bool):
        raise ValueError("not a duration")
    if isinstance(value, int | float):
        return _in_range(float(value))
    if not isinstance(value, str):
        raise ValueError("not a duration")
    if plain := _PLAIN.fullmatch(value):
        return _in_range(float(plain.group(1)))
    total, end = Decimal(0), 0
    while end < len(value) and (part := _PART.match(value, end)):
        number, unit = part.groups()
        if unit not in DURATIONS:
            raise ValueError(f"unknown unit {unit!r}; the units are {', '.join(DURATIONS)}")
        total += Decimal(number) * DURATIONS[unit]
        end = part.end()
    if end == 0 or end < len(value):
        raise ValueError("not a duration")
    return _in_range(float(total))


def render_duration(seconds: float) -> str:
    """The canonical text: the unit that leaves the smallest whole number, else a decimal number of seconds."""
    exact = Decimal(repr(seconds))
    if exact == 0:
        return "0 s"
    counts = {unit: exact / factor for unit, factor in DURATIONS.items()}
    whole = [unit for unit, count in counts.items() if count % 1 == 0 and count * DURATIONS[unit] == exact]
    if not whole:
        return f"{exact:f} s"
    unit = min(whole, key=lambda unit: counts[unit])
    return f"{int(counts[unit])} {unit}"


def parse_percent(value: object) -> float:
    """Percent of `10%` or `2.5 %`. A bare number is refused: 0.1 could be a tenth or a thousandth.

    Raises:
        ValueError: when it has no percent sign.
    """
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not a percentage")
    return float(match[1])


def render_percent(percent: float) -> str:
    """The canonical text: `10%`, `2.5%`."""
    return f"{Decimal(repr(percent)).normalize():f}%"


def _in_bounds(size: int) -> int:
    if not 0 <= size <= SIZE_MAX:
        raise ValueError("a size cannot be below zero" if size < 0 else "too large a size")
    return size


def _in_range(seconds: float) -> float:
    if not 0 <= seconds <= DURATION_MAX_S:  # also refuses nan
        raise ValueError("a duration cannot be below zero" if seconds < 0 else "too long a duration")
    return seconds
