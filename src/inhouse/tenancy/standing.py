"""Where tenants stand: their limits, how much of them is used, and what they used today and this month (UTC)."""

from __future__ import annotations

from typing import Any

from inhouse.config import Stack
from inhouse.config.money import render_money
from inhouse.store.ledger import Ledger, Now, UsageFilter, UsageRow
from inhouse.store.ledger_account import DAY_US, month_of

_MONTH_DAYS_MAX = 31


def standings(stack: Stack, ledger: Ledger, at: Now, *, only: str | None = None) -> list[dict[str, Any]]:
    """A row for each tenant of the stack and each that used something this month; or the row of `only`, known or not.

    Money is in millionths of the currency. Raises `StateError`.
    """
    today = at.wall_us // DAY_US
    month = month_of(today)
    recent = ledger.usage(UsageFilter(since_day=today - _MONTH_DAYS_MAX, tenant=only))
    used = [row for row in recent if month_of(row.day) == month]
    names = [*stack.tenants, *sorted(row.tenant for row in used)] if only is None else [only]
    found = []
    for name in dict.fromkeys(names):
        spec = stack.tenants.get(name, stack.tenant_defaults)
        own = [row for row in used if row.tenant == name]
        found.append(
            {
                "tenant": name,
                "named": name in stack.tenants,
                "weight": spec.weight,
                "priority": spec.priority,
                "models": spec.models,
                "limits": {
                    limit: {"limit": most, "used": use.used, "held": use.held}
                    for limit, use in ledger.live(f"tenant:{name}", at).items()
                    if (most := getattr(spec.limits, limit)) is not None
                },
                "today": _sums([row for row in own if row.day == today]),
                "month": _sums(own),
            }
        )
    return found


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its money as amounts of the currency."""
    limits = {
        name: {part: render_money(value) for part, value in parts.items()} if name.startswith("money") else parts
        for name, parts in row["limits"].items()
    }
    spent = {period: {**row[period], "money": render_money(row[period]["money"])} for period in ("today", "month")}
    return {**row, "limits": limits, **spent}


def _sums(rows: list[UsageRow]) -> dict[str, int]:
    return {
        "requests": sum(row.requests for row in rows),
        "tokens": sum(row.prompt_tokens + row.completion_tokens for row in rows),
        "money": sum(row.money for row in rows),
    }
