"""A chain of records: whatever is done to its lines is found, and named."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.store.audit_chain import BEGINNING, Head, check, head_of, seal


def chain(records: int, *, text: str = "x") -> list[bytes]:
    head, lines = Head(), []
    for number in range(records):
        line, head = seal(head, json.dumps({"time": number, "model": text}).encode())
        lines.append(line.rstrip(b"\n"))
    return lines


def test_a_line_as_another_program_checks_it() -> None:
    """Ten lines of any language do: SHA-256 of the hash before and the object without its hash."""
    before = BEGINNING
    for number, line in enumerate(chain(3), start=1):
        record = json.loads(line)
        assert record["seq"] == number
        body = line[: line.rindex(b',"hash":"')] + b"}"
        before = hashlib.sha256(before.encode() + body).hexdigest()
        assert record["hash"] == before


@given(st.integers(0, 30))
def test_a_chain_that_nobody_touched(records: int) -> None:
    """Is whole."""
    assert check(chain(records)) == []


@given(st.integers(1, 20), st.data())
def test_a_changed_record(records: int, data: st.DataObject) -> None:
    """Any changed byte of any record is found at that record, or makes its line no record."""
    lines = chain(records)
    which = data.draw(st.integers(0, records - 1))
    at = data.draw(st.integers(0, len(lines[which]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value not in (lines[which][at], 10)))
    lines[which] = lines[which][:at] + bytes([byte]) + lines[which][at + 1 :]
    assert check(lines)


@pytest.mark.parametrize("which", [1, 5, 10])
def test_a_changed_value(which: int) -> None:
    """The one problem names the record's number and its line."""
    lines = chain(10)
    lines[which - 1] = lines[which - 1].replace(b'"x"', b'"y"')
    (problem,) = check(lines)
    assert problem.startswith(f"record {which} was changed")
    assert f"line {which}" in problem


def test_a_changed_record_with_a_hash_to_match() -> None:
    """The next one shows it."""
    lines = chain(3)
    forged, _ = seal(Head(1, json.loads(lines[0])["hash"]), b'{"time":1,"model":"y"}')
    lines[1] = forged.rstrip(b"\n")
    (problem,) = check(lines)
    assert problem.startswith("record 3 was changed, or the one before it was replaced")


@given(st.integers(2, 20), st.data())
def test_a_dropped_record(records: int, data: st.DataObject) -> None:
    """Its number is named. Only the end can be cut off without a sign in the lines."""
    lines = chain(records)
    which = data.draw(st.integers(1, records - 1))
    del lines[which - 1]
    assert check(lines) == [f"record {which} is missing"]


@given(st.integers(2, 20), st.data())
def test_two_records_in_each_other_s_place(records: int, data: st.DataObject) -> None:
    """Is found, and tells at least one of the two."""
    lines = chain(records)
    one, other = data.draw(st.lists(st.integers(0, records - 1), min_size=2, max_size=2, unique=True))
    lines[one], lines[other] = lines[other], lines[one]
    problems = check(lines)
    assert any(f"record {place + 1} is not in its place" in problem for problem in problems for place in (one, other))


def test_a_record_that_is_there_twice() -> None:
    """Is named."""
    lines = chain(4)
    assert check([*lines[:3], lines[1], *lines[3:]]) == ["record 2 is there twice: again at line 4"]


@given(st.lists(st.integers(0, 19), unique=True, min_size=0, max_size=20))
def test_any_lines_of_a_chain_in_any_order(chosen: list[int]) -> None:
    """Without a problem only if it is its beginning, in order."""
    lines = chain(20)
    assert (check([lines[index] for index in chosen]) == []) == (chosen == list(range(len(chosen))))


@given(st.text(max_size=50))
def test_any_value(text: str) -> None:
    """Whatever a record holds, it stays one line, and its own number and hash are read back."""
    (line,) = chain(1, text=text)
    assert b"\n" not in line
    found = head_of(line)
    assert found is not None
    assert (found.seq, found.hash) == (1, json.loads(line)["hash"])


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Are no record, unless they have the form of one."""
    assert head_of(data) is None
