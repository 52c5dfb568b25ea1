"""The load: people who chat, one short question at a time, and programs that send long prompts without a pause."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

from benchmarks.rig import requests
from benchmarks.rig.errors import FailedError

KEY = "long-prompts-0123456789-abcdefghijklmnop"
MODEL = "demo"
CHAT_TOKENS = 16
LONG_TOKENS = 8
PAUSE_S = 0.05
_SEED = 7
_WORDS = tuple(
    "the quick brown fox jumps over a lazy dog while seven small boats sail slowly round the old green island".split()  # noqa: SIM905
)


@dataclass(slots=True)
class Seen:
    """Seconds from a request to its first token, by who asked."""

    chat_s: list[float] = field(default_factory=list)
    long_s: list[float] = field(default_factory=list)


async def run(port: int, *, seconds: float, chats: int, longs: int, long_words: int) -> Seen:
    """Everybody at work for `seconds`; what began in that time is counted. Raises FailedError on any refusal."""
    seen = Seen()
    end_s = time.monotonic() + seconds
    chance = random.Random(_SEED)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(longs):
                own = random.Random(chance.random())
                group.create_task(_long(port, end_s, f"{number}", long_words, own, seen.long_s))
            for number in range(chats):
                group.create_task(_chat(port, end_s, f"{number}", random.Random(chance.random()), seen.chat_s))
    except* (FailedError, OSError, EOFError) as failures:
        raise FailedError(str(failures.exceptions[0])) from None
    return seen


async def _chat(port: int, end_s: float, name: str, chance: random.Random, seen_s: list[float]) -> None:
    count = 0
    while time.monotonic() < end_s:
        count += 1
        prompt = f"Question {name}.{count}: {_text(chance, 6)}?"
        seen_s.append(await _first_token_s(port, prompt, CHAT_TOKENS))
        await asyncio.sleep(chance.uniform(0, 2 * PAUSE_S))


async def _long(port: int, end_s: float, name: str, words: int, chance: random.Random, seen_s: list[float]) -> None:
    count = 0
    while time.monotonic() < end_s:
        count += 1
        seen_s.append(await _first_token_s(port, f"{name}.{count} {_text(chance, words)}", LONG_TOKENS))


async def _first_token_s(port: int, prompt: str, tokens: int) -> float:
    """One request to its end. No two prompts begin alike, so that no cache answers for the engine."""
    request = requests.chat(MODEL, KEY, stream=True, tokens=tokens, prompt=prompt, ignore_eos=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        began_s = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 "):
            raise FailedError(f"refused: {head.splitlines()[0].decode()}")
        await reader.readuntil(b"data: ")
        first_s = time.perf_counter() - began_s
        await reader.readuntil(b"data: [DONE]\n\n")
        return first_s
    finally:
        writer.close()


def _text(chance: random.Random, words: int) -> str:
    return " ".join(chance.choice(_WORDS) for _ in range(words))
