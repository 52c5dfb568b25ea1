"""What is remembered of the last requests is bounded, and found by its id."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from inhouse.core import Usage
from inhouse.gateway.explain import story
from inhouse.telemetry.entry import Entry
from inhouse.telemetry.recent import KEPT_BYTES, Recent
from inhouse.telemetry.story import STEPS_MAX, Asked, CutOff, Failed, Held, Limited, Picked, Reused, Routed, WentOn


def entry(request_id: str, *, steps: int = 0, number: int = 0) -> Entry:
    made = Entry(request_id, "chat", float(number))
    for number in range(steps):
        made.step(Asked(float(number), "local-0"))
    return made


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), max_size=60), st.integers(0, 12), st.integers(0, 9)
)
def test_any_requests(asked: list[tuple[str, int]], most: int, kib: int) -> None:
    """Never more than the limits, the newest are kept, and each is found by its id, the newest first."""
    recent = Recent(requests_max=most, bytes_max=kib * 1024)
    entries = [entry(request_id, steps=steps, number=number) for number, (request_id, steps) in enumerate(asked)]
    for one in entries:
        recent.keep(one)
        assert len(recent) <= most
        assert recent.bytes <= kib * 1024
    kept = entries[len(entries) - len(recent) :]
    for request_id in "abcd":
        found = [one.arrived_s for one in reversed(kept) if one.request_id == request_id][:8]
        assert [one.arrived_s for one in recent.find(request_id)] == found
    assert (recent.bytes == 0) == (len(recent) == 0)


def test_a_client_that_always_sends_the_same_id() -> None:
    """Keeping one costs the same however many bear its id; the newest eight are found."""
    recent = Recent(requests_max=100, bytes_max=1 << 20)
    for number in range(500):
        recent.keep(entry("mine", number=number))
    assert [one.arrived_s for one in recent.find("mine")] == list(range(499, 491, -1))
    assert recent.find("min") == recent.find("mine2") == ()
    for number in range(100):
        recent.keep(entry(str(number)))
    assert recent.find("mine") == ()
    assert 100 * KEPT_BYTES < recent.bytes < 100 * (KEPT_BYTES + 128)


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
    assert plain > STEPS_MAX * 20
    assert recent.bytes - plain > 50 * 10


def test_all_that_an_explanation_tells_comes_back() -> None:
    """The story of an entry that was kept is that of the entry itself, whatever happened to it."""
    made = Entry("id-1", "chat", 10.0)
    made.key_id, made.tenant, made.model = "k", "acme", "m"
    made.status, made.code, made.failed, made.place = 200, "engine_error", True, 3
    made.waited_s, made.first_token_s, made.ended_s = 0.5, 11.0, 12.5
    made.usage, made.money = Usage(3, 2, 1), 7
    made.note("credential", "expired")
    made.note("trimmed_tokens", 2.5)
    scores = {"scores": [0.5, 0.25], "loads": [1.0, 2.0], "prefixes": [0.0, 1.0]}
    made.steps += [
        Routed(10.0, "r", "m", "its weight", ("n",), ("o",)),
        Held(10.1, ("tenant:acme",), 100, 5),
        Limited(10.2, ("tenant:acme requests_per_minute",)),
        Picked(10.3, "a", "prefix", "its prefix lies there", ("a", "b"), out=[("c", "draining")], **scores),
        Asked(10.4, "a"),
        Failed(10.5, "a", "engine_error", 1),
        WentOn(10.6, 4),
        CutOff(10.7, "tools were half sent"),
        Reused(10.8, "hit"),
    ]
    recent = Recent(requests_max=1, bytes_max=1 << 20)
    recent.keep(made)
    (found,) = recent.find("id-1")
    assert story(found, epoch_s=1000.0, priced=True) == story(made, epoch_s=1000.0, priced=True)
