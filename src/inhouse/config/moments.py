"""Moments as people write them: `2027-01-31` (its first instant, UTC) or `2027-01-31T12:00:00+01:00`."""

from __future__ import annotations

from datetime import UTC, date, datetime


def parse_moment(value: object) -> float:
    """Seconds since 1970-01-01 UTC. A time without a zone is UTC.

    Raises:
        ValueError: when it is no date or time of ISO 8601.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            raise ValueError("not a date such as 2027-01-31 or 2027-01-31T12:00:00Z") from None
    elif isinstance(value, date) and not isinstance(value, datetime):  # as YAML reads a plain date
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        raise ValueError("not a date such as 2027-01-31 or 2027-01-31T12:00:00Z")
    return (value if value.tzinfo is not None else value.replace(tzinfo=UTC)).timestamp()


def render_moment(seconds: float) -> str:
    """The canonical text, in UTC and whole seconds: `2027-01-31T00:00:00Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
