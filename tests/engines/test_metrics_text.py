"""Prometheus' text format: what is asked for is found, whatever else is on the page."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from metrics_pages import VLLM

from inhouse.engines.metrics_text import read

NAMES = ("a", "b:c")


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (b"a 1", [1.0]),
        (b"a\t2.5e3 1700000000", [2500.0]),
        (b"  a   3  ", [3.0]),
        (b"a{} 4", [4.0]),
        (b'a {x="y"} 5', [5.0]),
        (b'a{x="}",y="\\"} 9"} 6', [6.0]),
        (b'a{x="\\\\"} 7', [7.0]),
        (b'a{x="y",} 8 # {trace="1"} 0.5', [8.0]),
        (b"a -1\r", [-1.0]),
        (b"ab 1", None),
        (b"# a 1", None),
        (b"a", None),
        (b"a{", None),
        (b'a{x="} 1', None),
        (b"a NaN", None),
        (b"a +Inf", None),
        (b"a 1_000", None),
        (b"a one", None),
        (b"\xff\xfe 1", None),
        (b"a 1 " + b"x" * 100_000, None),
    ],
)
def test_one_line(line: bytes, values: list[float] | None) -> None:
    """A value is read whatever surrounds it; what is no number is passed over."""
    assert read(line, NAMES).get("a") == values


def test_the_lines_around_a_broken_one() -> None:
    """One bad line costs that line."""
    assert read(b'a 1\na{x="\nb:c{y="z"} 2\n\na 3', NAMES) == {"a": [1.0, 3.0], "b:c": [2.0]}


def test_a_real_page() -> None:
    found = read(VLLM, ["vllm:num_requests_running", "process_start_time_seconds", "vllm:nothing"])
    assert found == {"vllm:num_requests_running": [7.0], "process_start_time_seconds": [1763990112.27]}


@given(st.binary(max_size=300))
def test_any_bytes(page: bytes) -> None:
    """Nothing that an engine sends raises, and only finite numbers come out."""
    for values in read(page + b"\na 1\n" + page, NAMES).values():
        assert all(math.isfinite(value) for value in values)


@given(st.dictionaries(st.sampled_from(["x", "y"]), st.text(max_size=20)), st.floats(allow_nan=False, width=32))
def test_any_labels(labels: dict[str, str], value: float) -> None:
    """Labels are escaped as the format says; whatever they hold, the value behind them is found."""
    escaped = {
        name: text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for name, text in labels.items()
    }
    inside = ",".join(f'{name}="{text}"' for name, text in escaped.items())
    found = read(f"a{{{inside}}} {value!r}\n".encode(), NAMES)
    assert found == ({"a": [value]} if math.isfinite(value) else {})


def test_a_hostile_page_costs_no_more_than_its_size() -> None:
    """Unclosed labels, quotes without end: still linear."""
    page = (b'a{x="' + b'\\"' * 30_000 + b"\n") * 40
    began_s = time.process_time()
    assert read(page, NAMES) == {}
    assert time.process_time() - began_s < 5.0
