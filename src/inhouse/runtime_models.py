"""Serves one model whose engines are started here. A part of `runtime`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from inhouse.config import ModelSpec, WeightsSpec
from inhouse.core import FetchReport, ReplicaReport, Report
from inhouse.dispatch.lane import Lane
from inhouse.dispatch.upstream import shown_model
from inhouse.engines import gpus
from inhouse.engines.abilities import lacking
from inhouse.engines.choices import choose
from inhouse.engines.devices import Device, on_devices, seen
from inhouse.engines.devices import chosen as selected
from inhouse.engines.engine import Spec
from inhouse.engines.gpu_memory import misfit
from inhouse.engines.hardware import look
from inhouse.engines.http import Address
from inhouse.engines.llamacpp_gpu import devices_told, places_told
from inhouse.engines.member import Member
from inhouse.engines.memory import fitted, planned, size_of, with_adapters
from inhouse.engines.native_cuda import visible_bytes
from inhouse.engines.native_here import native_for
from inhouse.engines.replica import Replica, without_folders
from inhouse.engines.residence import Plan
from inhouse.engines.room import UNLIMITED_BYTES
from inhouse.engines.specs import known_of, spec_of
from inhouse.engines.table import ENGINES
from inhouse.errors import InhouseError, WeightsError
from inhouse.runtime_residence import Keeper, Resident
from inhouse.threads import in_thread
from inhouse.weights.apart import obtain_apart
from inhouse.weights.catalogue import Machine
from inhouse.weights.identity import identity
from inhouse.weights.look import read_path
from inhouse.weights.sources import is_here, is_pinned, line_of, obtain
from inhouse.weights.wanted import Progress, Wanted, wanted_of

_T = TypeVar("_T")
_RETRY_FIRST_S, _RETRY_MAX_S = 5.0, 300.0


async def serve_model(
    lane: Lane,
    spec: ModelSpec,
    weights: WeightsSpec,
    source: str,
    folder: Path,
    keeper: Keeper,
    *,
    sweepers: list[Callable[[], None]],
    report: Callable[[Report], None],
    tell: Callable[[ReplicaReport], None],
    fault: Callable[[BaseException], None],
) -> None:
    """Fetches the weights of one model, and runs its replicas whenever the keeper has them loaded.

    Their sockets lie in `folder`. Each replica adds to `sweepers` what is to be called about once a second. Weights
    that cannot be had are tried again, ever more rarely.
    """
    loop = asyncio.get_running_loop()

    def progress(done_bytes: int, total_bytes: int | None) -> None:
        loop.call_soon_threadsafe(report, FetchReport(lane.model, done_bytes, total_bytes))

    pause_s = _RETRY_FIRST_S
    while True:
        try:
            found = await _find(lane, spec, source, weights, progress, keeper)
            break
        except InhouseError as error:
            lane.failure = without_folders(error.message)
            reason = error.message if error.hint is None else f"{error.message}; {error.hint}"
        except Exception as error:  # noqa: BLE001 - a fault of ours in one model must not look like an endless download
            lane.failure = reason = "an internal error while its weights were looked at"
            fault(error)
        lane.retry_s = loop.time() + pause_s
        keeper.give_up(lane.model)
        tell(ReplicaReport(model=lane.model, engine=spec.engine, state="failed", reason=reason))
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _RETRY_MAX_S)
    lane.failure = ""
    if lane.flights is not None:
        lane.flights.version = found.version
    lane.lacks = lacking(lane.engine, found.spec.task, found.spec.extra_args)
    if not found.spec.embeddings and found.spec.task == "generate":
        lane.lacks = {"embeddings": "its `embeddings` are off in inhouse.yaml", **lane.lacks}
    if lane.engine.calls_it is not None:
        lane.shown_model = shown_model(lane.engine.calls_it(found.spec), lane.model)
    start_s = spec.start_timeout if "start_timeout" in spec.model_fields_set else lane.engine.start_s
    replicas = []
    for number in range(spec.replicas):
        own = folder / str(number)
        own.mkdir(mode=0o700)
        one = found.spec
        member = Member(f"{lane.model}-{number}", lane.engine, one.slots, context_tokens=one.context_tokens)
        member.enter("asleep")
        lane.places.join(member)
        replica = Replica(
            one,
            own,
            member,
            start_s_max=start_s,
            silence_s_max=spec.idle_timeout,
            crashes_max=spec.crashes_max,
            crash_pause_s=spec.crash_pause,
            report=tell,
        )
        sweepers.append(replica.sweep)
        replicas.append(replica)
    hold_s = spec.load_wait if "load_wait" in spec.model_fields_set else start_s
    resident = Resident(lane, found.plan, replicas, keeper, hold_s)
    keeper.add(resident)
    await resident.live()


@dataclass(frozen=True, slots=True)
class _Found:
    """A model whose weights are here."""

    spec: Spec
    plan: Plan
    version: bytes
    """Other weights or other flags have another one."""


async def _find(
    lane: Lane, said: ModelSpec, source: str, weights: WeightsSpec, progress: Progress, keeper: Keeper
) -> _Found:
    """Has the weights brought here and says what is to be started with them. Raises WeightsError."""
    engine, hardware = lane.engine, look(with_gpus=False)
    native = await in_thread(lambda: native_for(said, hardware))
    cards = await in_thread(lambda: _devices(said, native))
    if cards:
        keeper.gpus(sum(card.memory_bytes for card in cards))
    cards = selected(cards, devices_told(said.engine_args))
    machine = Machine(hardware.usable_memory_bytes, amx="AMX" in hardware.cpu.features)
    file = await _obtained(source, wanted_of(said, weights, ENGINES[said.engine].formats, progress, machine))
    header = await in_thread(lambda: read_path(file))
    chosen = choose(hardware, replicas=said.replicas, threads=said.threads, batch=said.batch, slots=said.slots)
    spec = spec_of(lane.model, said, file, known_of(header.context_tokens, header.pooling), chosen)
    spec = on_devices(replace(with_adapters(spec), native=native), cards)
    if engine.on_gpu is not None:
        sizes = await in_thread(lambda: visible_bytes(gpus.look(), os.environ))
        reason = misfit(engine.on_gpu, spec, header, sizes)
        if reason:
            raise WeightsError(f"it does not fit: {reason}")
    facts = (header, size_of(file), hardware.cpu.features, said.replicas)
    budget = keeper.residence.budget
    if said.memory is not None:
        budget = replace(budget, memory_bytes=UNLIMITED_BYTES)
    fixed = said.slots is not None or said.memory is not None
    spec = await in_thread(lambda: fitted(engine, spec, *facts, budget, slots_given=fixed))
    needs = planned(engine, spec, *facts)
    if places_told(said.engine_args):
        needs = replace(needs, gpu_bytes=min(needs.gpu_bytes, budget.gpu_bytes))
    plan = Plan(
        lane.model,
        needs.memory_bytes if said.memory is None else said.memory,
        gpu_bytes=needs.gpu_bytes,
        pinned=said.pinned,
        at_start=said.load == "at_start",
        sleep_after_s=said.sleep_after,
    )
    argv = engine.argv(spec, Address(socket="")) if engine.argv is not None else None
    return _Found(spec, plan, hashlib.sha256(identity(file) + repr(argv).encode()).digest())


def _devices(said: ModelSpec, native: Path | None) -> tuple[Device, ...]:
    """What a llama-server would compute on beside the CPU; the one in the package has nothing."""
    program = said.engine_binary or native
    return seen(program) if program is not None and said.engine == "llamacpp" else ()


async def _obtained(source: str, wanted: Wanted) -> Path:
    """In this process what needs no fetching, in one of its own what may."""
    line = line_of(source)
    if wanted.offline or is_here(source):
        return await in_thread(lambda: obtain(source, wanted).path)
    if is_pinned(line, wanted):
        with contextlib.suppress(WeightsError):
            return await in_thread(lambda: obtain(source, replace(wanted, offline=True)).path)
    return await obtain_apart(source, wanted)
