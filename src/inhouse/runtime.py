"""Builds and closes the parts of one serving process. The only place where they are wired together."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import os
import secrets
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar, cast

from inhouse.admission.context_fit import Fit
from inhouse.admission.fair import FairQueue
from inhouse.admission.turns import Turns
from inhouse.config import CacheSpec, IssuerSpec, ModelSpec, Stack, state_folder
from inhouse.core import ANONYMOUS, Endpoint, FetchReport, Identity, KeyMinted, ReplicaReport, Report
from inhouse.dispatch.cache import Cache
from inhouse.dispatch.flights import Flights
from inhouse.dispatch.holdings import watch_process
from inhouse.dispatch.lane import Lane, Share
from inhouse.dispatch.upstream import shown_model, start_of
from inhouse.dispatch.watch import TimeLimits
from inhouse.dispatch.ways import Ways
from inhouse.engines.hardware import usable_cores
from inhouse.engines.kinds import KINDS
from inhouse.engines.llamacpp import LlamaCpp, argv
from inhouse.engines.member import Member
from inhouse.engines.replica import Replica
from inhouse.errors import InhouseError
from inhouse.routing.router import Router
from inhouse.routing.settings import settings_of
from inhouse.runtime_audit import auditing
from inhouse.runtime_fleet import fleet_of
from inhouse.store.ledger_leased import LeasedLedger
from inhouse.store.ledger_sqlite import SqliteLedger
from inhouse.store.sqlite import SqliteStore
from inhouse.telemetry.alarm import Alarm
from inhouse.telemetry.audit import Audit
from inhouse.telemetry.log import Level, Log
from inhouse.telemetry.metrics import LaneReading, Metrics
from inhouse.telemetry.recent import Recent
from inhouse.tenancy.auth import Authenticator
from inhouse.tenancy.declared import DeclaredKeys
from inhouse.tenancy.keys import first_key
from inhouse.tenancy.oidc import IssuerReport, OidcSettings, token_prover
from inhouse.tenancy.quotas import Quotas
from inhouse.weights.gguf import read_gguf
from inhouse.weights.identity import identity
from inhouse.weights.sources import resolve

_T = TypeVar("_T")

TICK_S = 0.25
_SHARES_MAX = 10_000
_CHECKPOINT_S = 1.0
_TICKS_PER_SWEEP = 4
_SOCKET_FOLDER_LENGTH_MAX = 64


class RequestIds:
    """24 hexadecimal digits, by the hundred: the system is asked for randomness once for many."""

    def __init__(self) -> None:
        self._left: list[str] = []

    def new(self) -> str:
        if not self._left:
            digits = os.urandom(12 * 128).hex()
            self._left = [digits[at : at + 24] for at in range(0, len(digits), 24)]
        return self._left.pop()


@dataclass(slots=True)
class Parts:
    """What the requests of one process share."""

    stack: Stack
    identify: Callable[[bytes | None, bytes | None], Identity]
    lanes: Mapping[str, Lane]
    ways: Ways
    shares: Shares
    quotas: Quotas
    log: Log
    metrics: Metrics
    recent: Recent
    alarm: Alarm
    state_dir: Path
    refresh_keys: Callable[[], None]
    """To be called after a key was changed here: it holds at once."""
    audit: Audit
    request_ids: RequestIds = field(default_factory=RequestIds)
    draining: bool = False
    sweepers: list[Callable[[], None]] = field(default_factory=list)
    """Called about once a second, in the event loop."""
    connections: Callable[[], int] = int
    """How many clients are connected; the server says."""
    heartbeat_s: float = 0.0
    """time.monotonic() of the last tick: how long ago the event loop was last seen alive."""


@contextlib.asynccontextmanager
async def running(stack: Stack, environ: Mapping[str, str], report: Callable[[Report], None]) -> AsyncIterator[Parts]:
    """The parts, alive until the block ends: keys open, engines starting, clock ticking. Raises InhouseError."""
    for spec in stack.models.values():  # a file that is not there is a mistake to be told before all else
        if spec.source is not None and not spec.source.startswith("hf://"):
            resolve(spec.source, base=Path.cwd(), progress=_silent)
    async with contextlib.AsyncExitStack() as exits:
        log = Log(level=stack.log.level, form=stack.log.format)
        exits.callback(log.close)
        folder = state_folder(stack, environ)
        audit = exits.enter_context(auditing(stack, folder, log))
        store = exits.enter_context(contextlib.closing(SqliteStore(folder)))
        alarm = Alarm(log)
        auth = _authenticator(stack, environ, store, log, alarm, audit, report)
        ledger = SqliteLedger(folder)
        leased = exits.enter_context(contextlib.closing(LeasedLedger(ledger)))
        quotas = Quotas(stack, leased, tell=alarm.state)
        exits.callback(quotas.close)
        lanes = {name: _lane(name, spec) for name, spec in stack.models.items()}
        metrics = Metrics(functools.partial(_readings, lanes))
        ways = Ways(stack, lanes, log, metrics, asyncio.get_running_loop().time, seed=secrets.randbits(32))
        metrics.canaries = ways.readings
        metrics.watch_endpoints(functools.partial(_endpoints, lanes))
        metrics.watch_audit(audit.reading)
        identify = auth.identify if stack.auth.enabled else _anyone
        recent = Recent(requests_max=stack.explain.requests_max, bytes_max=stack.explain.bytes_max)
        parts = Parts(
            stack,
            identify,
            lanes,
            ways,
            Shares(stack),
            quotas,
            log,
            metrics,
            recent,
            alarm,
            folder,
            auth.refresh,
            audit,
        )
        watch_process(metrics, lanes, connections=lambda: parts.connections(), held=lambda: quotas.held)
        parts.sweepers += [auth.refresh, quotas.flush, ways.sweep]
        sockets = Path(exits.enter_context(_temporary_folder()))
        tasks = [
            asyncio.create_task(_tick(parts), name="tick"),
            asyncio.create_task(_checkpoint(ledger), name="checkpoint"),
        ]
        for index, (name, spec) in enumerate(stack.models.items()):
            own = sockets / str(index)
            own.mkdir(mode=0o700)
            told = functools.partial(_told, parts, report)
            if spec.source is None:
                fleet = fleet_of(stack, lanes[name], spec, environ, told, functools.partial(_fault, parts, name))
                parts.sweepers.append(fleet.sweep)
                coroutine = fleet.run()
            else:
                coroutine = _serve_model(lanes[name], spec, spec.source, own, parts, report, told)
            tasks.append(asyncio.create_task(coroutine, name=f"model-{name}"))
        exits.push_async_callback(_cancel, tasks)
        for lane in lanes.values():
            if lane.flights is not None:
                parts.sweepers.append(lane.flights.sweep)
                exits.push_async_callback(lane.flights.close)
        yield parts


def _temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """For the engines' sockets, whose paths the system cuts at about 104 characters."""
    usual = tempfile.gettempdir()
    base = usual if len(usual) <= _SOCKET_FOLDER_LENGTH_MAX else "/tmp"  # noqa: S108 - the folder in it is private
    return tempfile.TemporaryDirectory(prefix="inhouse-", dir=base, ignore_cleanup_errors=True)


