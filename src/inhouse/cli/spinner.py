"""A line on the terminal that turns while something is on its way.

The cursor stays visible and rests at the line's beginning, so that a log line from elsewhere starts a line of its own
and a process that ends at once leaves the terminal as it was.
"""

from __future__ import annotations

import itertools
import shutil
import threading
from typing import TextIO

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FRAME_S = 0.1
_CLEAR = "\r\x1b[2K"


class Spinner:
    """Shows a text or none. Whoever prints to the terminal hides it first."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._text = ""
        self._hidden = threading.Event()
        self._thread: threading.Thread | None = None

    def show(self, text: str) -> None:
        """Shows or changes the text."""
        self._text = text
        if self._thread is None:
            self._hidden.clear()
            self._thread = threading.Thread(target=self._turn, name="spinner", daemon=True)
            self._thread.start()

    def hide(self) -> None:
        """Clears the line; when this returns, nothing more is written."""
        if self._thread is not None:
            self._hidden.set()
            self._thread.join()
            self._thread = None
            self._write(_CLEAR)

    def _turn(self) -> None:
        for frame in itertools.cycle(FRAMES):
            width = shutil.get_terminal_size().columns - 3
            self._write(f"{_CLEAR}{frame} {self._text[:width]}\r")
            if self._hidden.wait(FRAME_S):
                return

    def _write(self, text: str) -> None:
        try:
            self._terminal.write(text)
            self._terminal.flush()
        except OSError:  # the terminal is gone; whatever else writes to it will say so
            self._hidden.set()
