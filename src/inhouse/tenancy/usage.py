"""What was used, as it is asked for: which days, whose, and added up by what. Pure.

Not here: where the counts are kept (`store/ledger`) and how they get there (`quotas`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from difflib import get_close_matches
from typing import Any

from inhouse.config import parse_moment
from inhouse.config.money import render_money
from inhouse.config.units import parse_duration
from inhouse.errors import BadRequest
from inhouse.store.ledger import UsageFilter, UsageRow

DIMENSIONS = ("day", "tenant", "key", "model")
COUNTS = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")
_FIELDS = {"day": "day", "tenant": "tenant", "key": "key_id", "model": "model"}
_DAY_S = 86400


def wanted(
    *,
    since: str,
    until: str | None = None,
    tenant: str | None = None,
    key: str | None = None,
    model: str | None = None,
    now_s: float,
) -> UsageFilter:
    """The rows that are asked for. Raises `BadRequest`, whose `param` is the argument that cannot be."""
    return UsageFilter(
        _day(since, "since", now_s), None if until is None else _day(until, "until", now_s), tenant, key, model
    )


def dimensions(names: Iterable[str]) -> tuple[str, ...]:
    """What to add up by, in the order of the columns; all for none. Raises `BadRequest`."""
    chosen = set(names)
    for name in sorted(chosen.difference(DIMENSIONS)):
        near = get_close_matches(name, DIMENSIONS, n=1)
        way_out = f"did you mean '{near[0]}'?" if near else f"use can be added up by {', '.join(DIMENSIONS)}"
        raise BadRequest(f"use is not known by '{name[:64]}'; {way_out}", param="by")
    return tuple(name for name in DIMENSIONS if name in chosen) or DIMENSIONS


def added_up(rows: Iterable[UsageRow], by: Sequence[str]) -> list[UsageRow]:
    """One row for each combination of what it is added up by; in the others, day is 0 and text is empty."""
    found: dict[tuple[object, ...], UsageRow] = {}
    for row in rows:
        place = tuple(getattr(row, _FIELDS[name]) for name in by)
        known = found.get(place)
        if known is None:
            kept = dict(zip(by, place, strict=True))
            known = UsageRow(kept.get("day", 0), kept.get("tenant", ""), kept.get("key", ""), kept.get("model", ""))
        sums = {name: getattr(known, name) + getattr(row, name) for name in (*COUNTS, "money")}
        found[place] = UsageRow(known.day, known.tenant, known.key_id, known.model, **sums)
    return [found[place] for place in sorted(found, key=lambda place: tuple(map(_sortable, place)))]


def shown(row: UsageRow, by: Sequence[str]) -> dict[str, Any]:
    """A row for scripts and for the API; money as an amount of the currency."""
    places = {"day": day_text(row.day), "tenant": row.tenant, "key": row.key_id, "model": row.model}
    counts = {name: getattr(row, name) for name in COUNTS}
    return {**{name: places[name] for name in by}, **counts, "money": render_money(row.money)}


def day_text(day: int) -> str:
    """`2027-01-31` of days since 1970-01-01."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def _day(text: str, param: str, now_s: float) -> int:
    """Days since 1970-01-01 (UTC), of a time back from now or of a date."""
    try:
        return int(now_s - parse_duration(text)) // _DAY_S
    except ValueError as as_duration:
        try:
            return int(parse_moment(text)) // _DAY_S
        except ValueError:
            raise BadRequest(
                f"'{text[:64]}' is no time: {as_duration}; such as '30 d' or '2027-01-31'", param=param
            ) from None


def _sortable(value: object) -> str:
    return f"{value:010}" if isinstance(value, int) else str(value)
