"""Sizes and durations: what people write, and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.config.units import (
    DURATION_MAX_S,
    SIZE_MAX,
    parse_duration,
    parse_size,
    render_duration,
    render_size,
)


@given(st.integers(0, SIZE_MAX))
def test_a_size_survives_rendering(size: int) -> None:
    """Rendering loses no byte."""
    assert parse_size(render_size(size)) == size


@given(st.floats(0, DURATION_MAX_S, allow_nan=False))
def test_a_duration_survives_rendering(seconds: float) -> None:
    """Rendering loses nothing, not even the last bit."""
    assert parse_duration(render_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8 MiB", 8 * 1024**2),
        ("512KiB", 512 * 1024),
        (" 1 GB ", 10**9),
        ("1.5 kib", 1536),
        ("7", 7),
        ("0 B", 0),
        (65536, 65536),
    ],
)
def test_sizes_as_people_write_them(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30 s", 30.0),
        ("500ms", 0.5),
        ("2 min", 120.0),
        ("1 h 30 min", 5400.0),
        ("1.5", 1.5),
        (0, 0.0),
        (0.25, 0.25),
        ("1 d", 86400.0),
    ],
)
def test_durations_as_people_write_them(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "MiB", "8 M", "8 k", "-1", -1, True, None, 1.5, "1.5 B", "8 MiB 1 B", "1e3", 2**61]
)
def test_a_wrong_size_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_size(text)


@pytest.mark.parametrize(
    "text", ["", "s", "5 m", "5 sec", "-1 s", -1, False, None, "1 h x", float("inf"), float("nan"), 1e12]
)
def test_a_wrong_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0 B"), (8388608, "8 MiB"), (10**9, "1 GB"), (1000, "1 kB"), (1025, "1025 B")]
)
def test_a_size_takes_the_unit_that_reads_best(value: int, text: str) -> None:
    assert render_size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0 s"), (0.5, "500 ms"), (60.0, "1 min"), (75.0, "75 s"), (0.00025, "0.00025 s")]
)
def test_a_duration_takes_the_unit_that_reads_best(value: float, text: str) -> None:
    assert render_duration(value) == text
