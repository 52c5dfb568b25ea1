"""Texts of files that nobody vouches for, made fit to be shown."""

from __future__ import annotations

import re


def printable(text: str, most: int) -> str:
    """What can be shown to people: no control characters, no endless line."""
    return "".join(filter(str.isprintable, text))[:most]


def word(value: object) -> str | None:
    """A plain name such as `gemma3_text`; None for anything else."""
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", value) else None
