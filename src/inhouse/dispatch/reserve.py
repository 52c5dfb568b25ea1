"""How much a call may use at most, and the quota that is held for it.

The bound of a prompt is its bytes (`prompts.py`). Where that bound is too much for the quotas, or would leave an answer
too little room, the engine is asked to count once, exactly.
"""

from __future__ import annotations

import msgspec

from inhouse.core import Identity
from inhouse.dispatch.lane import Lane
from inhouse.dispatch.prompts import Prompts
from inhouse.errors import RateLimited, RequestExceedsQuota
from inhouse.tenancy.limits import Bound, Terms
from inhouse.tenancy.quotas import Hold, Quotas
from inhouse.wire.call import Call, Job

_UNBOUND = Bound(0, 0)


async def reserve(
    quotas: Quotas, identity: Identity, lane: Lane, call: Call, terms: Terms, prompts: Prompts
) -> tuple[Call, Bound, Hold]:
    """The call as it may run, its bound, and the hold on the quotas. Raises as `Quotas.reserve` does.

    An answer without a limit of its own is limited to what the quotas can ever let in.
    """
    if not terms.demands:
        return call, _UNBOUND, quotas.reserve(identity, lane.model, _UNBOUND, terms)
    if prompts.counted is None and _cramped(lane, call, terms, prompts):
        await prompts.count()
    try:
        return await _held(quotas, identity, lane, call, terms, prompts)
    except (RateLimited, RequestExceedsQuota) as error:
        if isinstance(error, RateLimited) and not error.fewer_tokens_help:
            raise  # a count would change nothing
        if prompts.counted is not None or await prompts.count() is None:
            raise
        return await _held(quotas, identity, lane, call, terms, prompts)


def limited(call: Call, answer_tokens: int) -> Call:
    """A call of one job with a limit to its answer."""
    return msgspec.structs.replace(call, jobs=(_limited(call.jobs[0], answer_tokens),))


def _cramped(lane: Lane, call: Call, terms: Terms, prompts: Prompts) -> bool:
    """Whether an answer would be cut short for no other reason than that its prompt was not counted."""
    for job in call.jobs:
        if job.answer_tokens_max is None:
            return _share(lane, call, terms, prompts) < lane.fit.answer_room
    return False


def _share(lane: Lane, call: Call, terms: Terms, prompts: Prompts) -> int:
    """Tokens for each answer that has no limit of its own."""
    room = lane.context_tokens if terms.tokens_max is None else min(lane.context_tokens, terms.tokens_max)
    return max(1, (room - prompts.most) // len(call.jobs))


async def _held(
    quotas: Quotas, identity: Identity, lane: Lane, call: Call, terms: Terms, prompts: Prompts
) -> tuple[Call, Bound, Hold]:
    longest = 0
    for job in call.jobs:
        if job.answer_tokens_max is None:
            share = _share(lane, call, terms, prompts)
            jobs = tuple([job if job.answer_tokens_max is not None else _limited(job, share) for job in call.jobs])
            return await _held(quotas, identity, lane, msgspec.structs.replace(call, jobs=jobs), terms, prompts)
        if job.answer_tokens_max > longest:
            longest = job.answer_tokens_max
    bound = Bound(prompts.most, longest, len(call.jobs))
    if quotas.at_hand:
        return call, bound, quotas.reserve(identity, lane.model, bound, terms)
    return call, bound, await quotas.reserve_soon(identity, lane.model, bound, terms)


def _limited(job: Job, answer_tokens: int) -> Job:
    """The job with a limit to its answer, written into the JSON object that its body is."""
    body = b'%b,"max_tokens":%d}' % (job.body[:-1], answer_tokens)
    source = None if job.source is None else msgspec.structs.replace(job.source, max_tokens=answer_tokens)
    return Job(job.path, body, job.streams, job.prompt_param, answer_tokens, source, job.deterministic)
