"""Records of the audit for people: a table, and CSV for their spreadsheets."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from inhouse.telemetry.audit_page import Line, decode

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def print_table(records: list[Line]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("SEQ", "TIME (UTC)", "WHAT", "TENANT", "KEY OR WHO", "MODEL OR WHOM", "ENDED"):
        table.add_column(title, overflow="fold", justify="right" if title == "SEQ" else "left")
    for title in ("PROMPT", "ANSWER", "SECONDS"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("ID OR FACTS", overflow="fold")
    for record in records:
        style = "dim" if record.kind == "act" else "red" if record.status >= 500 else ""
        table.add_row(*(Text(cell) for cell in _cells(record)), style=style)
    wide = None if sys.stdout.isatty() else 500  # a pipe has no width
    Console(width=wide).print(table)


def write_csv(lines: Iterable[bytes]) -> None:
    """Every field is a column. What a spreadsheet could take for a formula gets an apostrophe before it."""
    names = [name for name in Line.__struct_fields__ if name not in ("seq", "hash")]
    writer = csv.writer(sys.stdout)
    writer.writerow(["seq", *names, "hash"])
    for line in lines:
        record = decode(line)
        writer.writerow([record.seq, *(_plain(getattr(record, name)) for name in names), record.hash])


def _cells(record: Line) -> tuple[str, ...]:
    head = (str(record.seq), _when(record.time))
    if record.kind == "act":
        facts = " ".join(f"{name}={value}" for name, value in record.facts.items()) or record.digest[:12]
        return (*head, record.act, record.tenant, record.by, record.target, "", "", "", "", facts)
    ended = f"{record.status} {record.code}".strip()
    tokens = [str(count) if count else "" for count in (record.prompt_tokens, record.completion_tokens)]
    names = (record.api, record.tenant, record.key, record.model)
    return (*head, *names, ended, *tokens, f"{record.total_s:.2f}", record.id)


def _when(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode() if value else ""
    if isinstance(value, str) and value != "-" and value.startswith(_FORMULA):
        return f"'{value}"
    return value
