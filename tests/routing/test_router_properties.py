"""The router, its breakers, budget and prefix index, judged by plain models of what they promise."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inhouse.core import Endpoint
from inhouse.routing.breaker import Breaker
from inhouse.routing.budget import RetryBudget
from inhouse.routing.known import Known
from inhouse.routing.outliers import OutlierRules, judge
from inhouse.routing.prefixes import ENDS, PrefixIndex, chain
from inhouse.routing.router import Outcome, Pick, RouteAsk, Router, RouterSettings
from inhouse.routing.settings import PolicyName

NAMES = [f"e{number}" for number in range(5)]
PROMPTS = [bytes([65 + number]) * size for number in range(3) for size in (0, 100, 700, 5000)]
OUTCOMES: list[Outcome] = ["ok", "failed", "neutral"]
QUEUEING = 1


class Routing(RuleBasedStateMachine):
    """Endpoints come, go, report, fail and are started anew; every pick is judged."""

    policy: PolicyName

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.router = Router(
            RouterSettings(policy=self.policy, queueing_max=QUEUEING, latency_weight=1.0, failures_max=3), seed=1
        )
        self.endpoints = {
            name: Endpoint(name, slots=slots) for name, slots in zip(NAMES, [1, 2, 4, 8, None], strict=True)
        }
        self.open: list[tuple[Pick, int]] = []

    def in_flight(self, name: str) -> int:
        generation = self.endpoints[name].generation
        return sum(pick.endpoint_id == name and of == generation for pick, of in self.open)

    @rule(
        prompt=st.sampled_from(PROMPTS),
        session=st.sampled_from(["", "anna", "ben"]),
        excluded=st.frozensets(st.sampled_from(NAMES), max_size=4),
    )
    def send(self, prompt: bytes, session: str, excluded: frozenset[str]) -> None:
        ask = RouteAsk(prompt, session, excluded)
        endpoints = list(self.endpoints.values())
        survey = self.router.survey(ask, endpoints, self.now_s)
        assert sorted(candidate.endpoint_id for candidate in survey) == sorted(self.endpoints)
        for candidate in survey:
            assert (candidate.score is None) == (candidate.refusal is not None)
            assert candidate.score is None or 0.0 <= candidate.score <= 1.0
            assert candidate.prefix is None or 0.0 <= candidate.prefix <= 1.0
        pick = self.router.pick(ask, endpoints, self.now_s)
        eligible = [
            name
            for name, endpoint in self.endpoints.items()
            if endpoint.state == "ready"
            and name not in excluded
            and self.router.health(name, self.now_s) is None
            and (endpoint.slots is None or self.in_flight(name) < endpoint.slots + QUEUEING)
        ]
        if pick is None:
            assert not [name for name in eligible if self.endpoints[name].running is None]
            return
        assert pick.endpoint_id in eligible
        if sum(candidate.score is not None for candidate in survey) > 1:  # one alone is not scored
            assert set(pick.candidates) == set(survey)
        scores = {
            candidate.endpoint_id: candidate.score for candidate in pick.candidates if candidate.score is not None
        }
        assert scores[pick.endpoint_id] == max(scores.values())
        self.router.started(pick, self.now_s)
        self.open.append((pick, self.endpoints[pick.endpoint_id].generation))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES), ttft_s=st.none() | st.floats(0.0, 20.0))
    def end(self, data: st.DataObject, outcome: Outcome, ttft_s: float | None) -> None:
        pick, _ = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
        self.router.ended(pick, outcome, self.now_s, ttft_s=ttft_s, tpot_s=ttft_s)
        self.router.ended(pick, "failed", self.now_s)

    @rule(
        name=st.sampled_from(NAMES),
        running=st.none() | st.integers(0, 9),
        waiting=st.none() | st.integers(0, 3),
        kv_used=st.none() | st.floats(0.0, 1.2),
    )
    def report(self, name: str, running: int | None, waiting: int | None, kv_used: float | None) -> None:
        figures = {"running": running, "waiting": waiting, "kv_used": kv_used, "observed_s": self.now_s}
        self.endpoints[name] = replace(self.endpoints[name], **figures)

    @rule(name=st.sampled_from(NAMES), state=st.sampled_from(["ready", "ready", "loading", "draining", "unreachable"]))
    def change(self, name: str, state: str) -> None:
        self.endpoints[name] = replace(self.endpoints[name], state=state)

    @rule(name=st.sampled_from(NAMES))
    def start_anew(self, name: str) -> None:
        endpoint = self.endpoints[name]
        self.endpoints[name] = replace(endpoint, generation=endpoint.generation + 1, running=None)
        for candidate in self.router.survey(RouteAsk(PROMPTS[3]), list(self.endpoints.values()), self.now_s):
            if candidate.endpoint_id == name:
                assert candidate.prefix in (None, 0.0)

    @rule(seconds=st.floats(0.0, 20.0))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def what_is_in_flight_is_counted(self) -> None:
        self.router.survey(RouteAsk(), list(self.endpoints.values()), self.now_s)
        for name in NAMES:
            assert self.router.in_flight(name) == self.in_flight(name)

    def teardown(self) -> None:
        for pick, _ in self.open:
            self.router.ended(pick, "ok", self.now_s)
        assert [self.router.in_flight(name) for name in NAMES] == [0] * len(NAMES)


class RoundRobin(Routing):
    policy = "round-robin"


class LeastLoad(Routing):
    policy = "least-load"


class Prefix(Routing):
    policy = "prefix"


class Session(Routing):
    policy = "session"


TestRoundRobin = RoundRobin.TestCase
TestLeastLoad = LeastLoad.TestCase
TestPrefix = Prefix.TestCase
TestSession = Session.TestCase


@given(events=st.lists(st.tuples(st.floats(0.0, 5.0), st.sampled_from(OUTCOMES), st.booleans()), max_size=200))
def test_any_life_of_a_breaker(events: list[tuple[float, Outcome, bool]]) -> None:
    """Closed until three failures in a row; then nothing passes before its time, at most one probe at once, and only a
    probe that succeeds closes it. The pause never exceeds its limit."""
    breaker = Breaker(failures_max=3, open_s=1.0, open_s_max=6.0)
    now_s, row = 0.0, 0
    running: list[bool] = []
    for pause_s, outcome, begins in events:
        now_s += pause_s
        if begins:
            if breaker.allows(now_s):
                assert breaker.closed or (now_s >= breaker.open_until_s and not any(running))
                running.append(breaker.started())
            else:
                assert now_s < breaker.open_until_s <= now_s + 6.0 or any(running)
            continue
        if not running:
            continue
        probe, was_closed = running.pop(0), breaker.closed
        breaker.ended(outcome, now_s, probe=probe)
        if was_closed and not probe:
            row = row + 1 if outcome == "failed" else 0 if outcome == "ok" else row
            assert breaker.closed == (row < 3)
            row = row if breaker.closed else 0
        elif not was_closed:
            assert breaker.closed == (probe and outcome == "ok")
    assert breaker.probes == sum(running)


@given(
    events=st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=300),
    percent=st.integers(0, 100),
    floor_per_s=st.integers(0, 3),
)
def test_any_traffic_of_retries(events: list[tuple[float, bool]], percent: int, floor_per_s: int) -> None:
    """In no window of ten seconds are there more retries than the share of its requests, those just before it, and the
    floor; and a retry within the share is never refused."""
    budget = RetryBudget(percent=percent, floor_per_s=floor_per_s)
    now_s = 0.0
    requests: list[float] = []
    retries: list[float] = []
    for pause_s, retry in events:
        now_s += pause_s
        if not retry:
            budget.deposit(now_s)
            requests.append(now_s)
            continue
        of_late = sum(at_s > now_s - 9.0 for at_s in requests)
        spent = sum(at_s > now_s - 10.0 for at_s in retries)
        allowed = budget.withdraw(now_s)
        if allowed:
            retries.append(now_s)
            most = sum(at_s > now_s - 10.0 for at_s in requests)
            least_spent = sum(at_s > now_s - 9.0 for at_s in retries)
            assert least_spent <= 10.0 * floor_per_s + percent / 100 * most + 1e-9
        else:
            assert 10.0 * floor_per_s + percent / 100 * of_late - spent < 1.0 + 1e-9


def known(name: str) -> Known:
    breaker = Breaker(failures_max=5, open_s=1.0, open_s_max=2.0)
    return Known(Endpoint(name), bit=1, breaker=breaker, hashed=0, half_life_s=30.0)


@given(
    rounds=st.lists(
        st.tuples(
            st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.floats(0.0, 50.0)), max_size=40),
            st.frozensets(st.integers(0, 5), max_size=3),
            st.frozensets(st.integers(0, 5), max_size=2),
        ),
        max_size=10,
    ),
    count=st.integers(1, 6),
    stay=st.sampled_from([0.0, 0.34, 0.5, 1.0]),
)
def test_any_outliers(
    rounds: list[tuple[list[tuple[int, bool, float]], frozenset[int], frozenset[int]]], count: int, stay: float
) -> None:
    """However bad all are, and whoever is not ready or has an open breaker: nobody is ejected where that would leave
    fewer that serve than the floor, or none. Each ejection has a reason and an end."""
    rules = OutlierRules(requests_min=3, stay_share=stay, eject_s=10.0, eject_s_max=40.0)
    everyone = [known(f"e{number}") for number in range(count)]
    now_s = 0.0
    floor = max(1, math.ceil(count * stay))
    for ends, unready, broken in rounds:
        for number, failed, figure_s in ends:
            everyone[number % count].learn("failed" if failed else "ok", figure_s, figure_s, now_s)
        for number, each in enumerate(everyone):
            each.ready, each.breaker = number not in unready, known("").breaker
            for _ in range(5 if number in broken else 0):
                each.breaker.ended("failed", now_s, probe=False)
        able = [each for number, each in enumerate(everyone) if number not in unready | broken]
        served = [each for each in able if each.ejected_until_s <= now_s]
        ejections = judge(everyone, rules, now_s)
        for ejection in ejections:
            assert ejection.reason
            assert now_s < ejection.until_s <= now_s + 40.0
        serve = [each for each in able if each.ejected_until_s <= now_s]
        assert len(serve) >= min(floor, len(served))
        assert not ejections or len(serve) >= floor
        now_s += 3.0


TEXTS = st.lists(st.sampled_from([b"a" * 256, b"b" * 256, b"a" * 100, b"c" * 1024]), max_size=12).map(b"".join)


@given(learnt=st.lists(st.tuples(TEXTS, st.integers(0, 3)), max_size=12), asked=TEXTS)
def test_any_prefixes(learnt: list[tuple[bytes, int]], asked: bytes) -> None:
    """For each endpoint the longest beginning in whole blocks that it shares with anything it has seen, and no more."""
    index = PrefixIndex(blocks_max=10_000)
    bits = [index.join() for _ in range(4)]
    for text, owner in learnt:
        index.learn(chain(text), bits[owner])
    levels = index.match(chain(asked), len(asked))
    for owner, bit in enumerate(bits):
        found = next((part for holders, part in levels if holders & bit), 0.0)
        best = max(
            (
                end
                for text, by in learnt
                if by == owner
                for end in ENDS
                if end <= len(text) and asked[:end] == text[:end] and end <= len(asked)
            ),
            default=0,
        )
        assert found == pytest.approx(best / len(asked) if asked else 0.0)


@given(learnt=st.lists(st.tuples(TEXTS, st.integers(0, 3)), max_size=30), leaves=st.integers(0, 3))
def test_any_memory(learnt: list[tuple[bytes, int]], leaves: int) -> None:
    """The index never holds more blocks than it may, and nothing of an endpoint that has left, even for the next one
    with its bit."""
    index = PrefixIndex(blocks_max=9)
    bits = [index.join() for _ in range(4)]
    for text, owner in learnt:
        index.learn(chain(text), bits[owner])
        assert len(index) <= 9
    index.leave(bits[leaves])
    assert index.join() == bits[leaves]
    for text, _ in learnt:
        assert not any(holders & bits[leaves] for holders, _ in index.match(chain(text), len(text)))


@settings(deadline=None)
@given(
    policy=st.sampled_from(("prefix", "least-load")),
    agreed=st.booleans(),
    figures=st.lists(
        st.tuples(st.integers(1, 6), st.none() | st.integers(0, 8), st.none() | st.sampled_from((0.0, 0.3, 1.0))),
        min_size=2,
        max_size=5,
    ),
    prompts=st.lists(TEXTS, max_size=20),
)
def test_the_quick_pick_is_that_of_the_policies(
    policy: PolicyName, agreed: bool, figures: list[tuple[int, int | None, float | None]], prompts: list[bytes]
) -> None:
    """Whom, why, and with what scores: as where the candidates are sifted, which nobody here falls through."""
    router = Router(RouterSettings(policy=policy, prefix_agreed=agreed, queueing_max=100))
    endpoints = tuple(
        Endpoint(f"e{at}", slots=slots, running=running, kv_used=used, observed_s=0.0)
        for at, (slots, running, used) in enumerate(figures)
    )
    for prompt in prompts:
        quick = router.pick(RouteAsk(prompt), endpoints, 1.0)
        sifted = router.pick(RouteAsk(prompt, excluded=frozenset(("nobody",))), endpoints, 1.0)
        assert quick is not None
        assert sifted is not None
        assert (quick.endpoint_id, quick.reason) == (sifted.endpoint_id, sifted.reason)
        assert list(quick.scores) == pytest.approx(list(sifted.scores))
        assert (list(quick.names), list(quick.loads)) == (list(sifted.names), list(sifted.loads))
        assert quick.prefixes == sifted.prefixes
        router.started(quick, 1.0)
