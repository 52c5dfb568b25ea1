"""The router of one model: which endpoint a request goes to, and what is learned from how it ended.

    filter    ready · not tried by this request · breaker closed, or a probe free · not ejected · room left
      score     a policy's, in [0, 1] (`policies`)
        pick      the highest; of equals, the one picked longest ago

`pick` changes nothing, `started` and `ended` do. Each pick that is used is told to both, once; a request in flight is
counted from `started` to `ended`, so snapshots may be as old as the last scrape. An endpoint's load is what it reported
(running and waiting) plus what was started here, less what ended here, since that report; at least what is in flight
from here. What it does not report is not known, and then only what is in flight from here counts.

A generation that is new to the router starts without a past: nothing in flight, no prefixes, a closed breaker.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence

from inhouse.core import Endpoint
from inhouse.routing.ask import Candidate, Outcome, Pick, Refusal, RouteAsk
from inhouse.routing.breaker import Breaker
from inhouse.routing.budget import RetryBudget
from inhouse.routing.known import Known
from inhouse.routing.lineup import Lineup
from inhouse.routing.outliers import Ejection, judge
from inhouse.routing.policies import POLICIES, Field
from inhouse.routing.prefixes import BLOCK_BYTES, PrefixIndex, chain
from inhouse.routing.settings import RouterSettings

__all__ = ["POLICIES", "Candidate", "Ejection", "Outcome", "Pick", "RouteAsk", "Router", "RouterSettings"]

_SLACK = 64
_JUDGE_S = 1.0
_SESSION_LETTERS = 128


class Router:
    """See the module. `seed` only decides among endpoints that were never picked."""

    def __init__(self, settings: RouterSettings | None = None, seed: int = 0) -> None:
        self.settings = settings = settings or RouterSettings()
        self.retries = RetryBudget(percent=settings.retry_percent, floor_per_s=settings.retry_floor_per_s)
        self.ejections: list[Ejection] = []
        """Since somebody last took them: `ejections, router.ejections = router.ejections, []`. At most 100 are kept."""
        self._policy = POLICIES[settings.policy]
        self._name = settings.policy
        self._uses_prefixes = settings.policy == "prefix"
        self._figures_s_max = settings.figures_s_max
        self._quick = settings.policy in ("prefix", "least-load") and not settings.latency_weight
        total = settings.load_weight + settings.kv_weight
        self._load_share, self._kv_share = settings.load_weight / total, settings.kv_weight / total
        total = settings.load_weight + settings.prefix_weight
        self._rest_share, self._prefix_share = settings.load_weight / total, settings.prefix_weight / total
        self._random = random.Random(seed)  # noqa: S311 - spreads load, guards nothing
        self._index = PrefixIndex(settings.prefix_blocks_max)
        self._sessions: dict[str, Known] = {}
        self._known: dict[str, Known] = {}
        self._warned: set[str] = set()
        """Those of which others told before they were met here."""
        self._lineup = Lineup(())
        self._picks = 0
        self._judged_s = 0.0

    def pick(self, ask: RouteAsk, endpoints: Sequence[Endpoint], now_s: float) -> Pick | None:
        """Where the request goes; None where no endpoint may have it now, and `survey` says why.

        `now_s` never goes back. A tuple of snapshots that is the one of the last call costs least.
        """
        lineup = self._lineup
        if lineup.endpoints is not endpoints or lineup.oldest_s < now_s - self._figures_s_max:
            lineup = self._look_at(endpoints, now_s)
        if self._quick and not (ask.session or ask.excluded or lineup.unsized):
            found = self._quick_pick(ask, lineup)
            if found is not None:
                return found
        field = lineup.field(ask, self.settings, now_s)
        everyone = field.known
        if len(everyone) > 1:
            scores = self._scores(field)
            reason: str = self._name
            top = max(scores)
            if scores.count(top) > 1:
                chosen = _picked_longest_ago(everyone, scores, top)
            else:
                chosen = everyone[scores.index(top)]
        elif everyone:
            chosen, scores = everyone[0], [1.0]
            reason = "the only endpoint" if len(endpoints) == 1 else "the only one that could take it"
        else:
            return None
        return Pick(chosen.id, reason, ask, chosen, field.names, scores, field.loads, field.prefixes, field.refused)

    def _quick_pick(self, ask: RouteAsk, lineup: Lineup) -> Pick | None:
        """What `least-load` and `prefix` make of several endpoints of which none falls out, in one go: most picks are
        of this kind. None where it is another. (`test_router_properties` holds it to the policies.)
        """
        ready = lineup.ready
        if len(ready) < 2:
            return None
        loads: list[float] = []
        scores: list[float] = []
        total = 1.0
        for known in ready:
            load = known.in_flight + known.others
            room = known.room
            if load >= room or known.troubled:
                return None
            total += load
            loads.append(load)
            scores.append(1.0 - load / room)
        kv_free = lineup.kv_free
        if kv_free is not None and self._kv_share:
            share, kv_share = self._load_share, self._kv_share
            scores = [share * f + kv_share * k for f, k in zip(scores, kv_free)]  # noqa: B905 - of one lineup
        prefixes: list[float] | None = None
        if self._uses_prefixes:
            levels = self._index.match(_blocks_of(ask), ask.prompt_bytes)
            if levels:
                prefixes = []
                rest, weight = self._rest_share, self._prefix_share
                per_slot = self.settings.balance * total / lineup.sizes
                for at, known in enumerate(ready):
                    bit, part = known.bit, 0.0
                    for bits, reached in levels:
                        if bits & bit:
                            part = reached
                            break
                    prefixes.append(part)
                    calm = part and loads[at] < per_slot * known.size
                    scores[at] = rest * scores[at] + weight * part if calm else rest * scores[at]
            elif self.settings.prefix_agreed:
                return None
        chosen, top = ready[0], scores[0]
        for known, score in zip(ready, scores):  # noqa: B905 - as above
            if score > top or (score == top and known.picked < chosen.picked):
                chosen, top = known, score
        return Pick(chosen.id, self._name, ask, chosen, lineup.names, scores, loads, prefixes, lineup.absent)

    def survey(self, ask: RouteAsk, endpoints: Sequence[Endpoint], now_s: float) -> tuple[Candidate, ...]:
        """Every endpoint as a pick would see it now, for explaining a pick that was None."""
        field = self._look_at(endpoints, now_s).field(ask, self.settings, now_s)
        if not field.known:
            return tuple(Candidate(name, None, refusal) for name, refusal in field.refused)
        scores = self._scores(field)
        known = field.known[0]
        return Pick("", "", ask, known, field.names, scores, field.loads, field.prefixes, field.refused).candidates

    def started(self, pick: Pick, now_s: float) -> None:
        """The request goes to the picked endpoint now."""
        known = pick.known
        if pick.started:
            raise ValueError("a pick is started once")
        pick.started = True
        known.in_flight += 1
        if known.troubled:
            pick.probe = known.breaker.started()
        self._picks += 1
        known.picked = float(self._picks)
        if not pick.ask.excluded:
            self.retries.deposit(now_s)
        if self._uses_prefixes and len(self._known) > 1 and self._known.get(known.id) is known:
            self._remember(pick.ask, known)

    def ended(
        self, pick: Pick, outcome: Outcome, now_s: float, *, ttft_s: float | None = None, tpot_s: float | None = None
    ) -> None:
        """How it went. The second call for a pick, and one for a pick that never started, do nothing."""
        if not pick.started or pick.ended:
            return
        pick.ended = True
        known = pick.known
        known.in_flight -= 1
        breaker = known.breaker
        if outcome != "ok" or pick.probe or breaker.failures:
            before_s = breaker.open_until_s
            breaker.ended(outcome, now_s, probe=pick.probe, proven=pick.proven)
            if not breaker.closed:
                known.troubled = True
                if breaker.open_until_s > before_s:
                    reason = "a probe failed" if pick.probe else f"{self.settings.failures_max} failures in a row"
                    self._left_out([Ejection(known.id, breaker.open_until_s, reason, "breaker")])
        known.learn(outcome, ttft_s, tpot_s, now_s)
        if now_s - self._judged_s >= _JUDGE_S:
            self._judged_s = now_s
            self._left_out(judge(self._known.values(), self.settings.outliers, now_s))

    def forget(self, endpoint_id: str) -> None:
        """The endpoint has left. What is in flight there may still end."""
        known = self._known.pop(endpoint_id, None)
        if known is not None:
            self._lineup = Lineup(())
            self._index.leave(known.bit)
            self._sessions = {key: holder for key, holder in self._sessions.items() if holder is not known}

    def knows(self, endpoint_id: str) -> bool:
        """Whether anything is remembered of it."""
        return endpoint_id in self._known

    def in_flight(self, endpoint_id: str) -> int:
        """Requests of this router that are there now."""
        known = self._known.get(endpoint_id)
        return known.in_flight if known is not None else 0

    def health(self, endpoint_id: str, now_s: float) -> Refusal | None:
        """Why nothing may go there now, as far as breaker and ejection are concerned."""
        known = self._known.get(endpoint_id)
        return known.refusal(now_s) if known is not None else None

    def warn(self, endpoint_id: str) -> None:
        """Another gateway has left this endpoint out."""
        known = self._known.get(endpoint_id)
        if known is not None:
            known.breaker.warned()
        elif len(self._warned) < _SLACK:
            self._warned.add(endpoint_id)

    def _left_out(self, ejections: list[Ejection]) -> None:
        self.ejections = [*self.ejections, *ejections][-100:]

    def _look_at(self, endpoints: Sequence[Endpoint], now_s: float) -> Lineup:
        """The lineup of these snapshots, which is the one from now on."""
        by_id = self._known
        lineup = Lineup(endpoints)
        for endpoint in endpoints:
            known = by_id.get(endpoint.id)
            if known is None or known.generation != endpoint.generation:
                known = self._meet(endpoint)
            lineup.add(endpoint, known, self.settings, now_s)
        lineup.close()
        if len(by_id) > 2 * len(endpoints) + _SLACK:
            self._sweep(endpoints)
        self._lineup = lineup
        return lineup

    def _scores(self, field: Field) -> list[float]:
        if self._uses_prefixes:
            ask = field.ask
            field.levels = self._index.match(_blocks_of(ask), ask.prompt_bytes)
            if ask.session:
                field.session = self._sessions.get(ask.session[:_SESSION_LETTERS])
        return self._policy(field)

    def _remember(self, ask: RouteAsk, known: Known) -> None:
        self._index.learn(_blocks_of(ask), known.bit)
        if ask.session:
            session = ask.session[:_SESSION_LETTERS]
            self._sessions.pop(session, None)
            self._sessions[session] = known
            if len(self._sessions) > self.settings.sessions_max:
                del self._sessions[next(iter(self._sessions))]

    def _meet(self, endpoint: Endpoint) -> Known:
        self.forget(endpoint.id)
        settings = self.settings
        known = Known(
            endpoint,
            bit=self._index.join(),
            breaker=Breaker(
                failures_max=settings.failures_max,
                open_s=settings.open_s,
                open_s_max=settings.open_s_max,
                probes_max=settings.probes_max,
            ),
            hashed=zlib.crc32(endpoint.id.encode()),
            half_life_s=settings.half_life_s,
        )
        known.picked = -self._random.random()
        self._known[endpoint.id] = known
        if endpoint.id in self._warned:
            self._warned.discard(endpoint.id)
            known.breaker.warned()
        return known

    def _sweep(self, endpoints: Sequence[Endpoint]) -> None:
        """Those that have left and of whom nobody told: the router never grows beyond its fleet for long."""
        present = {endpoint.id for endpoint in endpoints}
        for name in [name for name, known in self._known.items() if name not in present and not known.in_flight]:
            self.forget(name)


def _blocks_of(ask: RouteAsk) -> list[int]:
    blocks = ask.blocks
    if blocks is None:
        blocks = ask.blocks = chain(ask.prompt)
        ask.prompt = ask.prompt[:BLOCK_BYTES]
    return blocks


def _picked_longest_ago(everyone: list[Known], scores: list[float], top: float) -> Known:
    """Among those with this score, which are several."""
    chosen = everyone[scores.index(top)]
    for known, score in zip(everyone, scores, strict=True):
        if score == top and known.picked < chosen.picked:
            chosen = known
    return chosen
