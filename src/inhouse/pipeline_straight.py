"""The straight line of a usual request: to the engine in one callback, back in another, without a task.

Theory of operation. Most requests are alike: a caller who was proven before sends a plain chat, a slot is free, the
quota is at hand, a connection to the engine is idle. `set_off` looks whether all of that is so, which changes nothing,
and then does in one go what `pipeline.answer` and all below it do in steps. Else it says None, and the request goes
that way from its beginning. What is held meanwhile (quota, turn, place), told and booked is the same.

From then on it is a line (`pipeline_line`).
"""

from __future__ import annotations

from inhouse.core import Identity
from inhouse.dispatch.errand import arrive
from inhouse.dispatch.prompts import TEMPLATE_TOKENS
from inhouse.dispatch.reserve import limited
from inhouse.dispatch.upstream import renamed
from inhouse.errors import ApiError, BadRequest
from inhouse.parts import Parts
from inhouse.pipeline_line import Line, Regular, Traveller
from inhouse.routing.router import RouteAsk
from inhouse.telemetry.story import Held
from inhouse.tenancy.limits import purse_lines
from inhouse.tenancy.prices import FREE
from inhouse.tenancy.roles import require
from inhouse.wire.chat import PlainChat
from inhouse.wire.guard import check_body
from inhouse.wire.openai_chat import PATH, STREAMED_BYTES, parse_plain, plain_call, plain_whole

_REGULARS_MAX = 10_000


def plain_of(parts: Parts, body: bytes) -> PlainChat | None:
    """What a body asks for, if that is nothing but a plain chat."""
    limits = parts.stack.requests
    try:
        check_body(body, limits)
        return parse_plain(body, limits)
    except BadRequest:
        return None


def set_off(parts: Parts, request: Traveller, identity: Identity, plain: PlainChat) -> Line | None:
    """The request on its way; None, and nothing has changed, where it is not a usual one."""
    regular = parts.regulars.get((identity.key_id, plain.model))
    if type(regular) is not Regular or regular.identity is not identity:
        regular = _regular(parts, identity, plain.model)
        if regular is None:
            return None
    lane, terms, answer = regular.lane, regular.terms, plain.max_tokens
    places, fit = lane.places, lane.fit
    if (
        not places.any_ready
        or lane.queued is not None
        or fit.policy != "reject"
        or (fit.answer_tokens_max is not None and (answer is None or answer > fit.answer_tokens_max))
        or (lane.lacks and "chat" in lane.lacks)
        or (lane.flights is not None and plain.temperature == 0)
    ):
        return None
    call = None
    context = lane.context_tokens
    if plain.stream or not lane.engine.documents:
        call = plain_call(plain)
        body = call.jobs[0].body
        body_bytes = len(body)
    else:
        body = plain_whole(plain, answer)
        body_bytes = len(body) + STREAMED_BYTES
    prompt_most = 0
    if terms.demands:
        prompt_most = min(context, body_bytes + TEMPLATE_TOKENS)
        if answer is None:
            answer = max(1, (context if terms.tokens_max is None else min(context, terms.tokens_max)) - prompt_most)
            if answer < fit.answer_room:
                return None  # a count of its prompt would leave it more
            if call is not None:
                call = limited(call, answer)
                body = call.jobs[0].body
            else:
                body = b'%b,"max_tokens":%d}' % (body[:-1], answer)
    queue, share = lane.turns.queue, regular.share
    prompt_tokens = lane.prompt_guess(body_bytes, context)
    if not queue.free_for(prompt_tokens):
        return None
    place = places.choose(RouteAsk(body))
    if place is None or (pool := place.member.pool) is None:
        return None
    if lane.body_start is not None:
        body = renamed(body, lane.body_start)
    quotas = parts.quotas
    at = quotas.now()
    connection = pool.take_idle()
    if connection is None:
        return None
    purse, held = None, 0
    if terms.demands:
        held = prompt_most + (answer or 0)
        purse = quotas.lend(terms, held, at)
        if purse is None:
            pool.put_back(connection)
            return None
    # nothing stands in the way any more
    parts.straight += 1
    entry = request.entry
    entry.begun = True
    entry.key_id, entry.tenant, entry.model = regular.key_id, regular.tenant, lane.model
    if purse is not None:
        entry.step(Held(at.steady_us / 1_000_000, purse.scopes, held, 0))
        request.limit_lines = purse_lines(purse)
    queue.seat(share.tenant, share.weight, share.priority, prompt_tokens, place.began_s)
    places.start(place)
    arrive(entry, lane, place, 0)
    answer_most = held - prompt_most
    line = Line(
        parts, request, regular, plain, call, place, purse, at, prompt_most, answer_most, prompt_tokens, body_bytes
    )
    if call is None:
        lane.watches.add(line)
    else:
        line.stream(call, pool.broken)
    line.reply = pool.ask(connection, PATH, body, line, patient=call is None)
    return line


def _regular(parts: Parts, identity: Identity, model: str) -> Regular | None:
    """None where the caller may not, or where its requests have to be looked at one by one."""
    lane = parts.lanes.get(model)
    if lane is None or not parts.ways.trivial:
        return None
    try:
        require(identity, "infer")
        terms = parts.quotas.terms(identity, model)
    except ApiError:
        return None
    if terms.price is not FREE:
        return None
    if len(parts.regulars) >= _REGULARS_MAX:
        parts.regulars.clear()
    made = Regular(identity, identity.key_id, identity.tenant, lane, parts.shares.of(identity.tenant), terms)
    parts.regulars[identity.key_id, model] = made
    return made
