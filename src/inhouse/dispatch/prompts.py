"""How many tokens the prompts of a call have: a bound at once, and the engine's own count where that cannot decide.

A token is at least one byte, and what a chat template puts around a message is less than the JSON around it: so bytes
are a bound that costs nothing. Counting takes the engine about a quarter of a microsecond for each byte. It happens in
the engine's process, at most a few at once for each model, and once for a call however many need to know.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from inhouse.dispatch.lane import Lane
from inhouse.engines.counting import Question
from inhouse.errors import ApiError
from inhouse.wire import sse
from inhouse.wire.call import Call, Job
from inhouse.wire.completions import PATH as COMPLETIONS
from inhouse.wire.openai_chat import PATH as CHAT

TEMPLATE_TOKENS = 256
"""What a template may add of its own, such as how tools are to be called."""


_COUNT_S_MAX = 5.0
"""An engine that hangs must not hold up those who only ask for a number."""

T = TypeVar("T")


class Prompts:
    """Of one call. `counted` is None until somebody had to know."""

    __slots__ = ("_jobs", "_lane", "counted")

    def __init__(self, lane: Lane, call: Call) -> None:
        self._lane = lane
        self._jobs = call.jobs[:: call.choices]
        self.counted: int | None = None

    @property
    def most(self) -> int:
        """The most that they can have together; no more than the engine takes of each."""
        context = self._lane.context_tokens
        if self.counted is not None:
            return min(self.counted, context * len(self._jobs))
        most = 0
        for job in self._jobs:
            most += min(context, bound(job))
        return most

    async def count(self) -> int | None:
        """Their exact number, asked for once; None where the engine cannot tell it."""
        if self.counted is None:
            total = 0
            for job in self._jobs:
                tokens = await count(self._lane, job)
                if tokens is None:
                    return None
                total += tokens
            self.counted = total
        return self.counted


def bound(job: Job) -> int:
    """More tokens than the job's prompt can have."""
    return len(job.body) + TEMPLATE_TOKENS


async def count(lane: Lane, job: Job) -> int | None:
    """The tokens of a prompt, as the engine counts them; None where it cannot be asked."""
    counting = lane.engine.counting
    if not lane.ready or job.source is None or counting is None:
        return None
    if job.path == CHAT:
        return await _asked(lane, counting.chat(job.body))
    if job.path != COMPLETIONS:
        return None
    prompt = job.source.prompt
    if isinstance(prompt, list):
        return len(prompt)
    tokens = await _asked(lane, counting.text(prompt, True))
    return None if tokens is None else len(tokens)


async def _asked(lane: Lane, question: Question[T]) -> T | None:
    try:
        async with asyncio.timeout(_COUNT_S_MAX), lane.counting:
            with lane.asked() as pool:
                reply = await pool.request(b"POST", question.path, question.body)
                answer = await reply.read()
            return question.read(answer) if reply.status == 200 else None
    except (ApiError, *sse.UNREADABLE, TimeoutError):
        return None
