"""What is remembered of the last requests is bounded, and found by its id."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inhouse.telemetry.entry import Entry
from inhouse.telemetry.recent import ENTRY_BYTES, Recent
from inhouse.telemetry.story import STEPS_MAX, Asked, Picked


def entry(request_id: str, *, steps: int = 0) -> Entry:
    made = Entry(request_id, "chat", 0.0)
    for number in range(steps):
        made.step(Asked(float(number), "local-0"))
    return made


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=60), st.integers(0, 12), st.integers(0, 9)
)
def test_any_requests(asked: list[tuple[str, int]], most: int, kib: int) -> None:
    """Never more than the limits, the newest are kept, and each is found by its id, the newest first."""
    recent = Recent(requests_max=most, bytes_max=kib * 1024)
    entries = [entry(request_id, steps=steps) for request_id, steps in asked]
    for one in entries:
        recent.keep(one)
        assert len(recent) <= most
        assert recent.bytes <= kib * 1024
    kept = entries[len(entries) - len(recent) :]
    for request_id in "abcd":
        found = [one for one in reversed(kept) if one.request_id == request_id][:8]
        assert list(recent.find(request_id)) == found
    assert (recent.bytes == 0) == (len(recent) == 0)


def test_a_client_that_always_sends_the_same_id() -> None:
    """Keeping one costs the same however many bear its id; the newest eight are found."""
    recent = Recent(requests_max=100, bytes_max=1 << 20)
    entries = [entry("mine") for _ in range(500)]
    for one in entries:
        recent.keep(one)
    assert list(recent.find("mine")) == entries[:-9:-1]
    for number in range(100):
        recent.keep(entry(str(number)))
    assert recent.find("mine") == ()
    assert recent.bytes == 100 * ENTRY_BYTES


def test_a_request_with_many_candidates_takes_their_room() -> None:
    """Steps and candidates count; beyond the most steps nothing is added."""
    recent = Recent(requests_max=100, bytes_max=1 << 20)
    long = entry("long", steps=2 * STEPS_MAX)
    assert len(long.steps) == STEPS_MAX
    recent.keep(long)
    plain = recent.bytes
    wide = entry("wide")
    wide.step(Picked(0.0, "a", "prefix", "its prefix lies there", out=[(str(n), "not ready") for n in range(50)]))
    recent.keep(wide)
    assert plain > ENTRY_BYTES
    assert recent.bytes - plain > 50 * 100
