"""A replica on this machine: keeps one engine process alive and says when it can take requests.

Theory of operation. `run` loops: start the process (loading), ask for its health until it answers, run what is to be
run then, have it load the model (ready), wait for its end (restarting, or failed if it never was ready), pause, again.
While the replica is ready its slots are open; at any other time they are 0. The pause doubles from 0.1 s to 30 s and
starts over once the engine has been ready for a minute, however long it took to load. An engine that ended
`crashes_max` times in a row, each time within a minute of being ready, is left alone for much longer (failed): whatever
kills it must not keep the machine busy.

When a connection breaks or the engine falls silent, its slots are shut until it is well again, so that those who wait
do not follow into the same trouble; an engine that does not answer then is ended, and started anew like one that ended
by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import re
import socket as sockets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from inhouse.core import ReplicaReport, ReplicaState
from inhouse.engines.about import BYTES_MAX, PATHS, about
from inhouse.engines.child import Child
from inhouse.engines.engine import Command, Spec
from inhouse.engines.hardware import resident_tree_bytes
from inhouse.engines.http import Address, Pool
from inhouse.engines.member import Member
from inhouse.errors import EngineError, EngineStartError

_PAUSE_FIRST_S, _PAUSE_MAX_S = 0.1, 30.0
_LONG_PAUSE_GROWTH_MAX = 10.0
_STABLE_S = 60.0
_POLL_FIRST_S, _POLL_MAX_S = 0.01, 0.2
_PROBE_S_MAX = 10.0
_FOLDERS = re.compile(r"(?<![\w:/.])(?:~|\.{1,2})?/(?:[^\s/'\"`]+/)+")


class Replica:
    """One copy of an engine for one model. It writes its `member`: whether it is open, its slots, the way to it."""

    def __init__(
        self,
        spec: Spec,
        folder: Path,
        member: Member,
        *,
        start_s_max: float,
        silence_s_max: float,
        crashes_max: int = 5,
        crash_pause_s: float = 30.0,
        report: Callable[[ReplicaReport], None],
    ) -> None:
        self.spec = spec
        self.member = member
        self.load_s: float | None = None
        self.child: Child | None = None
        self.at_end: ReplicaState = "stopped"
        """What it is once it is no longer run."""
        self._crashes_max = crashes_max
        self._crash_pause_s = crash_pause_s
        self._folder = folder
        self._start_s_max = start_s_max
        self._silence_s_max = silence_s_max
        self._report = report
        self._generation = itertools.count()
        self._doubted = asyncio.Event()

    async def run(self) -> None:
        """Keeps the engine alive until it is cancelled; then the process is ended."""
        pause_s, long_pause_s = _PAUSE_FIRST_S, self._crash_pause_s
        crashes = 0
        loop = asyncio.get_running_loop()
        try:
            while True:
                ready_s = await self._live_once()
                if ready_s is not None and loop.time() - ready_s > _STABLE_S:
                    pause_s, long_pause_s, crashes = _PAUSE_FIRST_S, self._crash_pause_s, 0
                crashes += ready_s is not None
                if ready_s is not None and crashes >= self._crashes_max:
                    await self._rest(crashes, long_pause_s)
                    long_pause_s = min(2 * long_pause_s, _LONG_PAUSE_GROWTH_MAX * self._crash_pause_s)
                else:
                    self.member.retry_s = loop.time() + pause_s
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _PAUSE_MAX_S)
        finally:
            self._enter(self.at_end)

    def tell(self, state: ReplicaState, reason: str) -> None:
        """Reports a state that it has without having been run."""
        self._enter(state, reason=reason)

    async def _rest(self, crashes: int, pause_s: float) -> None:
        """After an end too many: it is started no more until the pause is over."""
        self.member.retry_s = asyncio.get_running_loop().time() + pause_s
        how = "" if self.child is None else f", the last time {self.child.how}"
        ends = f"it ended {crashes} times in a row, each within {_STABLE_S:.0f} s of being ready"
        why = f"{self.member.reason}; " if self.member.reason else ""
        self._enter("failed", reason=f"{why}{ends}; left alone for {pause_s:g} s", told=ends + how)
        await asyncio.sleep(pause_s)

    def sweep(self) -> None:
        """About once a second: gives up on silent engines and closes idle connections."""
        if self.member.pool is not None:
            self.member.pool.sweep()

    async def _live_once(self) -> float | None:
        """One life of the engine process, from its start to its end. Returns when it was ready, on the loop's clock."""
        engine = self.member.engine
        began_s = asyncio.get_running_loop().time()
        ready_s: float | None = None
        if self.member.said != "restarting":
            self._enter("loading")
        address = self._address()
        pool = Pool(address, silence_s_max=self._silence_s_max, broken=self._doubt)
        self._doubted.clear()
        child: Child | None = None
        try:
            if engine.argv is None:
                raise EngineStartError(f"{engine.title} is not started from here")
            command = engine.argv(self.spec, address)
            child = self.child = await Child.start(command, install=engine.install, stop_s=engine.stop_s)
            ended = asyncio.create_task(child.wait())
            try:
                await self._until_ready(pool, command, ended)
                ready_s = asyncio.get_running_loop().time()
                child.ready()
                self.member.pool = pool
                self.member.generation += 1
                self.load_s = round(ready_s - began_s, 3)
                self._enter("ready", memory_bytes=resident_tree_bytes(child.pid))
                cause = await self._until_ended(pool, ended)
            finally:
                ended.cancel()
            self.member.log = child.last_lines
            self._enter("restarting", reason=cause, told=child.how)
        except EngineStartError as error:
            self.member.log = () if child is None else child.last_lines
            if self.spec.native is not None and ready_s is None and not self.spec.on_gpu:
                # a build of ours that does not start is no reason to serve nothing; the machine may lack the room for
                # what was planned on a GPU
                self.spec = replace(self.spec, native=None)
                why = "the engine that was built here did not start ({}); the one in the package takes its place"
                told = why.format(without_folders(error.message))
                self._enter("restarting", reason=why.format(error.message), told=told)
                return None
            self._enter(
                "failed" if ready_s is None else "restarting", reason=error.message, told=without_folders(error.message)
            )
        finally:
            self.member.pool = None
            pool.close()
            if child is not None:
                await child.stop()
            if address.socket is not None:
                with contextlib.suppress(OSError):
                    os.unlink(address.socket)
        return ready_s

    def _address(self) -> Address:
        """Where the next process is to listen: a socket in our own folder where it can, else a free port."""
        if self.member.engine.sockets:
            return Address(socket=str(self._folder / f"{os.getpid()}-{next(self._generation)}.sock"))
        with sockets.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return Address(port=probe.getsockname()[1])

    async def _until_ready(self, pool: Pool, command: Command, ended: asyncio.Task[str]) -> None:
        """Returns when the engine answers and has the model. Raises EngineStartError if it ends or takes too long."""
        try:
            async with asyncio.timeout(self._start_s_max):
                if not await self._answers(pool, ended):
                    raise EngineStartError(ended.result())
                for program in command.then:
                    await _run(Command(program, command.environment))
                await self._warm_up(pool)
                await self._learn(pool)
        except TimeoutError:
            raise EngineStartError(
                f"not ready after {self._start_s_max:g} s; raise the model's `start_timeout` in inhouse.yaml"
            ) from None

    async def _until_ended(self, pool: Pool, ended: asyncio.Task[str]) -> str:
        """Returns why there is no engine any more: what it died of, or that it does not answer."""
        probe_s = min(_PROBE_S_MAX, self._silence_s_max)
        while True:
            doubted = asyncio.create_task(self._doubted.wait())
            try:
                await asyncio.wait([ended, doubted], return_when=asyncio.FIRST_COMPLETED)
            finally:
                doubted.cancel()
            try:
                async with asyncio.timeout(probe_s):
                    if ended.done() or not await self._answers(pool, ended):
                        return ended.result()
            except TimeoutError:
                return f"no answer to {self.member.engine.health.decode()} for {probe_s:g} s"
            self._doubted.clear()
            self.member.enter("ready")

    def _doubt(self) -> None:
        if self.member.state == "ready" and not self._doubted.is_set():
            self._doubted.set()
            self.member.doubt()

    async def _warm_up(self, pool: Pool) -> None:
        """Has the engine load the model, where it would wait for the first request to do so."""
        engine = self.member.engine
        if engine.warm_up is None:
            return
        path, body = engine.warm_up(self.spec)
        try:
            reply = await pool.request(b"POST", path, body, patient=True)
            await reply.read(BYTES_MAX)
        except EngineError as error:
            raise EngineStartError(f"it did not load the model: {error.message}") from None
        if reply.status != 200:
            raise EngineStartError(f"it did not load the model: {path.decode()} answers with status {reply.status}")

    async def _learn(self, pool: Pool) -> None:
        """What the engine really gives: it may have cut the context to what the model was trained for."""
        member, spec = self.member, self.spec
        member.slots, member.context_tokens = spec.slots, spec.context_tokens
        path = PATHS.get(member.engine.reads)
        if path is None:
            return
        try:
            reply = await pool.request(b"GET", path)
            found = about(member.engine, await reply.read(BYTES_MAX), spec.model)
        except EngineError:
            return
        member.slots = found.slots or spec.slots
        member.context_tokens = found.context_tokens or spec.context_tokens

    async def _answers(self, pool: Pool, ended: asyncio.Task[str]) -> bool:
        """Waits until the engine answers; False if it ends before."""
        poll_s = _POLL_FIRST_S
        while not await self._healthy(pool):
            await asyncio.wait([ended], timeout=poll_s)
            if ended.done():
                return False
            poll_s = min(poll_s * 1.5, _POLL_MAX_S)
        return True

    async def _healthy(self, pool: Pool) -> bool:
        try:
            reply = await pool.request(b"GET", self.member.engine.health)
            await reply.read(BYTES_MAX)
        except EngineError:
            return False
        return reply.status == 200

    def _enter(self, state: ReplicaState, *, reason: str = "", told: str = "", memory_bytes: int | None = None) -> None:
        self.member.enter(state, reason, told)
        self._report(
            ReplicaReport(
                model=self.spec.model,
                engine=self.member.engine.name,
                state=state,
                endpoint=self.member.id,
                threads=self.spec.threads,
                slots=self.member.slots,
                context_tokens=self.member.context_tokens,
                memory_bytes=memory_bytes,
                load_s=self.load_s if state == "ready" else None,
                reason=reason or None,
                native=self.spec.native is not None,
                gpu=self.spec.on_gpu,
            )
        )


def without_folders(text: str) -> str:
    """A reason as clients may read it: files by their names, wherever they lie."""
    return _FOLDERS.sub("", text)


async def _run(command: Command) -> None:
    """Runs a program to its end. Raises EngineStartError if that is not a good one."""
    child = await Child.start(command)
    try:
        cause = await child.wait()
        if child.status != 0:
            raise EngineStartError(f"`{command.argv[0]}` failed: {cause}")
    finally:
        await child.stop()
