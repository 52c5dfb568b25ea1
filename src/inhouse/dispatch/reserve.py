"""How much a call may use at most, and the quota that is held for it.

The bound of a prompt is its bytes: a token is at least one byte of it, and what a chat template puts around a message
is less than the JSON around it. Where that bound does not fit, the engine is asked to count once, exactly.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from inhouse.core import Identity
from inhouse.dispatch.lane import Lane
from inhouse.errors import ApiError, RateLimited, RequestExceedsQuota
from inhouse.tenancy.limits import Bound, Terms
from inhouse.tenancy.quotas import Hold, Quotas
from inhouse.wire.call import Call, Job
from inhouse.wire.openai_chat import PATH as CHAT

_TEMPLATE_TOKENS = 256
"""What a template may add of its own, such as how tools are to be called."""


class _Counted(msgspec.Struct):
    input_tokens: int


async def reserve(quotas: Quotas, identity: Identity, lane: Lane, call: Call) -> tuple[Call, Bound, Hold]:
    """The call as it may run, its bound, and the hold on the quotas. Raises as `Quotas.reserve` does.

    An answer without a limit of its own is limited to what the quotas can ever let in.
    """
    terms = quotas.terms(identity, lane.model)
    if not terms.demands:
        bound = Bound(0, 0)
        return call, bound, quotas.reserve(identity, lane.model, bound)
    context = lane.context_tokens
    prompt_tokens = sum(min(context, len(job.body) + _TEMPLATE_TOKENS) for job in call.jobs[:: call.choices])
    try:
        return _held(quotas, identity, lane, call, terms, prompt_tokens)
    except (RateLimited, RequestExceedsQuota):
        counted = await _count(lane, call)
        if counted is None:
            raise
        return _held(quotas, identity, lane, call, terms, counted)


def _held(
    quotas: Quotas, identity: Identity, lane: Lane, call: Call, terms: Terms, prompt_tokens: int
) -> tuple[Call, Bound, Hold]:
    room = lane.context_tokens if terms.tokens_max is None else min(lane.context_tokens, terms.tokens_max)
    share = max(1, (room - prompt_tokens) // len(call.jobs))
    jobs = tuple(job if job.answer_tokens_max is not None else _limited(job, share) for job in call.jobs)
    bound = Bound(prompt_tokens, max(job.answer_tokens_max or 0 for job in jobs), len(jobs))
    return replace(call, jobs=jobs), bound, quotas.reserve(identity, lane.model, bound)


def _limited(job: Job, answer_tokens: int) -> Job:
    """The job with a limit to its answer, written into the JSON object that its body is."""
    return Job(
        job.path, b'%b,"max_tokens":%d}' % (job.body[:-1], answer_tokens), job.streams, job.prompt_param, answer_tokens
    )


async def _count(lane: Lane, call: Call) -> int | None:
    """The tokens of the one prompt, as the engine counts them; None where it cannot be asked."""
    job = call.jobs[0]
    if job.path != CHAT or not lane.ready:
        return None
    try:
        reply = await lane.pool().request(b"POST", CHAT + b"/input_tokens", job.body)
        return msgspec.json.decode(await reply.read(), type=_Counted).input_tokens if reply.status == 200 else None
    except (ApiError, msgspec.DecodeError):
        return None
