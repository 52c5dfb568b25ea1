"""Thousands of clients of raw sockets on one event loop, half of whom leave at a moment of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import uvloop

from serving import KEY

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses")
_GIVE_UP_S = 60.0


def storm(address: tuple[str, int], *, requests: int, clients: int, seed: int) -> Counter[str]:
    """Sends so many requests; how each of them ended: a status, or the stage at which its client left."""
    return uvloop.run(_storm(address, requests, clients, seed))


async def _storm(address: tuple[str, int], requests: int, clients: int, seed: int) -> Counter[str]:
    ends: Counter[str] = Counter()
    numbers = iter(range(requests))

    async def client() -> None:
        for number in numbers:
            async with asyncio.timeout(_GIVE_UP_S):
                ends[await _one(address, random.Random(f"{seed}-{number}"))] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return ends


async def _one(address: tuple[str, int], draw: random.Random) -> str:
    """One request on a connection of its own; the stage is drawn first, so half of them leave."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        return await _STAGES[draw.randrange(len(_STAGES))](reader, writer, draw)
    finally:
        if draw.random() < 0.5:
            writer.transport.abort()
        else:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def _stays(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> str:
    writer.write(_request(draw, long=False))
    return await _answer(reader)


async def _leaves_half_sent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> str:
    request = _request(draw, long=True)
    writer.write(request[: draw.randrange(1, len(request))])
    await writer.drain()
    return "left while sending"


async def _leaves_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> str:
    writer.write(_request(draw, long=True))
    await writer.drain()
    return "left at once"


async def _leaves_after_a_while(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> str:
    writer.write(_request(draw, long=True))
    try:
        async with asyncio.timeout(draw.uniform(0.0, 0.15)):
            return await _answer(reader)
    except TimeoutError:
        return "left after a while"


async def _leaves_mid_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> str:
    writer.write(_request(draw, long=True).replace(b"Host: x", b"Host: x\r\nConnection: close"))
    seen = 0
    wanted = draw.randrange(1, 3000)
    while seen < wanted:
        data = await reader.read(512)
        if not data:
            return "ended early"
        seen += len(data)
        if seen == len(data) and not data.startswith(b"HTTP/1.1 200"):
            return data[9:12].decode()
    return "left in the stream"


_STAGES: tuple[Callable[..., Any], ...] = (
    _stays, _leaves_half_sent, _stays, _leaves_at_once, _stays, _leaves_after_a_while, _stays, _leaves_mid_stream,
)  # fmt: skip


def _request(draw: random.Random, *, long: bool) -> bytes:
    words = " ".join(draw.choice(("sea", "hill", "river", "wood")) for _ in range(draw.randrange(1, 120)))
    path = draw.choice(_PATHS)
    tokens = 40 if long else draw.randrange(1, 12)
    messages = [{"role": "user", "content": words}]
    stream = draw.random() < 0.7
    body: dict[str, Any] = {"model": draw.choice(("demo", "narrow")), "stream": stream}
    if path == "/v1/completions":
        body |= {"prompt": words, "max_tokens": tokens}
    elif path == "/v1/responses":
        body |= {"input": words, "max_output_tokens": tokens}
    else:
        body |= {"messages": messages, "max_tokens": tokens}
    if path == "/v1/chat/completions" and draw.random() < 0.1:
        body["n"] = 2
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


async def _answer(reader: asyncio.StreamReader) -> str:
    """Reads one answer whole; its status, and whether a stream ended with an error."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = head[9:12].decode()
    if length := _LENGTH.search(head):
        await reader.readexactly(int(length[1]))
        return status
    body = await reader.readuntil(b"\r\n0\r\n\r\n")
    return f"{status} and an error" if b'"error":{' in body else status
