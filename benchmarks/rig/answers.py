"""The load: streams in a closed loop over raw sockets, a set number of answers of a set length each."""

from __future__ import annotations

import asyncio
import random
import statistics
import string
import time
from dataclasses import dataclass, field

import msgspec

from benchmarks.rig.errors import FailedError

_LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Work:
    streams: int
    answers: int
    """Of each stream, one after another."""
    answer_tokens: int
    prompt_letters: tuple[int, int]
    past_the_end: bool = False
    """llama-server's `ignore_eos`, so that an answer has its length whatever the model would say."""


@dataclass(slots=True)
class Seen:
    seconds: float = 0.0
    tokens: int = 0
    ttft_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds

    @property
    def ttft_ms(self) -> float:
        return 1000 * statistics.median(self.ttft_s)

    @property
    def gap_ms(self) -> float:
        return 1000 * statistics.median(self.gaps_s)


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Usage(msgspec.Struct):
    completion_tokens: int


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_EVENT = msgspec.json.Decoder(_Event)


async def run(port: int, model: str, work: Work, seed: int, key: str = "") -> Seen:
    """The prompts depend on the seed alone.

    Raises FailedError on any refusal, and where an answer has not the length that was asked for.
    """
    seen = Seen()
    began_s = time.perf_counter()

    async def stream(number: int) -> None:
        chance = random.Random(seed * 1000 + number)
        for _ in range(work.answers):
            length = chance.randint(*work.prompt_letters)
            text = "".join(chance.choices(string.ascii_lowercase, k=length))
            await _ask(port, model, text, work, seen, key)

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(work.streams):
                group.create_task(stream(number))
    except* (FailedError, OSError, EOFError, msgspec.DecodeError) as failures:
        raise FailedError(str(failures.exceptions[0])) from None
    seen.seconds = time.perf_counter() - began_s
    return seen


async def _ask(port: int, model: str, text: str, work: Work, seen: Seen, key: str) -> None:
    tokens = work.answer_tokens
    body = msgspec.json.encode(
        {
            "model": model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **({"ignore_eos": True} if work.past_the_end else {}),
        }
    )
    proof = f"Authorization: Bearer {key}\r\n" if key else ""
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"{proof}Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_LINE_BYTES_MAX)
    try:
        last_s = time.perf_counter()
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200 "):
            told = (await reader.read(600)).decode(errors="replace")[:300]
            raise FailedError(f"refused: {answer.splitlines()[0].decode()} {told}")
        held, texts, counted = b"", 0, 0
        while size := int(await reader.readuntil(b"\r\n"), 16):
            held += (await reader.readexactly(size + 2))[:-2]
            *events, held = held.split(b"\n\n")
            for event in events:
                if not event.startswith(b"data: {"):
                    continue
                found = _EVENT.decode(event[6:])
                counted = found.usage.completion_tokens if found.usage else counted
                if any(choice.delta.content for choice in found.choices):
                    now_s = time.perf_counter()
                    (seen.gaps_s if texts else seen.ttft_s).append(now_s - last_s)
                    texts, last_s = texts + 1, now_s
        if (counted or texts) < tokens or not texts:
            raise FailedError(f"an answer of {counted or texts} tokens where {tokens} were asked for")
        seen.tokens += counted or texts
    finally:
        writer.close()
