"""Limits with 64 clients at once against a real server: never exceeded, and the books are what clients were told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from fake_engine import binary
from inhouse.store.ledger import Demand, Limits, Now, Reservation, UsageFilter
from inhouse.store.ledger_sqlite import SqliteLedger
from inhouse.store.moment import now
from serving import KEY, Gateway, serving

CLIENTS = 64
QUOTA = 60_000
STACK = """
models:
  exact: {{source: demo, slots: 16, engine_binary: {steady}, limits: {{tokens_per_day: {quota}}}}}
  rough: {{source: demo, slots: 16, engine_binary: {failing}, limits: {{tokens_per_day: {quota}}}}}
  few: {{source: demo, slots: 16, engine_binary: {steady}, limits: {{requests_per_minute: 100}}}}
  narrow: {{source: demo, slots: 16, engine_binary: {watched}, limits: {{concurrent_requests: 5}}}}
  single: {{source: demo, slots: 16, engine_binary: {steady}, limits: {{requests_per_minute: 1}}}}
"""
MODELS = ("exact", "rough", "few", "narrow", "single")
_USAGE = re.compile(rb'"usage":\{"prompt_tokens":(\d+),"completion_tokens":(\d+)')
_RETRY = re.compile(rb"retry-after: (\d+)", re.IGNORECASE)


@dataclass
class Seen:
    """What the clients saw: endings, tokens that usage told, the error codes, the smallest Retry-After."""

    endings: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retry_after_s: set[int] = field(default_factory=set)
    over: bool = False

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@pytest.fixture(scope="module")
def control_port() -> int:
    """A port that is free now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory, control_port: int) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("limits")
    programs: dict[str, Path] = {}
    for name, settings in {
        "steady": {"answer_spread": 0.5},
        "failing": {"tokens_per_s": 400, "error_rate": 0.1, "truncate_rate": 0.2, "answer_spread": 0.5},
        "watched": {"tokens_per_s": 500, "answer_tokens": 8, "control_port": control_port},
    }.items():
        (folder / name).mkdir()
        programs[name] = binary(folder / name, **settings)
    with serving(folder, STACK.format(quota=QUOTA, **programs)) as running:
        for _ in MODELS[1:]:
            running.wait_for(event="replica", state="ready")
        yield running


async def _until(
    door: Gateway, model: str, seen: Seen, ended: Callable[[], bool], *, clients: int = CLIENTS, leave: float = 0.0
) -> None:
    """So many clients ask until `ended()`; a part `leave` of the streams is left at some moment."""

    async def client(number: int) -> None:
        draw = random.Random(number)
        while not ended():
            async with asyncio.timeout(60):
                await _one(door, model, seen, draw, leave)

    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))


async def _one(door: Gateway, model: str, seen: Seen, draw: random.Random, leave: float) -> None:
    reader, writer = await asyncio.open_connection(*door.address)
    try:
        leaves = draw.random() < leave
        stream = leaves or draw.random() < 0.5
        words = " ".join(draw.choice(("sea", "hill", "river")) for _ in range(draw.randrange(1, 60)))
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": words}], "max_tokens": 40}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        data = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\n"
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        if leaves:
            with contextlib.suppress(asyncio.IncompleteReadError):
                await reader.readexactly(draw.randrange(1, 4000))
            seen.endings["left"] += 1
            writer.transport.abort()
            return
        _note(await reader.read(-1), seen)
    finally:
        writer.close()


def _note(answer: bytes, seen: Seen) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head[9:12].decode()
    if status == "200":
        pairs = _USAGE.findall(body)
        if not pairs:
            status = "200 and no usage"
        for prompt, completion in pairs:
            seen.prompt_tokens += int(prompt)
            seen.completion_tokens += int(completion)
    else:
        code = json.loads(body)["error"]["code"]
        seen.codes[code] += 1
        seen.over = seen.over or code == "insufficient_quota"
    if retry := _RETRY.search(head):
        seen.retry_after_s.add(int(retry[1]))
    seen.endings[status] += 1


