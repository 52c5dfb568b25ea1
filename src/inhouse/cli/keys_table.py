"""Keys as a table. A column in which no key has anything is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inhouse.tenancy.desk import Listed

_ALWAYS = ("ID", "NOTE", "TENANT", "MADE", "EXPIRES", "STATE")


def print_table(keys: Sequence[Listed], now: float, currency: str) -> None:
    """`now` is in seconds since 1970, UTC; times are shown in the zone of this machine."""
    import sys

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns: dict[str, Callable[[Listed], str]] = {
        "ID": lambda listed: listed.key.id,
        "NOTE": lambda listed: listed.key.note,
        "TENANT": lambda listed: listed.key.tenant,
        "ROLES": lambda listed: ", ".join(sorted(listed.key.roles)),
        "MODELS": lambda listed: ", ".join(listed.key.models),
        "LIMITS": lambda listed: limits_in_words(listed, currency),
        "MADE": lambda listed: "" if listed.reference is not None else when(listed.key.created_at),
        "EXPIRES": lambda listed: when(listed.key.expires_at) or "never",
        "DECLARED BY": lambda listed: listed.reference or "",
        "STATE": lambda listed: _state(listed, now),
    }
    shown = {
        title: cells
        for title, cell in columns.items()
        if any(cells := [cell(listed) for listed in keys]) or title in _ALWAYS
    }
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in shown:
        table.add_column(title, overflow="fold", no_wrap=title in ("ID", "STATE"))
    for row, listed in zip(zip(*shown.values(), strict=True), keys, strict=True):
        table.add_row(*(Text(cell) for cell in row), style="" if listed.key.live(now) else "dim")
    Console(width=None if sys.stdout.isatty() else 500).print(table)  # a pipe has no width


def limits_in_words(listed: Listed, currency: str) -> str:
    """`50,000 tokens/day, 5.00 EUR/month, 2 at once`"""
    import msgspec

    from inhouse.tenancy.prices import amount

    words = []
    for name, limit in msgspec.structs.asdict(listed.key.limits).items():
        if limit is None:
            continue
        thing, _, period = name.partition("_per_")
        if thing == "money":
            words.append(f"{amount(limit, currency)}/{period}")
        else:
            words.append(f"{limit:,} {thing}/{period}" if period else f"{limit:,} at once")
    return ", ".join(words)


def when(at: float | None) -> str:
    """In the zone of this machine; nothing for None."""
    return "" if at is None else datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M")


def _state(listed: Listed, now: float) -> str:
    until = listed.key.old_until
    state = listed.state(now)
    return f"{state}, old until {when(until)}" if state == "live" and until is not None and until > now else state
