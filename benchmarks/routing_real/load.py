"""The load: users in a closed loop over raw sockets, and what they saw."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec

from benchmarks.rig.errors import FailedError
from benchmarks.routing_real.work import Talk, Work

WARM_UP = 0.25
"""Part of a measurement at its beginning that is not counted."""
_LINE_BYTES_MAX = 1 << 20


@dataclass(slots=True)
class Seen:
    """Of the requests that ended within the time that counts."""

    seconds: float
    ttft_s: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    answer_tokens: int = 0

    @property
    def requests_per_s(self) -> float:
        return len(self.ttft_s) / self.seconds

    @property
    def cached(self) -> float:
        """The part of all prompts' tokens that came from a cache."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def quantile_ms(self, twentieth: int) -> float:
        if len(self.ttft_s) < 2:
            raise FailedError("fewer than two requests ended; give it more --seconds")
        return 1000 * statistics.quantiles(self.ttft_s, n=20, method="inclusive")[twentieth - 1]


class _Details(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _Details | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_EVENT = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class _Answer:
    ttft_s: float
    text: str
    usage: _Usage


@dataclass(frozen=True, slots=True)
class Door:
    """Where requests go. With `sessions` each says which conversation it belongs to."""

    port: int
    model: str
    key: str
    sessions: bool = False


async def run(door: Door, work: Work, seed: int, seconds: float) -> Seen:
    """Everybody at work for `seconds`; what is under way then is broken off. Raises FailedError on any refusal."""
    began_s = time.monotonic()
    counted_s = began_s + WARM_UP * seconds
    seen = Seen((1 - WARM_UP) * seconds)

    async def user(number: int) -> None:
        talk = Talk(work, seed, number)
        while True:
            talk.ask()
            answer = await _ask(door, talk)
            talk.heard(answer.text)
            if time.monotonic() >= counted_s:
                seen.ttft_s.append(answer.ttft_s)
                seen.prompt_tokens += answer.usage.prompt_tokens
                seen.cached_tokens += (answer.usage.prompt_tokens_details or _Details()).cached_tokens
                seen.answer_tokens += answer.usage.completion_tokens

    async def everybody() -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(work.users):
                    group.create_task(user(number))
        except* (FailedError, OSError, EOFError, msgspec.DecodeError) as failures:
            raise FailedError(str(failures.exceptions[0])) from None

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(everybody(), seconds)
    return seen


async def _ask(door: Door, talk: Talk) -> _Answer:
    body = msgspec.json.encode(
        {
            "model": door.model,
            "messages": talk.messages,
            "max_tokens": talk.answer_tokens,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )
    session = f"x-inhouse-session: {talk.name}\r\n" if door.sessions else ""
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {door.key}\r\n{session}"
        f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port, limit=_LINE_BYTES_MAX)
    try:
        began_s = time.perf_counter()
        writer.write(head.encode() + body)
        ttft_s, usage = 0.0, None
        texts: list[str] = []
        async for data in _events(reader):
            event = _EVENT.decode(data)
            text = "".join(choice.delta.content or "" for choice in event.choices)
            if text and not texts:
                ttft_s = time.perf_counter() - began_s
            if text:
                texts.append(text)
            usage = event.usage or usage
        if usage is None:
            raise FailedError("a stream ended without its usage")
        return _Answer(ttft_s or time.perf_counter() - began_s, "".join(texts), usage)
    finally:
        writer.close()


async def _events(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The data of each event, of a stream in chunks. Raises FailedError where it is refused."""
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        text = await reader.read(600)
        raise FailedError(f"refused: {head.splitlines()[0].decode()} {text.decode(errors='replace')[:300]}")
    held = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        held += (await reader.readexactly(size + 2))[:-2]
        *events, held = held.split(b"\n\n")
        for event in events:
            if event == b"data: [DONE]":
                return
            if event.startswith(b"data: "):
                yield event[6:]
