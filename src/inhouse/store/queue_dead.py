"""The dead letters of one model's queue: jobs that too many workers or engines failed at. Seen, tried again, dropped.

A letter has the whole job, its prompt among it, for as long as `queue.dead_keep`. What is shown of one by default are
facts alone.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass, field

from inhouse.store.queue import News, Queue
from inhouse.store.redis_calls import Commands, run


@dataclass(frozen=True, slots=True)
class Letter:
    """`at_s` is when it was given up, in seconds since 1970; `pieces` of an answer had come by then."""

    entry: str
    id: str
    at_s: float
    tenant: str
    priority: str
    weight: float
    tokens: int
    attempts: int
    pieces: int
    why: str
    payload: bytes = field(repr=False)


async def letters(client: Commands, queue: Queue, count: int) -> list[Letter]:
    """The newest ones, newest first."""
    found = await client.execute_command("XREVRANGE", queue.key("dead"), "+", "-", "COUNT", count)
    return [_letter(entry, fields) for entry, fields in found]


async def letter(client: Commands, queue: Queue, id: str) -> Letter | None:
    """The one of this job."""
    for one in await letters(client, queue, queue.limits.dead_max * 2):
        if one.id == id:
            return one
    return None


async def drop(client: Commands, queue: Queue, letter: Letter) -> None:
    await client.execute_command("XDEL", queue.key("dead"), letter.entry)


async def replay(client: Commands, queue: Queue, letter: Letter, wait_s: float) -> tuple[str, list[bytes]]:
    """Puts the job into the queue once more and waits for its end, as a gateway of its own.

    Answers with `e` and the pieces of the answer; with `x` or `y` and what went wrong, sealed or not; or with "" where
    it is not over after `wait_s`. The letter stays where it is.
    """
    gateway, id, after = os.urandom(8).hex(), os.urandom(12).hex(), b"0-0"
    pieces: list[bytes] = []
    end_s = time.monotonic() + wait_s
    put = queue.put(
        id,
        priority=letter.priority,
        tenant=letter.tenant,
        weight=letter.weight,
        cost=letter.tokens,
        gateway=gateway,
        payload=letter.payload,
        life_s=wait_s + 60,
    )
    try:
        await run(client, [queue.beat(gateway, b"{}", ())])
        await run(client, [put])
        while time.monotonic() < end_s:
            after, news = await queue.inbox(client, gateway, after, min(1.0, queue.limits.beat_s))
            for one in news:
                if _adds(one):
                    pieces.append(one.data)
                if one.kind in "exy":
                    return one.kind, pieces if one.kind == "e" else [one.data]
            beats = [queue.beat(gateway, b"{}", ())]
            beats += [queue.read(id, news[-1].seq)] if news else []
            await run(client, beats)
        return "", pieces
    finally:
        async with asyncio.timeout(1):
            await run(client, [queue.leave(id, None)])
            await queue.forget_gateway(client, gateway)


def _adds(news: News) -> bool:
    return news.kind in "de" and bool(news.data)


def _letter(entry: bytes, fields: list[bytes]) -> Letter:
    facts = dict(zip((name.decode() for name in fields[::2]), fields[1::2], strict=True))
    return Letter(
        entry=entry.decode(),
        id=facts["id"].decode(),
        at_s=int(entry.partition(b"-")[0]) / 1000,
        tenant=facts["tenant"].decode(),
        priority=facts["class"].decode(),
        weight=float(facts["weight"]),
        tokens=int(facts["tokens"]),
        attempts=int(facts["attempts"]),
        pieces=int(facts["pieces"]),
        why=facts["why"].decode(),
        payload=facts["payload"],
    )
