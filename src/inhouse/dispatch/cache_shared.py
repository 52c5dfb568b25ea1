"""Answers that are kept in Redis for all gateways, behind each one's own: looked for where that has none.

It may lose what it likes and be away at any time: then nothing is found, and for `_PAUSE_S` after a failure nobody
asks. Nothing here ever raises, and who asks waits `timeout_s` at most.

What an answer is worth is in its key (`cache.key_of`), with the weights where they are known. Where they are not, as of
an engine that runs elsewhere, answers carry the number of an epoch, and who sees an engine start anew begins another.
"""

from __future__ import annotations

import asyncio
import time
from importlib import resources
from typing import TYPE_CHECKING, Any

import msgspec

from inhouse.dispatch.cache import Answer
from inhouse.store.redis_link import Link

if TYPE_CHECKING:
    from redis.asyncio import Redis

_PAUSE_S = 1.0


class _Kept(msgspec.Struct, array_like=True, frozen=True):
    epoch: int
    kept_at: float
    completion_tokens: int
    pieces: tuple[bytes, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Kept).decode


class SharedAnswers:
    """Of one model. Times are seconds since 1970, of clocks that may differ by a little."""

    def __init__(self, link: Link, *, prefix: str, model: str, age_max_s: float, bytes_max: int) -> None:
        self._link = link
        self._start = f"{prefix}:answers:{{{model}}}:"
        self._age_max_s = age_max_s
        self._bytes_max = bytes_max
        self._put = (resources.files("inhouse.store") / "lua" / "answers_put.lua").read_text()
        self._client: Redis | None = None
        self._again_s = 0.0
        self._epoch = 0
        self._begins_another = False
        self.trouble = ""
        """Why it could not be asked the last time; "" where it could."""

    async def get(self, key: bytes) -> tuple[Answer, float] | None:
        """The answer and how old it is."""
        found = await self._ask(self._get(key))
        return found if isinstance(found, tuple) else None

    async def put(self, key: bytes, answer: Answer) -> None:
        kept = _encode(_Kept(self._epoch, time.time(), answer.completion_tokens, answer.pieces))
        await self._ask(self._keep(key.hex(), kept))

    def forget(self) -> None:
        """Nothing that was kept until now is given out any more, by any gateway, from the next look on."""
        self._begins_another = True

    async def close(self) -> None:
        if self._client is not None:
            await self._client.aclose()

    async def _get(self, key: bytes) -> tuple[Answer, float] | None:
        client = self._connected()
        if self._begins_another:
            await client.incr(f"{self._start}epoch")
            self._begins_another = False
        epoch, raw = await client.mget(f"{self._start}epoch", f"{self._start}{key.hex()}")
        self._epoch = int(epoch or 0)
        if raw is None:
            return None
        kept = _decode(raw if isinstance(raw, bytes) else raw.encode())
        age_s = max(0.0, time.time() - kept.kept_at)
        if kept.epoch != self._epoch or age_s >= self._age_max_s:
            return None
        return Answer(kept.pieces, kept.completion_tokens), age_s

    async def _keep(self, name: str, kept: bytes) -> None:
        keys = [f"{self._start}{rest}" for rest in ("order", "bytes", name)]
        given: list[Any] = [name, kept, f"{self._age_max_s:.3f}", str(self._bytes_max), self._start]
        await self._connected().eval(self._put, 3, *keys, *given)

    def _connected(self) -> Redis:
        if self._client is None:
            self._client = self._link.connect()
        return self._client

    async def _ask(self, question: Any) -> object:
        """None where it cannot be asked now."""
        from redis import RedisError

        if time.monotonic() < self._again_s:
            question.close()
            return None
        try:
            async with asyncio.timeout(self._link.timeout_s):
                found: object = await question
        except (RedisError, OSError, TimeoutError, msgspec.DecodeError) as error:
            self._again_s = time.monotonic() + _PAUSE_S
            self.trouble = f"Redis at {self._link.shown} cannot be used: {type(error).__name__}"
            return None
        self.trouble = ""
        return found
