"""The model's thread, in this process, with a model that is made to fail or to take its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from inhouse.errors import ApiError, EngineError
from inhouse.hf_engine.asks import Sampling
from inhouse.hf_engine.batch import Batch
from inhouse.hf_engine.batching import Rules
from inhouse.hf_engine.rows import Piece, Row, Wanted
from inhouse.hf_engine.settings import Settings
from inhouse.hf_engine.worker import Worker

GREEDY = Sampling(temperature=0)


class Client:
    """One row, and what came of it."""

    def __init__(self, prompt_tokens: int, tokens: int) -> None:
        self.pieces: list[Piece | ApiError] = []
        self.over = asyncio.Event()
        self.began = asyncio.Event()
        wanted = Wanted([9] * prompt_tokens, tokens, GREEDY, ignore_eos=True)
        self.row = Row(wanted, self._hear, time.monotonic())

    def _hear(self, piece: Piece | ApiError) -> None:
        self.pieces.append(piece)
        self.began.set()
        if isinstance(piece, ApiError) or piece.finish:
            self.over.set()


async def until(fact: Callable[[], Any]) -> None:
    """Of the other thread, which tells nobody."""
    async with asyncio.timeout(60):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


@pytest.fixture
async def worker(llama: Path) -> AsyncIterator[Worker]:
    rules = Rules(rows_max=4, wait_s=0.0, prefill_tokens_max=64)
    found = Worker(Settings(llama, "tiny", threads=1, rules=rules), asyncio.get_running_loop())
    found.start()
    await until(lambda: found.loaded is not None)
    yield found
    await until(lambda: not found.busy)


async def test_a_pass_of_the_model_fails(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its rows is told once, what is told names no text of the failure, and the next row is served."""
    usual, failures = Batch.step, ["content of a prompt"]

    def failing(batch: Batch) -> Any:
        if failures and len(batch.said) == 2:
            raise RuntimeError(failures.pop())
        return usual(batch)

    monkeypatch.setattr(Batch, "step", failing)
    clients = [Client(4, 30), Client(4, 30)]
    worker.submit([client.row for client in clients])
    async with asyncio.timeout(30):
        for client in clients:
            await client.over.wait()
    told = [[piece for piece in client.pieces if isinstance(piece, ApiError)] for client in clients]
    assert [len(one) for one in told] == [1, 1]
    assert isinstance(told[0][0], EngineError)
    assert "RuntimeError" in told[0][0].message
    assert "content" not in told[0][0].message
    after = Client(4, 5)
    worker.submit([after.row])
    async with asyncio.timeout(30):
        await after.over.wait()
    assert isinstance(after.pieces[-1], Piece)
    assert after.pieces[-1].tokens == 5


async def test_the_model_fails_for_good(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends after three passes in a row, so that it is started again."""
    ended = []

    def failing(batch: Batch) -> Any:
        raise RuntimeError("no device")

    monkeypatch.setattr(Batch, "go_on", failing)
    monkeypatch.setattr("inhouse.hf_engine.worker._end", lambda line, status: ended.append((line, status)))
    for _ in range(3):
        client = Client(4, 5)
        worker.submit([client.row])
        async with asyncio.timeout(30):
            await client.over.wait()
    assert [status for _, status in ended] == [4]
    assert "3 times in a row, at last with RuntimeError" in ended[0][0]


async def test_a_long_prompt_beside_a_stream(worker: Worker) -> None:
    """The stream gets a token between any two pieces of the prompt."""
    stream, long = Client(4, 4000), Client(64 * 20, 3)
    worker.submit([stream.row])
    async with asyncio.timeout(60):
        await stream.began.wait()
        before = len(stream.pieces)
        worker.submit([long.row])
        await long.began.wait()
        assert len(stream.pieces) - before >= 19
        await long.over.wait()
        worker.leave([stream.row])


async def test_a_client_of_a_long_prompt_leaves(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of its prompt is not computed."""
    usual, pieces = Batch.go_on, []

    def counted(batch: Batch) -> Any:
        pieces.append(1)
        return usual(batch)

    monkeypatch.setattr(Batch, "go_on", counted)
    gone = Client(30_000, 3)
    worker.submit([gone.row])
    async with asyncio.timeout(60):
        await until(lambda: worker.running)
        worker.leave([gone.row])
        after = Client(4, 2)
        worker.submit([after.row])
        await after.over.wait()
    assert gone.pieces == []
    assert len(pieces) < 30_000 / 64 / 2
