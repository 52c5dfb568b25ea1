"""The scripts of a queue in Redis: who is next, who may write, what becomes of those that are gone."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from inhouse.errors import EngineError
from inhouse.store.queue import Piece, Queue, QueueLimits, Taken, plain
from inhouse.store.queue_dead import letters
from inhouse.store.redis_calls import Commands, Run, run
from inhouse.store.sealing import Sealer
from services import redis_server

LIMITS = QueueLimits(lease_s=0.3, attempts_max=2, answer_bytes_max=1000, dead_max=10, dead_keep_s=60)
ERROR = b'{"code":"engine_failed","message":"given up"}'


class Bench:
    """A queue of the model `m` with one gateway, `g`."""

    def __init__(self, client: Commands) -> None:
        self.client = client
        self.queue = Queue("m", LIMITS)

    async def __call__(self, one: Run) -> Any:
        return (await run(self.client, [one]))[0]

    async def beat(self) -> None:
        await self(self.queue.beat("g", b"{}", ()))

    async def put(self, id: str, **facts: Any) -> int:
        usual = {"priority": "standard", "tenant": "t", "weight": 1.0, "cost": 10, "gateway": "g"}
        answer: int = await self(self.queue.put(id, payload=b"p", life_s=60, **{**usual, **facts}))
        return answer

    async def take(self, worker: str = "w", count: int = 1) -> list[Taken]:
        return self.queue.taken(await self(self.queue.take(worker, count)))

    async def publish(self, taken: Taken, seq: int, data: bytes, kind: str = "d") -> int:
        answer = await self(self.queue.publish([Piece(taken.id, taken.epoch, seq, kind, data)]))
        return int(answer[0])

    async def news(self) -> list[tuple[str, int, str, bytes]]:
        _, found = await self.queue.inbox(self.client, "g", b"0-0", 0.01)
        return [(one.id, one.seq, one.kind, one.data) for one in found]

    async def swept(self) -> list[int]:
        """What a sweep finds, once all leases have run out."""
        await asyncio.sleep(LIMITS.lease_s + 0.05)
        await self.beat()
        found: list[int] = await self(self.queue.sweep("gone", ERROR))
        return found


@pytest.fixture(params=["redis", "valkey"])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    from inhouse.config.redis import RedisPlace
    from inhouse.store.redis_link import link_of

    with redis_server(tmp_path, valkey=request.param == "valkey") as server:
        client = plain(link_of(RedisPlace(url=server.url), {}, "queue").connect())
        one = Bench(client)
        await one.beat()
        yield one
        await client.aclose()


async def test_tenants_take_turns_by_weight(bench: Bench) -> None:
    """A tenant that came first with much does not keep another one waiting; with twice the weight it gets twice."""
    for number in range(20):
        await bench.put(f"a{number}", tenant="a", weight=2.0)
    for number in range(20):
        await bench.put(f"b{number}", tenant="b")
    order = [(await bench.take())[0].id[0] for _ in range(15)]
    assert Counter(order) == {"a": 10, "b": 5}


async def test_what_a_job_really_took_counts(bench: Bench) -> None:
    """A tenant whose jobs take more than was thought comes later."""
    for number in range(4):
        await bench.put(f"a{number}", tenant="a")
    (first,) = await bench.take()
    await bench(bench.queue.leave(first.id, 1000))
    await bench.put("a9", tenant="a")
    await bench.put("b0", tenant="b")
    order = [one.id for one in await bench.take(count=5)]
    assert order.index("b0") < order.index("a9")


async def test_classes_come_in_their_order_and_none_starves(bench: Bench) -> None:
    """Interactive before standard before batch; who was passed over too often in a row goes first."""
    for number in range(40):
        await bench.put(f"i{number}", priority="interactive")
    await bench.put("s", priority="standard")
    await bench.put("b", priority="batch")
    order = [(await bench.take())[0].id[0] for _ in range(20)]
    assert order[:4] == ["i"] * 4
    assert order.index("s") <= 5
    assert order.index("b") <= 17


async def test_a_job_that_is_put_twice_runs_once(bench: Bench) -> None:
    """As after an answer of Redis that got lost."""
    assert await bench.put("j") == 1
    assert await bench.put("j") == 0
    assert len(await bench.take(count=2)) == 1
    assert await bench.put("j") == 0


async def test_who_lost_its_lease_can_write_nothing(bench: Bench) -> None:
    """The epoch is over: neither pieces nor an end; the one that took over goes on behind what there is."""
    await bench.put("j")
    (mine,) = await bench.take("zombie")
    assert await bench.publish(mine, 1, b"one") == 1
    assert (await bench.swept())[0] == 1
    assert await bench.publish(mine, 2, b"two") == 0
    (other,) = await bench.take("other")
    assert (other.seq, other.attempts, other.epoch > mine.epoch) == (1, 1, True)
    assert await bench.publish(mine, 2, b"two", "e") == 0
    assert await bench.publish(other, 2, b"TWO", "e") == 1
    assert [data for _, _, kind, data in await bench.news() if kind in "de"] == [b"one", b"TWO"]
    assert await bench.queue.answer(bench.client, "j") == [b"one", b"TWO"]


async def test_a_piece_that_is_written_twice_is_there_once(bench: Bench) -> None:
    """As after an answer of Redis that got lost."""
    await bench.put("j")
    (taken,) = await bench.take()
    assert await bench.publish(taken, 1, b"one") == 1
    assert await bench.publish(taken, 1, b"one") == 1
    assert await bench.queue.answer(bench.client, "j") == [b"one"]
    assert [seq for _, seq, kind, _ in await bench.news() if kind == "d"] == [1]


async def test_a_lease_that_is_renewed_lasts(bench: Bench) -> None:
    """Until it is not: then the next beat says which jobs are gone."""
    await bench.put("j")
    (taken,) = await bench.take()
    end = time.monotonic() + 2 * LIMITS.lease_s
    while time.monotonic() < end:
        await bench.beat()
        assert await bench(bench.queue.renew("w", b"{}", [("j", taken.epoch)])) == []
        await bench(bench.queue.sweep("gone", ERROR))
        await asyncio.sleep(LIMITS.lease_s / 4)
    assert (await bench.swept())[0] == 1
    assert await bench(bench.queue.renew("w", b"{}", [("j", taken.epoch)])) == [b"j"]


async def test_after_so_many_attempts_it_lies_with_the_dead(bench: Bench) -> None:
    """Its gateway is told; the letter has what it takes to try again, and the facts."""
    await bench.put("j", tenant="acme", weight=2.0)
    for _ in range(LIMITS.attempts_max):
        assert len(await bench.take()) == 1
        found = await bench.swept()
    assert found == [0, 1, 0]
    assert (await bench.news())[-1][2:] == ("y", ERROR)
    (letter,) = await letters(bench.client, bench.queue, 10)
    assert (letter.id, letter.tenant, letter.weight, letter.attempts, letter.payload) == ("j", "acme", 2.0, 2, b"p")
    assert "payload" not in repr(letter)


async def test_what_is_handed_back_counts_as_no_attempt(bench: Bench) -> None:
    """A worker that stops: another one gets the job, before all others that wait."""
    await bench.put("j")
    (taken,) = await bench.take("w")
    await bench.put("k")
    for _ in range(3):
        back = bench.queue.give_up("j", taken.epoch, "stops", ERROR, counted=False, avoid="w")
        assert await bench(back) == b"again"
        (taken,) = await bench.take("w2")
        assert (taken.id, taken.attempts) == ("j", 0)


async def test_with_a_gateway_go_its_jobs(bench: Bench) -> None:
    """Those that wait are dropped by the sweep that finds it gone, those that run at their worker's next beat."""
    await bench(bench.queue.beat("dying", b"{}", ()))
    await bench.put("runs", gateway="dying")
    (taken,) = await bench.take()
    await bench.put("waits", gateway="dying")
    await bench.put("mine")
    await asyncio.sleep(LIMITS.lease_s + 0.05)
    await bench.beat()
    assert await bench(bench.queue.renew("w", b"{}", [("runs", taken.epoch)])) == []
    assert (await bench(bench.queue.sweep("gone", ERROR)))[2] == 1
    assert await bench(bench.queue.renew("w", b"{}", [("runs", taken.epoch)])) == [b"runs"]
    assert [one.id for one in await bench.take(count=5)] == ["mine"]


