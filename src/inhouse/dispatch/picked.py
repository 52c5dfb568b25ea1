"""A pick of the router as a step of a request's story: who could have had it, who could not and why."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import repeat

from inhouse.dispatch.places import Place
from inhouse.routing.router import Pick
from inhouse.telemetry.story import Candidate, Picked

CANDIDATES_MAX = 16
"""The best ones; a story is kept for every request."""


def picked(place: Place, pick: Pick, policy: str) -> Picked:
    if len(pick.names) > CANDIDATES_MAX:
        candidates = _best(pick)
    else:
        prefixes: Iterable[float | None] = pick.prefixes or repeat(None)
        candidates = tuple(map(Candidate, pick.names, pick.scores, pick.loads, prefixes))
    if pick.refused:
        room = CANDIDATES_MAX - len(candidates)
        candidates += tuple([Candidate(name, out=refusal) for name, refusal in pick.refused[:room]])
    return Picked(place.began_s, pick.endpoint_id, policy, pick.reason, candidates)


def _best(pick: Pick) -> tuple[Candidate, ...]:
    """Of a large fleet."""
    names, scores, loads, prefixes = pick.names, pick.scores, pick.loads, pick.prefixes
    return tuple(
        Candidate(names[at], scores[at], loads[at], prefixes[at] if prefixes else None)
        for at in heapq.nlargest(CANDIDATES_MAX, range(len(names)), key=scores.__getitem__)
    )
