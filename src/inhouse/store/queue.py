"""One model's queue in Redis: what may be done with it, as calls of scripts. Keys, types, lifetimes: `lua/queue.lua`.

A `Queue` only makes calls (`Run`) and reads what comes back; when they are sent, and what is done when Redis is away,
is for those who use it (`dispatch/queued.py`, `dispatch/worker.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from inhouse.store.redis_calls import Commands, Run, Script, script

_INBOX_COUNT = 512
_WINDOW_BYTES_MAX = 1024 * 1024


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What one queue keeps, and for how long."""

    lease_s: float
    """How long a worker or a gateway may be silent before it counts as gone."""
    attempts_max: int
    answer_bytes_max: int
    dead_max: int
    dead_keep_s: float
    keep_s: float = 30.0
    """How long a finished answer waits for its gateway to fetch what it missed."""

    @property
    def beat_s(self) -> float:
        return self.lease_s / 5

    @property
    def window_bytes(self) -> int:
        """Of one answer, that may lie in Redis unread; then its engine is not read any further."""
        return min(_WINDOW_BYTES_MAX, self.answer_bytes_max // 4)


class Taken(msgspec.Struct, frozen=True):
    """A job that this worker has now. `seq` pieces of its answer are there already, `trimmed`: not all of them."""

    id: str
    epoch: int
    attempts: int
    seq: int
    trimmed: bool
    payload: bytes


class News(msgspec.Struct, frozen=True):
    """One entry of a gateway's inbox."""

    id: str
    epoch: int
    seq: int
    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand, as a gateway hears it with each beat."""

    workers: dict[str, bytes]
    """What each says of itself."""
    running: int
    pending: int
    gateways: dict[str, bytes]
    """What waits in each."""
    seqs: list[int]
    """Of the jobs that were asked about; -1 where Redis knows no such job."""
    served: list[float]
    """Tokens for its weight that each share that was asked about has had, at all gateways."""


@dataclass(frozen=True, slots=True)
class Missed:
    """What came of a job since. `state` is "" where Redis knows no such job."""

    state: str
    seq: int
    trimmed: bool
    final: str
    final_data: bytes
    pieces: list[tuple[int, bytes]]


class Piece(msgspec.Struct, frozen=True):
    """Of an answer, on its way to Redis."""

    id: str
    epoch: int
    seq: int
    kind: str
    data: bytes


class Queue:
    """See the module."""

    def __init__(self, model: str, limits: QueueLimits) -> None:
        self.model = model
        self.limits = limits
        self._base = f"inhouse:queue:{{{model}}}"
        self._lease_ms = int(limits.lease_s * 1000)
        self._keep_ms = int(limits.keep_s * 1000)

    def key(self, name: str) -> str:
        return f"{self._base}:{name}"

    # a gateway's
    def put(
        self,
        id: str,
        *,
        priority: str,
        tenant: str,
        weight: float,
        cost: int,
        gateway: str,
        payload: bytes,
        life_s: float,
    ) -> Run:
        """The job waits from now on, for `life_s` at most. `cost` is about how many tokens it takes."""
        return self._run("put", id, priority, tenant, weight, max(1, cost), gateway, payload, int(life_s * 1000))

    def leave(self, id: str, tokens: int | None) -> Run:
        """Nobody waits for it any more; it took so many tokens, if that is known."""
        return self._run("leave", id, -1 if tokens is None else tokens)

    def read(self, id: str, seq: int) -> Run:
        """All up to this piece has been read."""
        return self._run("read", id, seq)

    def beat(self, gateway: str, waiting: bytes, ids: Iterable[str], shares: Sequence[str] = ()) -> Run:
        """Answers with what `standing` reads. A share is `class tenant`."""
        return self._run("beat", gateway, self._lease_ms, waiting, len(shares), *shares, *ids)

    @staticmethod
    def standing(answer: Any) -> Standing:
        workers, running, pending, gateways, seqs, served = answer
        return Standing(_pairs(workers), running, pending, _pairs(gateways), seqs, [float(one) for one in served])

    def look(self, id: str, seq: int, count: int = 1000) -> Run:
        """Answers with what `missed` reads: the pieces behind `seq`."""
        return self._run("look", id, seq, count)

    @staticmethod
    def missed(answer: Any) -> Missed:
        state, seq, trimmed, final, data, entries = answer
        pieces = [(int(at.partition(b"-")[0]), fields[1]) for at, fields in entries]
        return Missed(state.decode(), seq, bool(trimmed), final.decode(), data, pieces)

    async def inbox(self, client: Commands, gateway: str, after: bytes, block_s: float) -> tuple[bytes, list[News]]:
        """What came after the entry `after`, and the last one's id; nothing where nothing comes within `block_s`."""
        words = ("COUNT", _INBOX_COUNT, "BLOCK", int(block_s * 1000), "STREAMS", self.key(f"in:{gateway}"), after)
        found = await client.execute_command("XREAD", *words)
        if not found:
            return after, []
        entries = found[0][1]
        return entries[-1][0], [_news(fields) for _, fields in entries]

    async def trim_inbox(self, client: Commands, gateway: str, before: bytes) -> None:
        await client.execute_command("XTRIM", self.key(f"in:{gateway}"), "MINID", "~", before)

    # a worker's
    def take(self, worker: str, count: int) -> Run:
        """Answers with what `taken` reads: jobs that are this worker's from now on, until its lease runs out."""
        return self._run("take", worker, count, self._lease_ms)

    @staticmethod
    def taken(answer: Any) -> list[Taken]:
        return [
            Taken(id.decode(), epoch, attempts, seq, bool(trimmed), payload)
            for id, epoch, attempts, seq, trimmed, payload in answer
        ]

    def publish(self, pieces: Sequence[Piece]) -> Run:
        """Answers for each piece with 1, or with 0 where the job is no longer this worker's."""
        words: list[str | bytes | int] = []
        for piece in pieces:
            words += (piece.id, piece.epoch, piece.seq, piece.kind, piece.data)
        return self._run("publish", self.limits.answer_bytes_max, self._keep_ms, *words)

    def renew(self, worker: str, about: bytes, jobs: Iterable[tuple[str, int]]) -> Run:
        """The worker is there. Answers with the ids of those jobs (id, epoch) that are no longer its own."""
        return self._run("renew", worker, self._lease_ms, about, *(word for job in jobs for word in job))

    def give_up(self, id: str, epoch: int, why: str, error: bytes, *, counted: bool, avoid: str) -> Run:
        """Back to the queue, or to the dead letters after too many attempts: then its gateway is told `error`."""
        limits = (self.limits.attempts_max, self.limits.dead_max, error, self._keep_ms)
        return self._run("give_up", id, epoch, why, int(counted), avoid, *limits)

    def sweep(self, why: str, error: bytes) -> Run:
        """Finds those that are gone. Answers with how many jobs go on, were given up, were dropped."""
        limits = (self.limits.attempts_max, self.limits.dead_max, error, self._keep_ms)
        return self._run("sweep", *limits, why, int(self.limits.dead_keep_s * 1000))

    async def bell(self, client: Commands, wait_s: float) -> bool:
        """Returns when a job may have come, or after `wait_s`."""
        return await client.execute_command("BLPOP", self.key("bell"), wait_s) is not None

    async def told(self, client: Commands, worker: str, wait_s: float) -> tuple[str, str, int] | None:
        """What a worker is told, `cancel` or `read`, of which job, and up to which piece; None where nothing comes."""
        found = await client.execute_command("BLPOP", self.key(f"to:{worker}"), wait_s)
        if found is None:
            return None
        what, id, seq = found[1].decode().split(" ")
        return what, id, int(seq)

    async def answer(self, client: Commands, id: str) -> list[bytes]:
        """The pieces of an answer that are there."""
        entries = await client.execute_command("XRANGE", self.key(f"out:{id}"), "-", "+")
        return [fields[1] for _, fields in entries]

    async def forget_worker(self, client: Commands, worker: str) -> None:
        """It has left, and has no jobs."""
        await client.execute_command("ZREM", self.key("workers"), worker)
        await client.execute_command("HDEL", self.key("about"), worker)
        await client.execute_command("DEL", self.key(f"to:{worker}"))

    async def forget_gateway(self, client: Commands, gateway: str) -> None:
        """It has left, and waits for nothing."""
        await client.execute_command("ZREM", self.key("gateways"), gateway)
        await client.execute_command("HDEL", self.key("waiting"), gateway)
        await client.execute_command("DEL", self.key(f"in:{gateway}"))

    def _run(self, name: str, *args: str | bytes | int | float) -> Run:
        return Run(_loaded(name), (self._base,), args)


@functools.cache
def _loaded(name: str) -> Script:
    return script("queue", f"queue_{name}")


def plain(client: Commands) -> Commands:
    """The client, which hands streams on as Redis sends them, in place of a dict for each entry."""
    for command in ("XREAD", "XRANGE", "XREVRANGE"):
        client.set_response_callback(command, lambda reply, **_: reply)
    return client


def _pairs(words: list[bytes]) -> dict[str, bytes]:
    return {name.decode(): value for name, value in zip(words[::2], words[1::2], strict=True)}


def _news(fields: list[bytes]) -> News:
    id, epoch, seq, kind = fields[1].decode().split(" ")
    return News(id, int(epoch), int(seq), kind, fields[3])
