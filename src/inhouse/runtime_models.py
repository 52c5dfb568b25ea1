"""Serves one model whose engines are started here. A part of `runtime`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from inhouse.config import ModelSpec, WeightsSpec
from inhouse.core import FetchReport, ReplicaReport, Report
from inhouse.dispatch.lane import Lane
from inhouse.dispatch.upstream import shown_model
from inhouse.engines import gpus
from inhouse.engines.abilities import lacking
from inhouse.engines.choices import choose
from inhouse.engines.gpu_memory import misfit
from inhouse.engines.hardware import look
from inhouse.engines.http import Address
from inhouse.engines.member import Member
from inhouse.engines.replica import Replica
from inhouse.engines.specs import known_of, spec_of
from inhouse.engines.table import ENGINES
from inhouse.errors import InhouseError, WeightsError
from inhouse.threads import in_thread
from inhouse.weights.apart import obtain_apart
from inhouse.weights.catalogue import Machine
from inhouse.weights.identity import identity
from inhouse.weights.look import read_path
from inhouse.weights.sources import is_here, is_pinned, line_of, obtain
from inhouse.weights.wanted import Wanted, wanted_of

_T = TypeVar("_T")


async def serve_model(
    lane: Lane,
    spec: ModelSpec,
    weights: WeightsSpec,
    source: str,
    folder: Path,
    *,
    sweepers: list[Callable[[], None]],
    report: Callable[[Report], None],
    tell: Callable[[ReplicaReport], None],
    fault: Callable[[BaseException], None],
) -> None:
    """Fetches the weights of one model and keeps its replicas alive. Their sockets lie in `folder`.

    Each replica adds to `sweepers` what is to be called about once a second.
    """
    loop = asyncio.get_running_loop()

    def progress(done_bytes: int, total_bytes: int | None) -> None:
        loop.call_soon_threadsafe(report, FetchReport(lane.model, done_bytes, total_bytes))

    hardware = look(with_gpus=False)
    machine = Machine(hardware.usable_memory_bytes, amx="AMX" in hardware.cpu.features)
    try:
        wanted = wanted_of(spec, weights, ENGINES[spec.engine].formats, progress, machine)
        file = await _obtained(source, wanted)
        header = await in_thread(lambda: read_path(file))
        known = known_of(header.context_tokens, header.pooling)
        known_by = identity(file)
        chosen = choose(hardware, replicas=spec.replicas, threads=spec.threads, batch=spec.batch, slots=spec.slots)
        one = spec_of(lane.model, spec, file, known, chosen)
        if lane.engine.on_gpu is not None:
            cards = await in_thread(lambda: [gpu.memory_bytes for gpu in gpus.look() if not gpu.note])
            reason = misfit(lane.engine.on_gpu, one, header, cards)
            if reason:
                raise WeightsError(f"it does not fit: {reason}")
    except InhouseError as error:
        lane.failure = error.message
        reason = error.message if error.hint is None else f"{error.message}; {error.hint}"
        tell(ReplicaReport(model=lane.model, engine=spec.engine, state="failed", reason=reason))
        return
    except Exception as error:  # noqa: BLE001 - a fault of ours in one model must not look like an endless download
        lane.failure = "an internal error while its weights were looked at"
        fault(error)
        tell(ReplicaReport(model=lane.model, engine=spec.engine, state="failed", reason=lane.failure))
        return
    if lane.flights is not None and lane.engine.argv is not None:
        argv = lane.engine.argv(one, Address(socket=""))
        lane.flights.version = hashlib.sha256(known_by + repr(argv).encode()).digest()
    lane.lacks = lacking(lane.engine, one.task, one.extra_args)
    if lane.engine.calls_it is not None:
        lane.shown_model = shown_model(lane.engine.calls_it(one), lane.model)
    start_s = spec.start_timeout if "start_timeout" in spec.model_fields_set else lane.engine.start_s
    async with asyncio.TaskGroup() as group:
        for number in range(spec.replicas):
            own = folder / str(number)
            own.mkdir(mode=0o700)
            member = Member(f"{lane.model}-{number}", lane.engine, one.slots, context_tokens=one.context_tokens)
            lane.places.join(member)
            replica = Replica(one, own, member, start_s_max=start_s, silence_s_max=spec.idle_timeout, report=tell)
            sweepers.append(replica.sweep)
            group.create_task(replica.run(), name=member.id)


async def _obtained(source: str, wanted: Wanted) -> Path:
    """In this process what needs no fetching, in one of its own what may."""
    line = line_of(source)
    if wanted.offline or is_here(source):
        return await in_thread(lambda: obtain(source, wanted).path)
    if is_pinned(line, wanted):
        with contextlib.suppress(WeightsError):
            return await in_thread(lambda: obtain(source, replace(wanted, offline=True)).path)
    return await obtain_apart(source, wanted)
