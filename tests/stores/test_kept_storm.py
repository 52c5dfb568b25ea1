"""Gateways and Redis killed at random moments while clients go from gateway to gateway with their streams.

`KEPT_STORM_S=120` makes it longer, `KEPT_STORM_SEED=7` another one; `pytest -s` prints what was seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx2
import uvloop

from fake_engine import fake_engine
from services import redis_server
from serving import KEY, Gateway, started

SEED = int(os.environ.get("KEPT_STORM_SEED", "1"))
STORM_S = float(os.environ.get("KEPT_STORM_S", "8"))
CLIENTS, TOKENS, HUNG_S = 12, 80, 30.0


class Talks:
    """Clients that begin a stream at one gateway, leave it anywhere, and come back to whichever."""

    def __init__(self, doors: list[Gateway]) -> None:
        self.doors = doors
        self.over = False
        self.ends: Counter[str] = Counter()
        self.odd: list[str] = []
        self.slowest_s = 0.0
        """From a client's return to its next event, or to the end."""
        self._last: dict[str, str] = {}

    async def client(self, number: int, http: httpx2.AsyncClient) -> None:
        draw = random.Random(number)
        while not self.over:
            asked = f"client {number}, {draw.random()}"
            seen: list[tuple[int, str]] = []
            end = ""
            while not end:
                end = await self._part(http, draw, asked, seen)
            self.ends[end] += 1
            numbers = [at for at, _ in seen]
            if numbers != list(range(len(numbers))):
                self.odd.append(f"{end}: {numbers}")
            words = [_text(data) for _, data in seen]
            if end == "whole" and sum(map(bool, words)) != TOKENS:
                self.odd.append(f"{sum(map(bool, words))} tokens of {TOKENS}")

    async def _part(
        self, http: httpx2.AsyncClient, draw: random.Random, asked: str, seen: list[tuple[int, str]]
    ) -> str:
        """Reads a while; how the stream ended, "" where it goes on."""
        door = draw.choice(self.doors)
        headers = {"authorization": f"Bearer {KEY}"}
        headers |= {"last-event-id": self._last[asked]} if seen else {"x-inhouse-resume": "true"}
        began_s, most = time.monotonic(), draw.randint(1, 60)
        try:
            async with http.stream(
                "POST", f"{door.url}/v1/chat/completions", headers=headers, json=None if seen else body(asked)
            ) as reply:
                if reply.status_code == 404 and seen:
                    return "gone"
                if reply.status_code != 200:
                    await asyncio.sleep(0.1)
                    return ""
                id = ""
                async for line in reply.aiter_lines():
                    self.slowest_s = max(self.slowest_s, time.monotonic() - began_s)
                    began_s = time.monotonic()
                    if line.startswith("id: "):
                        id = line.removeprefix("id: ")
                    if not line.startswith("data: "):
                        continue
                    if not id:  # an error without a number: whoever comes back goes on
                        await asyncio.sleep(0.1)
                        return ""
                    self._last[asked] = id
                    data = line.removeprefix("data: ")
                    seen.append((int(id.rpartition(":")[2]), data))
                    id, most = "", most - 1
                    if data == "[DONE]":
                        return "whole"
                    if '"error"' in data:
                        return str(json.loads(data)["error"]["code"])
                    if not most:
                        return ""
                return "cut"
        except (httpx2.TransportError, OSError, AttributeError):  # anyio asks a socket that has just gone for its name
            await asyncio.sleep(0.1)
        return ""


def body(asked: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": asked}]
    return {"model": "chat", "stream": True, "max_tokens": TOKENS, "ignore_eos": True, "messages": messages}


def _text(data: str) -> str:
    if data == "[DONE]" or '"error"' in data:
        return ""
    return "".join(choice["delta"].get("content") or "" for choice in json.loads(data)["choices"])


def test_whatever_dies_no_event_is_missing_or_comes_twice(tmp_path: Path) -> None:
    """Each stream comes to its end, or to the error that its gateway is gone; none hangs, and some outlast the death of
    another gateway and of Redis."""
    (tmp_path / "redis").mkdir()
    with (
        redis_server(tmp_path / "redis") as redis,
        fake_engine(tokens_per_s=60, slots=64) as engine,
        contextlib.ExitStack() as exits,
    ):
        draw = random.Random(SEED)
        stack = (
            f"models: {{chat: {{endpoints: ['{engine.url}'], engine: vllm, slots: 64}}}}\n"
            f"store: {{redis: {{url: '{redis.url}'}}, lease: 1 s}}\n"
        )
        doors: list[Gateway] = []

        def start() -> None:
            own = tmp_path / f"gateway-{len(list(tmp_path.glob('gateway-*')))}"
            own.mkdir()
            door = started(own, stack)
            exits.callback(door.stop, signal.SIGKILL)
            door.wait_for(event="replica", state="ready")
            doors.append(door)

        for _ in range(3):
            start()
        talks = Talks(doors)
        faults: Counter[str] = Counter()

        def storm() -> None:
            end_s = time.monotonic() + STORM_S
            while time.monotonic() < end_s or len(faults) < 2:
                before = sum(talks.ends.values())
                waits_s = time.monotonic() + HUNG_S
                while sum(talks.ends.values()) < before + 4:
                    assert time.monotonic() < waits_s, "all hang"
                    time.sleep(0.02)
                fault = draw.choice(["gateway", "redis"])
                faults[fault] += 1
                if fault == "gateway":
                    doors.pop(draw.randrange(len(doors))).process.send_signal(signal.SIGKILL)
                    start()
                else:
                    redis.kill()
                    time.sleep(draw.uniform(0.0, 0.5))
                    redis.start()

        async def both() -> None:
            async with httpx2.AsyncClient(timeout=HUNG_S) as http, asyncio.TaskGroup() as group:
                for number in range(CLIENTS):
                    group.create_task(talks.client(number, http))
                try:
                    await asyncio.to_thread(storm)
                finally:
                    talks.over = True

        uvloop.run(both())
        print(f"\n{dict(faults)}: {dict(talks.ends)}; slowest next event {talks.slowest_s:.1f} s")
        assert talks.odd == []
        assert set(talks.ends) <= {"whole", "answer_lost", "gone"}, talks.ends
        assert talks.ends["whole"] >= 10
        assert talks.ends["gone"] <= faults["gateway"], "of a gateway that died before it could say a word to Redis"
        assert talks.slowest_s < HUNG_S / 2
