"""The statements of the table `usage`: sums by day, tenant, key and model. Text only; `ledger_sqlite` runs them."""

from __future__ import annotations

from inhouse.store.ledger import UsageFilter

ADD = """
    INSERT INTO usage (day, tenant, key_id, model, requests, prompt_tokens, cached_tokens, completion_tokens, money)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (day, tenant, key_id, model) DO UPDATE SET
        requests = requests + excluded.requests,
        prompt_tokens = prompt_tokens + excluded.prompt_tokens,
        cached_tokens = cached_tokens + excluded.cached_tokens,
        completion_tokens = completion_tokens + excluded.completion_tokens,
        money = money + excluded.money
"""


def select(wanted: UsageFilter) -> tuple[str, tuple[int | str, ...]]:
    """The query for the rows that are wanted, the oldest day first, and its values."""
    tests = {
        "day >= ?": wanted.since_day,
        "day <= ?": wanted.until_day,
        "tenant = ?": wanted.tenant,
        "key_id = ?": wanted.key_id,
        "model = ?": wanted.model,
    }
    given = {test: value for test, value in tests.items() if value is not None}
    where = " AND ".join(given) or "TRUE"
    return f"SELECT * FROM usage WHERE {where} ORDER BY day, tenant, key_id, model", tuple(given.values())  # noqa: S608