def books(door: Gateway, model: str) -> tuple[int, int, int, int]:
    """(used, held) of the model's quota of tokens, as the ledger has them, and (prompt, completion) tokens counted."""
    ledger = SqliteLedger(door.state_dir)
    try:
        end_s = time.monotonic() + 20
        while True:  # the gateway writes its counts about once a second
            use = ledger.live(f"model:{model}", now())["tokens_per_day"]
            rows = ledger.usage(UsageFilter(model=model))
            counted = sum(row.prompt_tokens for row in rows), sum(row.completion_tokens for row in rows)
            if (use.held == 0 and sum(counted) >= use.used) or time.monotonic() > end_s:
                return use.used, use.held, *counted
    finally:
        ledger.close()


def test_a_quota_to_the_last_token(door: Gateway) -> None:
    """Used is what clients were told, token for token; never above the quota, and close to it."""
    seen = Seen()
    uvloop.run(_until(door, "exact", seen, lambda: seen.over))
    used, held, prompt, completion = books(door, "exact")
    assert set(seen.endings) == {"200", "429"}
    assert (prompt, completion) == (seen.prompt_tokens, seen.completion_tokens)
    assert used == seen.tokens
    assert held == 0
    assert QUOTA - 300 <= used <= QUOTA


def test_a_quota_whatever_the_endings(door: Gateway) -> None:
    """Hang-ups, errors and streams that break off: never above the quota, nothing stays held, nobody is charged less
    than he was told."""
    seen = Seen()
    uvloop.run(_until(door, "rough", seen, lambda: seen.over, leave=0.4))
    used, held, prompt, completion = books(door, "rough")
    assert {"200", "left", "502"} <= set(seen.endings)
    assert held == 0
    assert seen.tokens < used == prompt + completion <= QUOTA


def test_requests_in_a_minute(door: Gateway) -> None:
    """Of hundreds at once exactly as many are let in as the limit says."""
    seen = Seen()
    uvloop.run(_until(door, "few", seen, lambda: seen.endings.total() >= 400))
    assert seen.endings["200"] == 100
    assert set(seen.codes) == {"rate_limit_exceeded"}
    assert all(0 < retry_after_s <= 60 for retry_after_s in seen.retry_after_s)


def test_requests_at_once(door: Gateway, control_port: int) -> None:
    """The engine never had more of them than the limit, though it had slots for all."""
    seen = Seen()
    uvloop.run(_until(door, "narrow", seen, lambda: seen.endings["200"] >= 100))
    with urllib.request.urlopen(f"http://127.0.0.1:{control_port}/fake/stats", timeout=20) as response:
        stats = json.load(response)
    assert stats["running_max"] == 5
    assert seen.endings["429"] > 0


def test_who_waits_as_told_is_let_in(door: Gateway) -> None:
    """`Retry-After` is the truth for a client that is alone. (The request of this minute was 55 seconds ago.)"""
    at = now()
    then = Now(at.wall_us, at.steady_us - 55_000_000)
    ledger = SqliteLedger(door.state_dir)
    taken = ledger.reserve([Demand("model:single", Limits(requests_per_minute=1))], 1, 0, then)
    assert isinstance(taken, Reservation)
    ledger.settle(taken, 1, 0, then)
    ledger.close()
    seen = Seen()
    uvloop.run(_until(door, "single", seen, lambda: seen.endings.total() == 1, clients=1))
    assert seen.endings == {"429": 1}
    (retry_after_s,) = seen.retry_after_s
    assert 0 < retry_after_s <= 5
    time.sleep(retry_after_s)  # as a client does
    uvloop.run(_until(door, "single", seen, lambda: seen.endings.total() == 2, clients=1))
    assert seen.endings == {"429": 1, "200": 1}
