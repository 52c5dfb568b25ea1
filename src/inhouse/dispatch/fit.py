"""A call made to fit its model: the longest answer, and a prompt that leaves room for it.

`admission/context_fit.py` decides by estimates; here the engine counts what came of it, and where that is still too
much the estimate is corrected and decided again. A prompt whose bytes say that it fits is not counted at all, and with
`context_fit: reject` none is: the engine refuses what is too long, with both numbers, before it does any work.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from inhouse.admission.context_fit import FitPolicy, Said, caps, cut_middle, fit, room_for_prompt
from inhouse.dispatch.lane import Lane
from inhouse.dispatch.prompts import Prompts, bound, count
from inhouse.errors import AnswerTooLong, ContextTooLong
from inhouse.telemetry.entry import Entry, FactName
from inhouse.wire.call import Call, Job
from inhouse.wire.chat import Message, Part, TextPart
from inhouse.wire.completions import PATH as COMPLETIONS
from inhouse.wire.openai_chat import PATH as CHAT
from inhouse.wire.rewrite import rewritten

Notes = list[tuple[bytes, bytes]]
_CLAMPED, _TRIMMED = b"x-inhouse-clamped", b"x-inhouse-trimmed"
HEADERS = frozenset((_CLAMPED, _TRIMMED))
FACTS: tuple[FactName, ...] = ("trimmed_messages", "trimmed_tokens", "answer_tokens_asked")
_ANSWER_PARAMS = {"input": "max_output_tokens"}
_ROUNDS_MAX = 6
_MARGIN_TOKENS = 8


def limit_answers(lane: Lane, call: Call, entry: Entry, notes: Notes) -> Call:
    """The call with no answer longer than the model gives. Raises AnswerTooLong where longer ones are refused."""
    most = lane.fit.answer_tokens_max
    if most is None:
        return call
    asked = max(job.answer_tokens_max or 0 for job in call.jobs)
    if asked > most and lane.fit.answer_policy == "refuse":
        raise AnswerTooLong(asked, most, lane.model, param=_ANSWER_PARAMS.get(call.jobs[0].prompt_param, "max_tokens"))
    if all(job.answer_tokens_max is not None and job.answer_tokens_max <= most for job in call.jobs):
        return call
    if asked > most:
        notes.append((_CLAMPED, b"max_tokens=%d, asked=%d" % (most, asked)))
        entry.note("answer_tokens_asked", asked)
    return msgspec.structs.replace(call, jobs=rewritten(call.jobs, max_tokens=most))


async def fit_prompts(lane: Lane, call: Call, prompts: Prompts, entry: Entry, notes: Notes) -> Call:
    """The call with prompts that fit, and what was left out, in `notes` and `entry`. Raises ContextTooLong.

    While the model still loads nothing can be counted: then the call goes on as it is, and the engine may refuse it.
    """
    policy = lane.fit.policy
    if call.may_trim is not None:
        policy = "reject" if not call.may_trim else "trim" if policy == "reject" else policy
    context = lane.context_tokens
    if policy == "reject" or all(bound(job) <= _room(lane, job, context) for job in call.jobs[:: call.choices]):
        return call
    jobs: list[Job] = []
    left_out = _LeftOut()
    for first in range(0, len(call.jobs), call.choices):
        of_one = call.jobs[first : first + call.choices]
        room = _room(lane, of_one[0], context)
        if bound(of_one[0]) > room:
            of_one = await _fitted(policy, lane, of_one, prompts, left_out, room, alone=len(of_one) == len(call.jobs))
        jobs += of_one
    if left_out.tokens <= 0:
        return call
    notes.append(left_out.header)
    entry.note("trimmed_messages", left_out.messages)
    entry.note("trimmed_tokens", left_out.tokens)
    return msgspec.structs.replace(call, jobs=tuple(jobs))


@dataclass(slots=True)
class _LeftOut:
    messages: int = 0
    characters: int = 0
    tokens: int = 0

    @property
    def header(self) -> tuple[bytes, bytes]:
        cut = b"characters=%d, " % self.characters if self.characters else b""
        return _TRIMMED, b"messages=%d, %btokens=%d" % (self.messages, cut, self.tokens)


def _room(lane: Lane, job: Job, context: int) -> int:
    wanted = lane.fit.answer_room if job.answer_tokens_max is None else job.answer_tokens_max
    return room_for_prompt(context, wanted)


async def _fitted(
    policy: FitPolicy,
    lane: Lane,
    jobs: tuple[Job, ...],
    prompts: Prompts,
    left_out: _LeftOut,
    room: int,
    *,
    alone: bool,
) -> tuple[Job, ...]:
    """The jobs of one prompt, written anew where it is too long. Keeps `prompts` right where it is the only one."""
    tokens = await prompts.count() if alone else await count(lane, jobs[0])
    shorter = _SHORTER.get(jobs[0].path)
    if tokens is None or tokens <= room or shorter is None:
        return jobs
    target = room
    for _ in range(_ROUNDS_MAX):
        attempt = shorter(policy, jobs[0], tokens, target)
        if attempt is None:
            return jobs
        tried = rewritten(jobs, **attempt.changes)
        now = await count(lane, tried[0])
        if now is None:
            return jobs
        # what must stay may take of the answer's room
        if now <= room or (attempt.last and now < lane.context_tokens):
            left_out.messages += attempt.messages
            left_out.characters += attempt.characters
            left_out.tokens += tokens - now
            if alone:
                prompts.counted = now
            return tried
        if attempt.last:
            break
        target -= now - room + _MARGIN_TOKENS
    raise ContextTooLong(tokens, lane.context_tokens, param=jobs[0].prompt_param)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A shorter prompt, as changes to the job's struct; how many messages and characters were left out of it."""

    changes: dict[str, Any]
    messages: int
    characters: int
    last: bool
    """Nothing more can be left out."""


