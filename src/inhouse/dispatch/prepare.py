"""What happens to a call between its parsing and its turn: it is made to fit the model, and its quota is held."""

from __future__ import annotations

from inhouse.core import Identity
from inhouse.dispatch.able import check
from inhouse.dispatch.fit import FACTS, HEADERS, Notes, fit_prompts, limit_answers
from inhouse.dispatch.lane import Lane
from inhouse.dispatch.prompts import Prompts
from inhouse.dispatch.reserve import reserve
from inhouse.telemetry.entry import Entry
from inhouse.tenancy.limits import Bound
from inhouse.tenancy.quotas import Hold, Quotas
from inhouse.wire.call import Call


async def prepare(
    quotas: Quotas, identity: Identity, lane: Lane, call: Call, entry: Entry, notes: Notes
) -> tuple[Call, Bound, Hold]:
    """The call as it may run, its bound, and the hold on the quotas; `notes` get what was changed.

    Of a call that was prepared for another lane before, what was noted then is forgotten.

    Raises Unable and Forbidden before anything else, then AnswerTooLong, ContextTooLong, and what `Quotas.reserve`
    raises.
    """
    if notes:
        notes[:] = [note for note in notes if note[0] not in HEADERS]
    if entry.facts:
        for name in FACTS:
            entry.facts.pop(name, None)
    if lane.lacks:
        check(lane, call)
    terms = quotas.terms(identity, lane.model)
    if lane.fit.answer_tokens_max is not None:
        call = limit_answers(lane, call, entry, notes)
    prompts = Prompts(lane, call)
    if call.may_trim or lane.fit.policy != "reject":
        call = await fit_prompts(lane, call, prompts, entry, notes)
    return await reserve(quotas, identity, lane, call, terms, prompts)
