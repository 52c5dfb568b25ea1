"""Answers that are kept: bytes counted exactly, never too many, the least recently used go first, none too old."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from inhouse.dispatch.cache import ENTRY_OVERHEAD_BYTES, Answer, Cache, key_of

KEYS = [bytes([number]) for number in range(12)]
BYTES_MAX, ENTRY_BYTES_MAX, AGE_MAX_S = 6000, 2000, 10.0


def answer(size: int) -> Answer:
    return Answer((b"x" * (size // 2), b"y" * (size - size // 2)))


class Model(RuleBasedStateMachine):
    """Beside the cache runs a list of (key, answer, since), the least recently used first."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = Cache(bytes_max=BYTES_MAX, entry_bytes_max=ENTRY_BYTES_MAX, age_max_s=AGE_MAX_S)
        self.now_s = 0.0
        self.kept: list[tuple[bytes, Answer, float]] = []

    def size(self) -> int:
        return sum(len(b"".join(answer.pieces)) + ENTRY_OVERHEAD_BYTES for _, answer, _ in self.kept)

    def find(self, key: bytes) -> tuple[bytes, Answer, float] | None:
        return next((one for one in self.kept if one[0] == key), None)

    @rule(key=st.sampled_from(KEYS), size=st.integers(0, ENTRY_BYTES_MAX + 1))
    def put(self, key: bytes, size: int) -> None:
        one = answer(size)
        fits = size <= ENTRY_BYTES_MAX
        assert self.cache.put(key, one, self.now_s) is fits
        self.kept = [other for other in self.kept if other[0] != key]
        if fits:
            self.kept.append((key, one, self.now_s))
        while self.size() > BYTES_MAX:
            self.kept.pop(0)

    @rule(key=st.sampled_from(KEYS))
    def get(self, key: bytes) -> None:
        found = self.find(key)
        if found is not None:
            self.kept.remove(found)
            if self.now_s - found[2] >= AGE_MAX_S:
                found = None
            else:
                self.kept.append(found)
        assert self.cache.get(key, self.now_s) is (None if found is None else found[1])

    @rule(passed_s=st.floats(0, 4))
    def wait(self, passed_s: float) -> None:
        self.now_s += passed_s

    @rule()
    def expire(self) -> None:
        self.cache.expire(self.now_s)
        self.kept = [one for one in self.kept if self.now_s - one[2] < AGE_MAX_S]

    @rule()
    def clear(self) -> None:
        self.cache.clear()
        self.kept = []

    @invariant()
    def bytes_are_counted(self) -> None:
        assert self.cache.bytes_kept == self.size() <= BYTES_MAX
        assert len(self.cache) == len(self.kept)


TestModel = Model.TestCase


def test_what_is_larger_than_the_whole_cache() -> None:
    """It is not kept, and pushes nothing out."""
    cache = Cache(bytes_max=2 * ENTRY_OVERHEAD_BYTES, entry_bytes_max=10**6, age_max_s=10)
    assert cache.put(b"small", answer(10), 0)
    assert not cache.put(b"large", answer(2 * ENTRY_OVERHEAD_BYTES), 0)
    assert cache.get(b"small", 0) is not None


def test_a_cache_of_no_bytes() -> None:
    """Nothing is kept: requests are only shared while they run."""
    cache = Cache(bytes_max=0, entry_bytes_max=10**6, age_max_s=10)
    assert not cache.put(b"key", answer(0), 0)
    assert len(cache) == 0


PARTS = st.tuples(st.text(max_size=4), st.binary(max_size=4), st.binary(max_size=4), st.binary(max_size=4))


@given(one=PARTS, other=PARTS)
def test_keys(one: tuple[str, bytes, bytes, bytes], other: tuple[str, bytes, bytes, bytes]) -> None:
    """Two requests have one key only if tenant, version, path and body are all the same."""
    assert (key_of(*one) == key_of(*other)) is (one == other)


def test_keys_of_parts_that_run_together() -> None:
    """Where one part ends and the next begins makes a difference: no tenant can name itself into another's answers."""
    parts = [("ab", b"c", b"d"), ("a", b"bc", b"d"), ("a", b"b", b"cd"), ("a", b"b", b"c"), ("", b"abc", b"d")]
    assert len({key_of(*one, b"") for one in parts} | {key_of("a", b"b", b"c", b"d")}) == len(parts) + 1
