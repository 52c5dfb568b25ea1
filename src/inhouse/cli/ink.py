"""Colours of what `inhouse serve` prints, as escape sequences. Tables and errors of other commands use rich."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self, TextIO

Style = Literal["", "bold", "bold cyan", "bold green", "bold red", "bold yellow", "yellow"]
_BOLD = "1"
_CODES: dict[Style, tuple[str, ...]] = {
    "bold": (_BOLD,),
    "bold cyan": (_BOLD, "36"),
    "bold green": (_BOLD, "32"),
    "bold red": (_BOLD, "31"),
    "bold yellow": (_BOLD, "33"),
    "yellow": ("33",),
}


class Ink:
    """Styles a text, or leaves it as it is. Without colours, bold is still bold."""

    def __init__(self, *, styled: bool, coloured: bool = True) -> None:
        self._styled = styled
        self._coloured = coloured

    @classmethod
    def of(cls, out: TextIO, environ: Mapping[str, str]) -> Self:
        """Styles for a terminal that has them; no colours where NO_COLOR (https://no-color.org) is not empty."""
        styled = out.isatty() and environ.get("TERM") not in ("dumb", "unknown")
        return cls(styled=styled, coloured=not environ.get("NO_COLOR"))

    def __call__(self, text: str, style: Style) -> str:
        codes = _CODES.get(style, ()) if self._styled and text else ()
        kept = ";".join(code for code in codes if self._coloured or code == _BOLD)
        return f"\x1b[{kept}m{text}\x1b[0m" if kept else text
