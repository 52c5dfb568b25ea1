"""Whether and how an answer goes on whose replica died in the middle. Pure.

What the client has is handed to another engine as the beginning of its answer: in a chat, as a last message of the
assistant that is to be continued; in a completion, behind the prompt. It goes on where that gives the answer that would
have come, and not where it cannot be known:

- a call of a tool or a thought is half told: engines continue texts;
- a grammar (`response_format`, a tool that must be called): it would begin anew in the middle;
- log probabilities: those of a text that is cut into tokens anew are others;
- an engine that takes no beginning of an answer.

An answer that lacks nothing but its end is closed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from inhouse.engines.engine import Engine
from inhouse.errors import ApiError
from inhouse.wire.call import Job
from inhouse.wire.chat import Message, Part, TextPart
from inhouse.wire.openai_chat import PATH as CHAT
from inhouse.wire.rewrite import rewritten
from inhouse.wire.sent import Sent
from inhouse.wire.splice import Splice, closing

Reason = Literal[
    "tool call", "reasoning", "log probabilities", "grammar", "token ids", "engine", "too long", "too often",
    "nowhere to go", "refused",
]  # fmt: skip
REASONS: dict[Reason, str] = {
    "tool call": "a call of a tool was half told",
    "reasoning": "the model had begun to show what it thinks",
    "log probabilities": "log probabilities were asked for",
    "grammar": "the answer was bound to a grammar",
    "token ids": "the prompt was given as token ids, which this kind of engine takes no text behind",
    "engine": "this kind of engine takes no beginning of an answer",
    "too long": "the text was longer than `failover.bytes_max`",
    "too often": "it had gone on elsewhere `failover.per_answer_max` times",
    "nowhere to go": "there was no other replica, or none had a place within `failover.wait`",
    "refused": "the other engine refused to go on with it",
}


@dataclass(frozen=True, slots=True)
class Failover:
    """The settings of one model."""

    per_answer_max: int
    wait_s: float
    bytes_max: int


@dataclass(frozen=True, slots=True)
class GoOn:
    """Ask another engine for this, and splice what comes to what was sent."""

    job: Job
    splice: Splice


@dataclass(frozen=True, slots=True)
class Close:
    """Nothing is missing but these events. `guessed`: what they say of the prompt's tokens is the guess."""

    events: bytes
    guessed: bool = False


@dataclass(frozen=True, slots=True)
class Stuck:
    reason: Reason


def onward(job: Job, sent: Sent, engine: Engine, prompt_tokens: int) -> GoOn | Close | Stuck:
    """What becomes of a job of which `sent` was shown. `prompt_tokens` is a guess, for an end that nobody counted."""
    sent.read()
    chat = job.path == CHAT
    if sent.done:
        return Close(b"")
    count = len(sent.pieces)
    reason = sent.finish_reason
    told = reason is not None
    if reason is None and job.answer_tokens_max is not None and count >= job.answer_tokens_max:
        reason = "length"
    if reason is not None and not sent.overflowed:
        end = closing(
            id=sent.id,
            created=sent.created,
            model=sent.model,
            chat=chat,
            finish_reason=None if told else reason,
            usage=None if sent.counted else (prompt_tokens, count),
        )
        return Close(end, guessed=not sent.counted)
    stuck = _stuck(job, sent, engine, chat=chat)
    if stuck is not None:
        return Stuck(stuck)
    text, blank, tokens = _cut(sent.pieces)
    splice = Splice(id=sent.id, created=sent.created, model=sent.model, tokens=tokens, blank=blank)
    return GoOn(_continued(job, text, tokens, engine, chat=chat), splice)


def _stuck(job: Job, sent: Sent, engine: Engine, *, chat: bool) -> Reason | None:
    source = job.source
    if sent.called:
        return "tool call"
    if sent.reasoned:
        return "reasoning"
    if sent.overflowed:
        return "too long"
    if source.logprobs not in (None, False):
        return "log probabilities"
    if not chat:
        return "token ids" if isinstance(source.prompt, list) and not engine.llama else None
    form = source.response_format
    if (form is not None and form.type != "text") or source.tool_choice == "required":
        return "grammar"
    last: Message = source.messages[-1]
    if not engine.continuing or (last.role == "assistant" and last.tool_calls):
        return "engine"
    return None


def _cut(pieces: list[str]) -> tuple[str, str, int]:
    """The text to go on from, the white space behind it, and the tokens of the text."""
    text = "".join(pieces)
    kept = text.rstrip()
    tokens = len(pieces)
    while tokens and not pieces[tokens - 1].strip():
        tokens -= 1
    return kept, text[len(kept) :], tokens


def _continued(job: Job, text: str, tokens: int, engine: Engine, *, chat: bool) -> Job:
    if not text:
        return job
    left = None if job.answer_tokens_max is None else job.answer_tokens_max - tokens
    if not chat:
        prompt = job.source.prompt
        return rewritten(
            (job,), prompt=[*prompt, text] if isinstance(prompt, list) else prompt + text, max_tokens=left
        )[0]
    messages: list[Message] = job.source.messages
    last = messages[-1]
    if last.role == "assistant" and engine.continuing == "always":  # the client had it begin so
        messages = [*messages[:-1], _longer(last, text)]
    else:
        messages = [*messages, Message("assistant", text)]
    flags = {"continue_final_message": True, "add_generation_prompt": False}
    return rewritten((job,), messages=messages, max_tokens=left, **flags)[0]


def _longer(message: Message, text: str) -> Message:
    content: str | list[Part]
    if isinstance(message.content, list):
        content = [*message.content, TextPart(text)]
    else:
        content = (message.content or "") + text
    return Message("assistant", content, name=message.name)


class Rescue:
    """One job's way from replica to replica. `error` is what broke it off first; `job` what is asked now."""

    __slots__ = ("_first", "error", "job", "sent", "splice", "times", "tokens")

    def __init__(self, job: Job, bytes_max: int) -> None:
        self.job = self._first = job
        self.sent = Sent(bytes_max)
        self.splice: Splice | None = None
        self.times = 0
        self.tokens = 0
        """Of the text that `job` is to be gone on with."""
        self.error: ApiError | None = None

    @property
    def began(self) -> bool:
        """Whether the client has something of it."""
        return self.sent.began

    def onward(self, error: ApiError, engine: Engine, prompt_tokens: int, times_max: int) -> GoOn | Close | Stuck:
        """What to do now that it broke off with `error`."""
        self.error = self.error or error
        step = onward(self._first, self.sent, engine, prompt_tokens)
        if isinstance(step, GoOn):
            if self.times >= times_max:
                return Stuck("too often")
            self.times += 1
            self.job, self.splice, self.tokens = step.job, step.splice, len(self.sent.pieces)
        return step
