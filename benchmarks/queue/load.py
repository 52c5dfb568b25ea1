"""Clients of raw connections, and what processes have cost."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Cost:
    cpu_s: float


def costs(pids: dict[str, list[int]]) -> dict[str, Cost]:
    """CPU time so far, user and system, summed by name."""
    return {name: Cost(sum(_cpu_s(pid) for pid in some)) for name, some in pids.items()}


async def latencies(address: Address, count: int) -> list[float]:
    """From sending a request to the first token of its stream, one request after another."""
    found = []
    reader, writer = await asyncio.open_connection(*address)
    for number in range(count):
        began_s = time.perf_counter()
        writer.write(_request(f"{number}", 4, stream=True))
        await reader.readuntil(b'"content":"')
        found.append(time.perf_counter() - began_s)
        await reader.readuntil(b"\r\n0\r\n\r\n")
    writer.close()
    return found


async def streams(address: Address, at_once: int, tokens: int) -> int:
    """So many streams at once; returns the tokens that came."""

    async def one(number: int) -> int:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(_request(f"{number}", tokens, stream=True))
        body = b""
        while not body.endswith(b"\r\n0\r\n\r\n"):
            data = await reader.read(65536)
            if not data:
                raise ConnectionError("the gateway hung up")
            body += data
        writer.close()
        return body.count(b'"content":"')

    return sum(await asyncio.gather(*(one(number) for number in range(at_once))))


async def jobs(address: Address, *, clients: int, seconds: float) -> tuple[list[float], float]:
    """Whole answers of 8 tokens, each client one after another; returns how long each took, and all of them."""
    began_s = time.perf_counter()
    end_s = began_s + seconds
    took: list[float] = []

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection(*address)
        count = 0
        while (now_s := time.perf_counter()) < end_s:
            count += 1
            writer.write(_request(f"{number} {count}", 8, stream=False))
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head[:20]:
                raise ConnectionError(head[:200])
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            took.append(time.perf_counter() - now_s)
        writer.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return took, time.perf_counter() - began_s


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))] if values else 0.0


def _request(text: str, tokens: int, *, stream: bool) -> bytes:
    messages = [{"role": "user", "content": text}]
    body = json.dumps(
        {"model": "m", "messages": messages, "max_tokens": tokens, "ignore_eos": True, "stream": stream}
    ).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: b\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
