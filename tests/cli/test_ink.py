"""Styles of what `inhouse serve` prints."""

from __future__ import annotations

import io

import pytest

from inhouse.cli.ink import Ink


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "shown"),
    [
        ({"TERM": "xterm"}, "\x1b[1;32mready\x1b[0m"),
        ({"TERM": "xterm", "NO_COLOR": ""}, "\x1b[1;32mready\x1b[0m"),
        ({"TERM": "xterm", "NO_COLOR": "1"}, "\x1b[1mready\x1b[0m"),
        ({"TERM": "dumb"}, "ready"),
    ],
)
def test_a_terminal(environ: dict[str, str], shown: str) -> None:
    """It gets styles; without colours where a person wants none, and nothing where it knows none."""
    ink = Ink.of(_Terminal(), environ)
    assert ink("ready", "bold green") == shown
    assert ink("ready", "") == "ready"


def test_a_pipe_gets_the_text_alone() -> None:
    assert Ink.of(io.StringIO(), {"TERM": "xterm"})("ready", "bold green") == "ready"


def test_without_colours_what_was_only_a_colour_is_plain() -> None:
    assert Ink.of(_Terminal(), {"NO_COLOR": "1"})("stopped", "yellow") == "stopped"
