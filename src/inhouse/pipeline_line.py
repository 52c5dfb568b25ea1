"""A usual request on its way: what it holds as numbers, and the ways it can end (`pipeline_straight` sets it off).

A line is called from outside: with the engine's answer (`data`, `done`), to end (`leave`), and by the clock (`look`).
It ends once: whole, left, or handed over with all that it holds to `pipeline.answer_rest`, which knows what to do where
an engine refuses, falls silent or breaks off. What those need of objects (hold, turn, call) is made only then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from inhouse.admission.turns import Ask
from inhouse.core import NOTHING, Identity, Usage
from inhouse.dispatch.errand import Errand
from inhouse.dispatch.lane import Lane, Share
from inhouse.dispatch.places import Place
from inhouse.dispatch.refusal import refusal
from inhouse.dispatch.reserve import limited
from inhouse.dispatch.sink import ViewSink
from inhouse.dispatch.watch import Watch
from inhouse.engines.connection import BODY_BYTES_MAX, Reply, StaleConnectionError
from inhouse.errors import ApiError, EngineError
from inhouse.parts import Parts
from inhouse.pipeline import Request, answer_rest, book, end_with
from inhouse.routing.router import Outcome
from inhouse.store.ledger import Now
from inhouse.store.ledger_account import DAY_US
from inhouse.store.ledger_purse import Purse
from inhouse.tenancy.limits import Bound, Terms
from inhouse.wire.call import Call, View
from inhouse.wire.chat import PlainChat
from inhouse.wire.openai_chat import plain_call
from inhouse.wire.views import usage_in

_REFUSAL_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Regular:
    """What is the same for all requests of one caller for one model."""

    identity: Identity
    key_id: str
    tenant: str
    lane: Lane
    share: Share
    terms: Terms


class Traveller(Request, Protocol):
    """The request, and its client."""

    def carry(self, rest: Coroutine[Any, Any, None]) -> None:
        """From here on a task answers."""

    def arrived(self) -> None:
        """The straight line has come to its end."""

    def document(self, answer: bytes) -> None:
        """A whole answer."""


class Line:
    """See the module. It may use at most `prompt_most` and `answer_most` tokens; both are 0 where nothing limits it.

    `call` is that of an answer that streams from the engine; one in one piece needs none while all goes well.
    """

    _pieces: bytes | list[bytes] = b""
    _over: bool = False
    """Nothing more is wanted of the engine."""
    _ended: bool = False
    """What was held is given back, or somebody else's to give back."""
    _fault: ApiError | None = None
    _errand: Errand | None = None
    _sink: ViewSink | None = None
    reply: Reply | None = None

    def __init__(
        self,
        parts: Parts,
        request: Traveller,
        regular: Regular,
        plain: PlainChat,
        call: Call | None,
        place: Place,
        purse: Purse | None,
        at: Now,
        prompt_most: int,
        answer_most: int,
        prompt_tokens: int,
        body_bytes: int,
    ) -> None:
        self._parts = parts
        self._request = request
        self._entry = request.entry
        self._regular = regular
        self._plain = plain
        self._call = call
        self._place = place
        self._purse = purse
        self._at = at
        self._prompt_most = prompt_most
        self._answer_most = answer_most
        self._prompt_tokens = prompt_tokens
        self._body_bytes = body_bytes

    def stream(self, call: Call, doubt: Callable[[], None]) -> None:
        """It is watched as a stream; `doubt` has the engine looked at."""
        regular, request = self._regular, self._request
        errand = self._errand = Errand(0, call.jobs[0], call.view, regular.lane, regular.share, request, self._entry)
        errand.may_be_rescued()
        errand.watch.asked(self._place.began_s, doubt)
        regular.lane.watches.add(errand.watch)

    # the engine's answer
    def data(self, data: bytes) -> None:
        if self._over:
            return
        reply, errand, call = self.reply, self._errand, self._call
        assert reply is not None  # noqa: S101 - it is what calls
        if errand is None or call is None or reply.status != 200:
            self._collect(data)
            return
        request = self._request
        if call.view.streams:
            request.begin()
        sink = self._sink = reply.sink = errand.sink(self._place)
        errand.watch.reply = reply
        request.attach(reply)
        sink.tell(self.done)
        sink.relay(reply)
        sink.data(data)

    def done(self, error: Exception | None) -> None:
        if self._over:
            return
        try:
            if error is None and self._errand is None and self.reply is not None and self.reply.status == 200:
                self._finish_document()
            else:
                self._done(error)
        except Exception as fault:  # noqa: BLE001 - as in `pipeline.answer`: nobody else would tell the client
            self._end_with(fault)

    def _done(self, error: Exception | None) -> None:
        reply, call = self.reply, self._call
        assert reply is not None  # noqa: S101 - it has come to its end
        if error is None and reply.status != 200:
            pool, told = self._place.member.pool, self._whole[:_REFUSAL_BYTES_MAX]
            if pool is not None:
                told = pool.without_key(told)
            error = refusal(reply.status, told, self._called.jobs[0], self._regular.lane)
        elif error is None and call is not None:
            try:
                call.view.finished(0)
            except EngineError as fault:
                error = fault
        if error is None and call is not None:
            self._finish_stream(call)
        elif isinstance(error, ApiError | StaleConnectionError):
            self._hand_over(error)
        elif error is not None:
            raise error

    def _finish_document(self) -> None:
        answer, lane, place = self._whole, self._regular.lane, self._place
        if lane.shown_model is not None:
            answer = answer.replace(*lane.shown_model)
        try:
            usage = usage_in(answer)
        except EngineError as fault:
            self._hand_over(fault)
            return
        request = self._request
        entry, now_s = self._entry, time.monotonic()
        self._over = self._ended = True
        events = entry.events = usage.completion_tokens or 1
        lane.places.leave(place, "ok", events, now_s)
        self._leave_seat(usage.total_tokens, now_s)
        lane.watches.discard(self)
        lane.learn(self._body_bytes, usage.prompt_tokens)
        request.document(answer)
        self._settle(usage, events, now_s)
        entry.usage = usage if usage.total_tokens else Usage(completion_tokens=events)
        entry.status = 200
        request.arrived()
        book(self._parts, entry, None, now_s)

    def _finish_stream(self, call: Call) -> None:
        view, request = call.view, self._request
        self._give_back("ok")
        self._regular.lane.learn(self._body_bytes, view.usage.prompt_tokens)
        request.finish(view, view.end())
        now_s = time.monotonic()
        self._settle(view.usage, view.events_seen, now_s)
        self._entry.status = 200
        request.arrived()
        book(self._parts, self._entry, view, now_s)

    # from outside
    def leave(self) -> None:
        """The client has gone, or hears why it ends (`Request.stopped_by`)."""
        if not self._ended:
            self._end_with(asyncio.CancelledError())

    def look(self, now_s: float) -> None:
        """As a watch, of an answer in one piece: of that nothing is heard before its end."""
        request, lane = self._request, self._regular.lane
        limits = request.time_limits(lane.limits, kept_alive=False)
        if now_s - self._entry.arrived_s > limits.total_s:
            Watch(lane.model, lane.limits, limits, self._entry.arrived_s, request.stop).look(now_s)

    # the rest of an unusual one
    @property
    def view(self) -> View:
        return self._called.view

    async def go_on(self) -> None:
        """For `pipeline.answer_rest`."""
        regular, request = self._regular, self._request
        lane, share, call = regular.lane, regular.share, self._called
        view, job, errand = call.view, call.jobs[0], self._errand
        tokens_max = min(lane.context_tokens, self._prompt_tokens + (job.answer_tokens_max or lane.context_tokens))
        ask = Ask(share.tenant, share.weight, share.priority, self._prompt_tokens, tokens_max, self._body_bytes)
        turn = lane.turns.seated(ask, self._place.began_s)
        bound = Bound(self._prompt_most, self._answer_most)
        hold = self._parts.quotas.hold(regular.identity, lane.model, regular.terms, bound, self._purse, self._at)
        try:
            if errand is None:
                lane.watches.discard(self)
                errand = Errand(0, job, view, lane, share, request, self._entry)
            await errand.go_on(turn, self._place, self._fault)
            lane.learn(len(job.body), view.usage.prompt_tokens)
            request.finish(view, view.end())
        finally:
            hold.settle(bound.spent(view.usage, view.events_seen, self._entry.reused_tokens))
            self._entry.money = hold.money

    def _hand_over(self, fault: ApiError | StaleConnectionError) -> None:
        """A connection that was stale had been idle for too long: the engine is asked on another one."""
        self._silence()
        self._fault = fault if isinstance(fault, ApiError) else None
        self._request.carry(self._rest())

    async def _rest(self) -> None:
        if self._ended:
            return  # it was left before the event loop came to this
        self._ended = True
        self._request.arrived()  # from here on the task can be cancelled
        await answer_rest(self._parts, self._request, self)

    def _end_with(self, error: BaseException) -> None:
        call = self._call
        view = None if call is None else call.view
        self._give_back("neutral")
        end_with(error, self._parts, self._request, view)
        now_s = time.monotonic()
        if view is None:
            self._settle(NOTHING, 0, now_s)
        else:
            self._settle(view.usage, view.events_seen, now_s)
        self._request.arrived()
        book(self._parts, self._entry, view, now_s)

    def _silence(self) -> None:
        """Nothing more of the engine's answer."""
        self._over = True
        reply = self.reply
        if reply is not None:
            if self._sink is not None:
                self._sink = None
                self._request.detach(reply)
            reply.abort()

    def _give_back(self, outcome: Outcome) -> None:
        """The engine, the place and the turn. Once: a second time changes nothing."""
        self._silence()
        if self._ended:
            return
        self._ended = True
        lane, call, errand = self._regular.lane, self._call, self._errand
        now_s = time.monotonic()
        lane.places.leave(self._place, outcome, 0 if call is None else call.view.events_seen, now_s)
        self._leave_seat(0 if call is None else call.view.tokens_of(0), now_s)
        lane.watches.discard(self if errand is None else errand.watch)

    def _leave_seat(self, tokens: int, now_s: float) -> None:
        lane, share = self._regular.lane, self._regular.share
        lane.turns.queue.unseat(
            share.tenant,
            share.weight,
            share.priority,
            self._prompt_tokens,
            self._place.began_s,
            tokens,
            now_s,
        )

    def _settle(self, usage: Usage, events: int, now_s: float) -> None:
        """What was lent goes back, less what was used."""
        regular, quotas, purse = self._regular, self._parts.quotas, self._purse
        if not usage.total_tokens:
            usage = Bound(self._prompt_most, self._answer_most).spent(usage, events)
        if purse is not None:
            held, used = self._prompt_most + self._answer_most, usage.prompt_tokens + usage.completion_tokens
            quotas.restore(purse, held, used, int(now_s * 1_000_000))
        quotas.count(self._at.wall_us // DAY_US, regular.identity, regular.lane.model, usage, 0)

    def _collect(self, data: bytes) -> None:
        pieces = self._pieces
        if not pieces:
            self._pieces = data
            return
        if not isinstance(pieces, list):
            pieces = self._pieces = [pieces]
        pieces.append(data)
        if sum(map(len, pieces)) > BODY_BYTES_MAX:
            self._hand_over(EngineError("the engine's answer is too large"))

    @property
    def _whole(self) -> bytes:
        pieces = self._pieces
        return b"".join(pieces) if isinstance(pieces, list) else pieces

    @property
    def _called(self) -> Call:
        """The call; made here where it was not needed before."""
        call = self._call
        if call is None:
            call = plain_call(self._plain)
            if self._plain.max_tokens is None and self._answer_most:
                call = limited(call, self._answer_most)
            self._call = call
        return call