def _shorter_chat(policy: FitPolicy, job: Job, tokens: int, target: int) -> _Attempt | None:
    messages: list[Message] = job.source.messages
    per_byte = tokens / len(job.body)
    said = [
        Said(
            message.role,
            math.ceil(len(_encode(message)) * per_byte),
            tuple(call.id for call in message.tool_calls or ()),
            message.tool_call_id if message.role == "tool" else None,
        )
        for message in messages
    ]
    beside = max(0, tokens - sum(one.tokens for one in said))  # tools, and what the template adds
    cut = fit(policy, said, target - beside)
    kept = [messages[index] for index in cut.kept]
    dropped = len(messages) - len(kept)
    if policy == "trim" or not cut.over_tokens:
        return _Attempt({"messages": kept}, dropped, 0, last=bool(cut.over_tokens))
    cuttable = sum(said[index].tokens for index in cut.kept if said[index].role not in _PINNED)
    before = _characters(kept)
    kept = _cut_texts(kept, int(before * (1 - cut.over_tokens / max(1, cuttable))))
    after = _characters(kept)
    return _Attempt({"messages": kept}, dropped, before - after, last=after == 0)


def _texts(message: Message) -> list[str]:
    """The texts that may be cut; what the system says is not among them."""
    if message.role in _PINNED or message.content is None:
        return []
    if isinstance(message.content, str):
        return [message.content]
    return [part.text for part in message.content if isinstance(part, TextPart)]


def _characters(messages: list[Message]) -> int:
    return sum(len(text) for message in messages for text in _texts(message))


def _cut_texts(messages: list[Message], characters_max: int) -> list[Message]:
    """The longest texts cut down to one length, so that all together have at most `characters_max`."""
    cap = caps([len(text) for message in messages for text in _texts(message)], characters_max)
    cut = []
    for message in messages:
        texts = _texts(message)
        if any(len(text) > cap for text in texts):
            content: str | list[Part]
            if isinstance(message.content, str):
                content = cut_middle(message.content, cap)
            else:
                content = [TextPart(cut_middle(text, cap)) for text in texts]
            message = msgspec.structs.replace(message, content=content)
        cut.append(message)
    return cut


def _shorter_text(policy: FitPolicy, job: Job, tokens: int, target: int) -> _Attempt | None:
    """A text has no messages that could be left out: only `middle-out` makes it shorter."""
    if policy == "trim":
        return None
    prompt: str | list[int] = job.source.prompt
    if isinstance(prompt, list):
        keep = max(1, target)
        shorter = prompt[: keep - keep // 2] + prompt[len(prompt) - keep // 2 :]
        return _Attempt({"prompt": shorter}, 0, 0, last=keep == 1)
    characters_max = max(0, int(len(prompt) * target / tokens))
    text = cut_middle(prompt, characters_max)
    return _Attempt({"prompt": text}, 0, len(prompt) - len(text), last=not text)


_PINNED = frozenset(("system", "developer"))
_encode = msgspec.json.Encoder().encode
_SHORTER: dict[bytes, Callable[[FitPolicy, Job, int, int], _Attempt | None]] = {
    CHAT: _shorter_chat,
    COMPLETIONS: _shorter_text,
}
