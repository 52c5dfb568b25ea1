"""Many streams at once, each checked word for word: whether it was whole, cut or hung, and how long seams took."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from inhouse.fake import wire as fake
from inhouse.fake.settings import Settings
from serving import KEY, Gateway

HUNG_S = 30.0


def body_of(text: str, tokens: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "demo", "messages": messages, "max_tokens": tokens, "ignore_eos": True, "stream": True}


def words_of(body: dict[str, Any], settings: Settings = Settings()) -> str:  # noqa: B008 - frozen
    """What the fake engine answers to it."""
    plan = fake.chat_plan(msgspec.json.decode(json.dumps(body), type=fake.ChatAsk), settings)
    return plan.words(0, plan.answer_tokens)


@dataclass
class Streams:
    """`at_once` clients that ask and listen until `stop`. `outcomes`: whole, wrong, cut, refused, lost, hung."""

    gateway: Gateway
    at_once: int
    tokens: tuple[int, int] = (20, 60)
    seed: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    failovers: int = 0
    seams_s: list[float] = field(default_factory=list)
    """From the last word of one replica to the first one of the next, in those streams where it came to that."""
    first_s: list[float] = field(default_factory=list)
    odd: list[tuple[str, bytes]] = field(default_factory=list)
    words: int = 0
    open: int = 0
    """Streams that have begun."""
    over: bool = False
    """Nobody asks for more; who listens still does."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Streams:
        self._tasks = [asyncio.create_task(self._client(number)) for number in range(self.at_once)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.over = True
        await asyncio.gather(*self._tasks)

    @property
    def ended(self) -> int:
        return sum(self.outcomes.values())

    async def heard(self, words: int) -> None:
        """Returns when so many more words have come, over all streams."""
        goal = self.words + words
        while self.words < goal:
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), HUNG_S)

    async def all_open(self) -> None:
        while self.open < self.at_once:
            self._news.clear()
            await asyncio.wait_for(self._news.wait(), HUNG_S)

    async def _client(self, number: int) -> None:
        draw = random.Random(self.seed * 1000 + number)
        count = 0
        while not self.over:
            count += 1
            body = body_of(f"{self.seed} {number} {count}", draw.randint(*self.tokens))
            try:
                async with asyncio.timeout(HUNG_S):
                    outcome = await self._ask(body)
            except TimeoutError:
                outcome = "hung"
            except (OSError, asyncio.IncompleteReadError):
                outcome = "lost"
            self.outcomes[outcome] += 1

    async def _ask(self, body: dict[str, Any]) -> str:
        data = json.dumps(body).encode()
        reader, writer = await asyncio.open_connection(*self.gateway.address)
        began_s = time.monotonic()
        try:
            writer.write(
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {KEY}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode()
                + data
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n")[0]:
                self.odd.append(("refused", head + await reader.read()))
                return "refused"
            return await self._listen(reader, words_of(body), began_s)
        finally:
            writer.close()

    async def _listen(self, reader: asyncio.StreamReader, wanted: str, began_s: float) -> str:
        text, last_s, moved, done = "", began_s, False, False
        begun = False
        while line := await reader.readline():
            if line.startswith(b": failover"):
                self.failovers += 1
                moved = True
            elif line.startswith(b"data: [DONE]"):
                done = True
            elif line.startswith(b"data: "):
                event = json.loads(line[6:])
                if "error" in event:
                    self.open -= begun
                    self.odd.append(("cut", line))
                    return "cut"
                for word in _words(event):
                    now_s = time.monotonic()
                    if not begun:
                        begun = True
                        self.open += 1
                        self.first_s.append(now_s - began_s)
                    if moved:
                        moved = False
                        self.seams_s.append(now_s - last_s)
                    text, last_s = text + word, now_s
                    self.words += 1
                    self._news.set()
        self.open -= begun
        if not done:
            return "lost"
        if text != wanted:
            self.odd.append(("wrong", text.encode()))
            return "wrong"
        return "whole"


def _words(event: dict[str, Any]) -> Iterator[str]:
    for choice in event["choices"]:
        if choice["delta"].get("content"):
            yield choice["delta"]["content"]


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else 0.0
