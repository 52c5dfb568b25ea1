"""Use that is counted and not written yet: sums in memory, one row for each day, tenant, key and model. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from inhouse.store.ledger import UsageRow


class UsageSums:
    def __init__(self) -> None:
        self._sums: dict[tuple[int, str, str, str], UsageRow] = {}

    def __len__(self) -> int:
        return len(self._sums)

    def add(self, rows: Iterable[UsageRow]) -> None:
        for row in rows:
            place = (row.day, row.tenant, row.key_id, row.model)
            known = self._sums.get(place)
            self._sums[place] = row if known is None else added(known, row)

    def rows(self) -> tuple[UsageRow, ...]:
        """The oldest day first."""
        return tuple(row for _, row in sorted(self._sums.items()))

    def taken(self) -> tuple[UsageRow, ...]:
        """All of them; from now on they are somebody else's."""
        rows = self.rows()
        self._sums.clear()
        return rows


def added(one: UsageRow, other: UsageRow) -> UsageRow:
    """Both have the same day, tenant, key and model."""
    return UsageRow(
        one.day,
        one.tenant,
        one.key_id,
        one.model,
        one.requests + other.requests,
        one.prompt_tokens + other.prompt_tokens,
        one.cached_tokens + other.cached_tokens,
        one.completion_tokens + other.completion_tokens,
        one.money + other.money,
    )