def _silent(done_bytes: int, total_bytes: int | None) -> None:
    return None


def _authenticator(
    stack: Stack,
    environ: Mapping[str, str],
    store: SqliteStore,
    log: Log,
    alarm: Alarm,
    audit: Audit,
    report: Callable[[Report], None],
) -> Authenticator:
    def tell(issuer: IssuerReport) -> None:
        level: Level = "info" if issuer.state == "ready" and issuer.reason is None else "warning"
        facts = {"state": issuer.state, "keys": issuer.keys, "reason": issuer.reason}
        log.event(level, "token issuer", issuer=issuer.issuer, **facts)

    def tell_of_file(key_id: str, reason: str | None) -> None:
        log.event("info" if reason is None else "warning", "declared key", key_id=key_id, reason=reason)

    declared = DeclaredKeys(stack.keys, environ, tell=tell_of_file)
    declared.check_apart_from(store)
    own = environ.get("INHOUSE_API_KEY")
    issuers = [_issuer(spec) for spec in stack.issuers.values()]
    tokens = token_prover(issuers, tell=tell) if issuers else None
    auth = Authenticator(
        store, static_keys=[own] if own else [], declared=declared, tokens=tokens, clock=time.time, tell=alarm.state
    )
    if stack.auth.enabled and not own and not declared:
        minted = first_key(store, now=time.time())
        if minted is not None:
            audit.act("key.made", tenant=minted.record.tenant, target=minted.record.id)
            report(KeyMinted(minted.key, minted.record.id, str(state_folder(stack, environ))))
    return auth


