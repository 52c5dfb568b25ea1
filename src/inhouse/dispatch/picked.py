"""A pick of the router as a step of a request's story: who could have had it, who could not and why."""

from __future__ import annotations

import heapq

from inhouse.dispatch.places import Place
from inhouse.routing.router import Pick
from inhouse.telemetry.story import Picked

CANDIDATES_MAX = 16
"""The best ones; a story is kept for every request."""


def picked(place: Place, pick: Pick, policy: str) -> Picked:
    names, scores, loads, prefixes, out = pick.names, pick.scores, pick.loads, pick.prefixes, pick.refused
    if len(names) > CANDIDATES_MAX:
        best = heapq.nlargest(CANDIDATES_MAX, range(len(names)), key=scores.__getitem__)
        names, scores, loads = [names[at] for at in best], [scores[at] for at in best], [loads[at] for at in best]
        prefixes = [prefixes[at] for at in best] if prefixes else None
    if len(names) + len(out) > CANDIDATES_MAX:
        out = out[: CANDIDATES_MAX - len(names)]
    return Picked(place.began_s, pick.endpoint_id, policy, pick.reason, names, scores, loads, prefixes, out)