async def test_an_answer_in_redis_has_a_bound(bench: Bench) -> None:
    """Beyond it the oldest pieces go, and whoever takes over is told that it cannot go on."""
    await bench.put("j")
    (taken,) = await bench.take()
    for seq in range(1, 21):
        assert await bench.publish(taken, seq, b"x" * 100) == 1
    assert len(await bench.queue.answer(bench.client, "j")) <= 10
    await bench.swept()
    assert (await bench.take())[0].trimmed


async def test_nothing_is_kept_of_what_is_over(bench: Bench) -> None:
    """Job and answer are gone with its gateway's leave, and every other key has an end or is empty."""
    await bench.put("j")
    (taken,) = await bench.take()
    await bench.publish(taken, 1, b"one", "e")
    await bench(bench.queue.leave("j", 12))
    await bench.beat()
    keys = [key.decode() for key in await bench.client.execute_command("KEYS", "*")]
    assert not [key for key in keys if ":job:" in key or ":out:" in key]
    for name in ("turns", "tags", "in:g"):
        assert await bench.client.execute_command("PTTL", bench.queue.key(name)) > 0


def test_sealed_is_opened_with_the_same_key_and_model_only() -> None:
    """And nothing is taken in the clear where there is a key."""
    sealer = Sealer("secret", "m")
    sealed = sealer.seal(b"a prompt")
    assert b"prompt" not in sealed
    assert sealer.open(sealed) == b"a prompt"
    for other in (Sealer("another", "m"), Sealer("secret", "n"), Sealer(None, "m")):
        with pytest.raises(EngineError, match="encryption_key"):
            other.open(sealed)
    with pytest.raises(EngineError, match="encryption_key"):
        sealer.open(Sealer(None, "m").seal(b"in the clear"))
    assert Sealer(None, "m").open(Sealer(None, "m").seal(b"in the clear")) == b"in the clear"
