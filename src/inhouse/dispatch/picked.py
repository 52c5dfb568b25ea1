"""A pick of the router as a step of a request's story: who could have had it, who could not and why."""

from __future__ import annotations

from inhouse.dispatch.places import Place
from inhouse.routing.router import Pick
from inhouse.telemetry.story import Candidate, Picked

CANDIDATES_MAX = 16
"""The best ones; a story is kept for every request."""


def picked(place: Place, pick: Pick, policy: str) -> Picked:
    candidates = []
    for each in pick.candidates[:CANDIDATES_MAX]:
        scores = {"load": each.load, "prefix": each.prefix}
        known = {name: round(value, 3) for name, value in scores.items() if value is not None}
        score = None if each.score is None else round(each.score, 4)
        candidates.append(Candidate(each.endpoint_id, score, known, each.refusal or ""))
    return Picked(place.began_s, place.member.id, policy, pick.reason, tuple(candidates))