def _issuer(spec: IssuerSpec) -> OidcSettings:
    required: dict[str, tuple[str, ...]] = {}
    for claim, value in (pair.split("=") for pair in spec.required_claims):
        required[claim] = (*required.get(claim, ()), value)
    return OidcSettings(
        issuer=spec.issuer,
        audiences=tuple(spec.audiences),
        algorithms=tuple(spec.algorithms),
        leeway_s=spec.leeway,
        tenant_claim=spec.tenant_claim,
        default_tenant=spec.default_tenant,
        roles_claim=spec.roles_claim,
        role_map=dict(pair.split("=") for pair in spec.roles),
        default_role=spec.default_role,
        required_claims=required,
        jwks_ttl_s=spec.jwks_ttl,
        jwks_grace_s=spec.jwks_grace,
        fetch_timeout_s=spec.fetch_timeout,
        ca_file=spec.ca_file,
    )


def _anyone(authorization: bytes | None, x_api_key: bytes | None) -> Identity:
    return ANONYMOUS


def _lane(name: str, spec: ModelSpec) -> Lane:
    return Lane(
        model=name,
        source=spec.source or ", ".join(spec.endpoints),
        created_s=int(time.time()),
        turns=Turns(_queue(name, spec), notice_every_s=spec.queue_notice_every),
        alone=Turns(_queue(name, spec)),
        load_wait_s=spec.load_wait,
        limits=TimeLimits(
            wait_s=spec.queue_wait_max,
            first_token_s=spec.first_token_timeout,
            token_gap_s=spec.token_gap_timeout,
            total_s=spec.total_timeout,
        ),
        fit=Fit(spec.context_fit, spec.answer_room, spec.answer_tokens_max, spec.answer_tokens_policy),
        kind=KINDS[spec.engine],
        router=Router(settings_of(spec.routing)) if spec.source is None or spec.replicas > 1 else None,
        context_given=spec.context if spec.source is not None or "context" in spec.model_fields_set else None,
        body_start=start_of(spec.upstream_model or name) if spec.source is None else None,
        shown_model=shown_model(spec.upstream_model, name),
        preparing="" if spec.source is None else "fetching",
        flights=_flights(name, spec.cache),
    )


def _flights(model: str, spec: CacheSpec) -> Flights | None:
    if not spec.enabled:
        return None
    cache = Cache(bytes_max=spec.bytes_max, entry_bytes_max=spec.entry_bytes_max, age_max_s=spec.age_max)
    return Flights(model, cache, coalesce=spec.coalesce, sharers_max=spec.sharers_max)


def _queue(name: str, spec: ModelSpec) -> FairQueue:
    return FairQueue(
        name,
        waiting_max=spec.queue_requests_max,
        waiting_tokens_max=spec.queue_tokens_max,
        waiting_bytes_max=spec.queue_bytes_max,
        prefill_long_tokens=spec.prefill_long,
        long_share=spec.prefill_long_percent / 100,
        tenant_share=spec.queue_tenant_percent / 100,
    )


class Shares:
    """What each tenant gets of the slots, as the stack says."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._found: dict[str, Share] = {}

    def of(self, tenant: str) -> Share:
        share = self._found.get(tenant)
        if share is None:
            spec = self._stack.tenants.get(tenant, self._stack.tenant_defaults)
            share = Share(tenant, spec.weight, spec.priority)
            if len(self._found) < _SHARES_MAX:
                self._found[tenant] = share
        return share


def _endpoints(lanes: Mapping[str, Lane]) -> Iterator[tuple[str, Endpoint]]:
    for lane in lanes.values():
        for endpoint in lane.places.endpoints():
            yield lane.model, endpoint


def _readings(lanes: Mapping[str, Lane]) -> Iterator[LaneReading]:
    for lane in lanes.values():
        queue = lane.turns.queue
        kept = None if lane.flights is None else lane.flights.cache
        cached = (None, None) if kept is None else (len(kept), kept.bytes_kept)
        yield LaneReading(lane.model, lane.ready, lane.places.open_slots, queue.serving, queue.waiting, *cached)


def _told(parts: Parts, report: Callable[[Report], None], what: ReplicaReport) -> None:
    """A replica's state has changed."""
    report(what)
    flights = parts.lanes[what.model].flights
    if flights is not None and what.state not in ("ready", "stopped"):
        flights.forget()  # when it is back, its weights may be others
    if what.state == "restarting":
        parts.metrics.restarted(what.model)
    parts.log.event(
        "info" if what.reason is None else "error",
        f"engine {what.state}",
        model=what.model,
        endpoint=what.endpoint or None,
        reason=what.reason,
        load_s=what.load_s,
    )


