"""Clients by the dozen against several gateways at once, and what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_engine import FakeEngine
from serving import KEY, Gateway, started

_USAGE = re.compile(rb'"usage":\{"prompt_tokens":(\d+),"completion_tokens":(\d+)')


@dataclass
class Seen:
    """What the clients saw: statuses, codes of errors, tokens that were told as used."""

    statuses: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    tokens: int = 0
    requests: int = 0
    """Of those that were told what they used."""


@contextlib.contextmanager
def gateways(folder: Path, stack: str, count: int = 3, *, key: str | None = KEY) -> Iterator[list[Gateway]]:
    """So many gateways, each with a state folder of its own, ready to answer."""
    with contextlib.ExitStack() as exits:
        made = []
        for number in range(count):
            own = folder / f"gateway-{number}"
            own.mkdir(exist_ok=True)
            made.append(started(own, stack, key=key))
            exits.callback(made[-1].stop)
        for one in made:
            one.wait_for(event="replica", state="ready")
        yield made


def stack_of(engine: FakeEngine, more: str = "", *, limits: str = "", slots: int = 64) -> str:
    return (
        f"models: {{chat: {{endpoints: ['{engine.url}'], engine: vllm, slots: {slots}, "
        f"probe: {{interval: 0.2 s}}}}}}\ntenants: {{default: {{limits: {{{limits}}}}}}}\n{more}"
    )


def until(true: Callable[[], bool], *, wait_s: float = 20.0) -> None:
    """Looks until it is true, for what tells nobody."""
    end_s = time.monotonic() + wait_s
    while not true():
        assert time.monotonic() < end_s, "it did not come about"
        time.sleep(0.02)


async def crowd(
    doors: Sequence[Gateway],
    seen: Seen,
    ended: Callable[[], bool],
    *,
    clients: int = 64,
    key: str = KEY,
    tokens: int = 40,
) -> None:
    """So many clients at each gateway ask until `ended()`. A gateway that is gone is left by its clients."""

    async def client(door: Gateway, number: int) -> None:
        draw = random.Random(number)
        while not ended():
            async with asyncio.timeout(60):
                if not await ask(door, seen, draw, key=key, tokens=tokens):
                    return

    async with asyncio.TaskGroup() as group:
        for index, door in enumerate(doors):
            for number in range(clients):
                group.create_task(client(door, index * clients + number))


async def ask(door: Gateway, seen: Seen, draw: random.Random, *, key: str = KEY, tokens: int = 40) -> bool:
    """One request on a connection of its own. False: nobody is there any more."""
    try:
        reader, writer = await asyncio.open_connection(*door.address)
    except OSError:
        return False
    try:
        words = " ".join(draw.choice(("sea", "hill", "river")) for _ in range(draw.randrange(1, 60)))
        body: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": words}], "max_tokens": tokens}
        data = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        writer.write(f"{head}Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
        answer = await reader.read(-1)
    except OSError:
        return False
    finally:
        writer.close()
    if not answer:
        return False
    head_bytes, _, text = answer.partition(b"\r\n\r\n")
    status = head_bytes[9:12].decode()
    seen.statuses[status] += 1
    if status == "200":
        for prompt, completion in _USAGE.findall(text):
            seen.tokens += int(prompt) + int(completion)
            seen.requests += 1
    else:
        seen.codes[json.loads(text)["error"]["code"]] += 1
    return True
