"""Figures as tables: rows are what was measured, columns who was measured, ratios stand beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import wrap
from typing import Any

NOTE_COLUMNS = 116


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity. A column without a figure has nothing to say about it."""

    metric: str
    unit: str
    values: Mapping[str, float | None]
    compared: bool = True
    """False where a ratio would mean nothing."""
    rounds: Mapping[str, list[float]] = field(default_factory=dict)
    """The single measurements of which `values` has the medians."""
    verdict: str = ""
    """Of a row that has a goal."""


@dataclass(slots=True)
class Table:
    """One section. Each ratio is (column, other column)."""

    name: str
    title: str
    columns: list[str] = field(default_factory=list)
    ratios: list[tuple[str, str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: str | None = None
    failed: str | None = None


def to_json(table: Table) -> dict[str, Any]:
    return {
        "name": table.name,
        "title": table.title,
        "columns": table.columns,
        "rows": [
            {
                "metric": row.metric,
                "unit": row.unit,
                "values": dict(row.values),
                "ratios": {
                    f"{a}/{b}": None if (r := _ratio(row, a, b)) is None else round(r, 4) for a, b in table.ratios
                },
                "rounds": dict(row.rounds),
                "verdict": row.verdict or None,
            }
            for row in table.rows
        ],
        "notes": table.notes,
        "skipped": table.skipped,
        "failed": table.failed,
    }


def to_text(table: Table) -> str:
    lines = [f"{table.name}: {table.title}"]
    if table.rows:
        head = ["", "", *table.columns, *(f"{a} / {b}" for a, b in table.ratios), ""]
        cells = [head, *(_cells(row, table) for row in table.rows)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
        for line in cells:
            left = [line[0].ljust(widths[0]), line[1].ljust(widths[1])]
            right = [cell.rjust(width) for cell, width in zip(line[2:], widths[2:], strict=True)]
            lines.append("  " + "  ".join([*left, *right]).rstrip())
    for note in table.notes:
        lines += wrap(note, NOTE_COLUMNS, initial_indent="  ", subsequent_indent="  ")
    if table.skipped:
        lines.append(f"  skipped: {table.skipped}")
    if table.failed:
        lines.append(f"  FAILED: {table.failed}")
    return "\n".join(lines)


def _cells(row: Row, table: Table) -> list[str]:
    ratios = [_ratio(row, a, b) for a, b in table.ratios]
    return [
        row.metric,
        row.unit,
        *(_number(row.values.get(column)) for column in table.columns),
        *("" if ratio is None else f"{_number(ratio)} ×" for ratio in ratios),
        row.verdict,
    ]


def _ratio(row: Row, above: str, below: str) -> float | None:
    a, b = row.values.get(above), row.values.get(below)
    if not row.compared or a is None or b is None or min(a, b) <= 0:  # a difference in the noise may be below zero
        return None
    return a / b


def _number(value: float | None) -> str:
    """Three digits that mean something."""
    if value is None:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"