def _fault(parts: Parts, model: str, error: BaseException) -> None:
    parts.log.event("error", "internal error", model=model, fault=place_of(error))


async def _serve_model(
    lane: Lane,
    spec: ModelSpec,
    source: str,
    folder: Path,
    parts: Parts,
    report: Callable[[Report], None],
    tell: Callable[[ReplicaReport], None],
) -> None:
    """Fetches the weights of one model and keeps its replicas alive."""
    loop = asyncio.get_running_loop()

    def progress(done_bytes: int, total_bytes: int | None) -> None:
        loop.call_soon_threadsafe(report, FetchReport(lane.model, done_bytes, total_bytes))

    try:
        file = await _in_thread(lambda: resolve(source, base=Path.cwd(), progress=progress))
        header = read_gguf(file)
        known_by = identity(file)
    except InhouseError as error:
        lane.failure = error.message
        reason = error.message if error.hint is None else f"{error.message}; {error.hint}"
        tell(ReplicaReport(model=lane.model, engine=spec.engine, state="failed", reason=reason))
        return
    except Exception as error:  # noqa: BLE001 - a fault of ours in one model must not look like an endless download
        lane.failure = "an internal error while its weights were looked at"
        parts.log.event("error", "internal error", model=lane.model, fault=place_of(error))
        tell(ReplicaReport(model=lane.model, engine=spec.engine, state="failed", reason=lane.failure))
        return
    engine = LlamaCpp(
        model=lane.model,
        file=file,
        context_tokens=min(spec.context, header.context_tokens or spec.context),
        slots=spec.slots,
        threads=spec.threads or max(1, usable_cores() // spec.replicas),
        pooling=None if f"{header.architecture}.pooling_type" in header.scalars else "mean",
        binary=spec.engine_binary,
        extra_args=tuple(spec.engine_args),
    )
    if lane.flights is not None:
        lane.flights.version = hashlib.sha256(known_by + repr(argv(engine, "")).encode()).digest()
    async with asyncio.TaskGroup() as group:
        for number in range(spec.replicas):
            own = folder / str(number)
            own.mkdir(mode=0o700)
            member = Member(f"{lane.model}-{number}", lane.kind, spec.slots, context_tokens=engine.context_tokens)
            lane.places.join(member)
            replica = Replica(
                engine, own, member, start_s_max=spec.start_timeout, silence_s_max=spec.idle_timeout, report=tell
            )
            parts.sweepers.append(replica.sweep)
            group.create_task(replica.run(), name=member.id)


async def _tick(parts: Parts) -> None:
    """The one clock: deadlines, sweeps, batches. An error in one of them stops neither it nor the others."""
    ticks = 0
    while True:
        parts.heartbeat_s = time.monotonic()
        work = [lane.tick for lane in parts.lanes.values()]
        if ticks % _TICKS_PER_SWEEP == 0:
            work += parts.sweepers
        for one in [*work, parts.metrics.flush, parts.audit.flush]:
            try:
                one()
            except InhouseError as error:
                parts.alarm.state(error.message)
            except Exception as error:  # noqa: BLE001 - without its clock the gateway would seem to live and not do so
                parts.alarm.tell("internal error", fault=place_of(error))
        parts.log.flush()
        ticks += 1
        await asyncio.sleep(TICK_S)


def place_of(error: BaseException) -> str:
    """The kind of an error and where it was raised, for the log: its text may hold content."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" at {trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
    return type(error).__name__ + where


async def _checkpoint(ledger: SqliteLedger) -> None:
    """Keeps the copying of the database's log out of the requests. What cannot be written, `_tick` reports."""
    while True:
        await asyncio.sleep(_CHECKPOINT_S)
        with contextlib.suppress(InhouseError):
            await _in_thread(ledger.checkpoint)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _in_thread(work: Callable[[], _T]) -> _T:
    """Runs `work` in a daemon thread: a download that hangs never keeps the process from ending."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[_T] = loop.create_future()

    def settle(value: _T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(cast(_T, value))

    def run() -> None:
        try:
            value, error = work(), None
        except Exception as failure:  # noqa: BLE001 - handed to the waiter
            value, error = None, failure
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, daemon=True, name="weights").start()
    return await result
