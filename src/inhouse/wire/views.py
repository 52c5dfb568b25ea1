"""The views of a chat stream: relayed as it is, rendered event by event, or folded into one answer.

`RelayView` is the hot one: it looks for three short byte strings in each read and parses only the last events of a
stream. The others decode every event.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from inhouse.core import NOTHING, Usage
from inhouse.errors import ApiError, EngineError
from inhouse.wire import errors, sse
from inhouse.wire.chat import AnswerEnd, ChatChunk, FailureEvent, Rendering, WholeAnswer
from inhouse.wire.fold import AnswerFold

_chunk = msgspec.json.Decoder(ChatChunk)
_DELTA = b'"delta":{'
_NO_USAGE = b'"usage":null'
"""vLLM says so in every event but the last one."""
_USAGE, _ERROR, _DONE = _MARKS = (b'"usage":', b'"error":', b"[DONE]")
_CHOICES = b'"choices":'


_document = msgspec.json.Decoder(WholeAnswer)
_end = msgspec.json.Decoder(AnswerEnd)


def usage_in(document: bytes) -> Usage:
    """The usage that a whole answer tells. Raises EngineError.

    Most engines tell it behind the text: then only the end is read, which no text can look like, as its quotes are
    escaped. Where that does not fit, all is.
    """
    at = document.rfind(_USAGE)
    if at > 0 and document.startswith(b"{") and document.find(_CHOICES, 0, at) > 0:
        try:
            return _end.decode(b"{" + document[at:]).usage.noun()
        except sse.UNREADABLE:
            pass  # it stands deeper
    try:
        return _document.decode(document).usage.noun()
    except sse.UNREADABLE:
        raise EngineError("the engine sent an answer that cannot be read") from None


_failure = msgspec.json.Decoder(FailureEvent)


class Tracking:
    """What every view keeps: usage summed over jobs, events seen, and which jobs ended as they should."""

    __slots__ = ("_ended", "_job_usage", "_per_prompt", "_total", "events_seen")

    def __init__(self, choices: int = 1) -> None:
        self.events_seen = 0
        self._per_prompt = choices
        self._ended: tuple[int, ...] = ()
        self._job_usage: dict[int, Usage] = {}
        self._total: Usage | None = NOTHING

    @property
    def usage(self) -> Usage:
        """Summed over jobs. The choices of one prompt are jobs in a row: their prompt counts once, as at OpenAI."""
        total = self._total
        if total is not None:
            return total
        total = NOTHING
        for job, usage in self._job_usage.items():
            total += usage if job % self._per_prompt == 0 else Usage(completion_tokens=usage.completion_tokens)
        self._total = total
        return total

    def _counted(self, job: int, usage: Usage) -> None:
        """The engine has told what `job` used."""
        self._job_usage[job] = usage
        self._total = usage if len(self._job_usage) == 1 and job == 0 else None

    def tokens_of(self, job: int) -> int:
        usage = self._job_usage.get(job)
        return self.events_seen if usage is None else usage.total_tokens

    def finished(self, job: int) -> None:
        if job not in self._ended:
            raise EngineError("the engine broke off in the middle of its answer; the request can be sent again")

    def _chunk(self, job: int, payload: bytes) -> ChatChunk | None:
        """The chunk of one event; None for [DONE] and for events without meaning. Notes usage and the end."""
        if payload == b"[DONE]":
            self._ended += (job,)
            return None
        try:
            chunk = _chunk.decode(payload)
        except sse.UNREADABLE:
            raise_failure(payload)
            return None
        if chunk.usage is not None:
            self._counted(job, chunk.usage.noun())
        self.events_seen += 1
        return chunk


def raise_failure(payload: bytes) -> None:
    """Raises EngineError for an event that is no chunk: what it reports, or that it cannot be read."""
    if payload == b"null":
        return  # llama.cpp sends one for a prompt that ends at once
    try:
        error = _failure.decode(payload).error
    except sse.UNREADABLE:
        error = None
    if error is None:
        raise EngineError("the engine sent an event that cannot be read")
    text = error if isinstance(error, str) else error.message
    raise EngineError(f"the engine failed in the middle of its answer: {text}")


def fault_in(event: bytes) -> EngineError | None:
    """What an engine reports with an event, if it reports a failure."""
    if b'"error":' not in event:
        return None
    for payload in sse.payloads(event):
        try:
            if _failure.decode(payload).error is not None:
                raise_failure(payload)
        except sse.UNREADABLE:
            continue
        except EngineError as fault:
            return fault
    return None


class RelayView(Tracking):
    """One chat stream, handed on byte for byte; only its usage event is taken out where the client did not ask."""

    __slots__ = ("_include_usage", "role_seen")
    streams = True

    def __init__(self, *, include_usage: bool) -> None:
        super().__init__()
        self._include_usage = include_usage
        self.role_seen = False

    def events(self, job: int, data: bytes) -> bytes:
        if not self.role_seen:
            data = self._with_role(data)
        if self.passes(data):
            return data
        # what stands before the first event that has to be looked at goes on as it is
        marked = min(at for at in (data.find(mark) for mark in _MARKS) if at >= 0)
        begin = data.rfind(b"\n\n", 0, marked) + 2 if b"\n\n" in data[:marked] else 0
        self.events_seen += data.count(b"\n\n", 0, begin)
        return data[:begin] + b"".join([self._relay(job, payload) for payload in sse.payloads(data[begin:])])

    def passes(self, data: bytes) -> bool:
        """Whether these events go on as they are; then they are counted."""
        if _ERROR in data or _DONE in data or data.count(_USAGE) != data.count(_NO_USAGE):
            return False
        self.events_seen += data.count(b"\n\n")
        return True

    def _with_role(self, data: bytes) -> bytes:
        """The first delta names the role. llama.cpp leaves it out where the first token is half a character."""
        at = data.find(_DELTA)
        if at < 0:
            return data
        self.role_seen = True
        at += len(_DELTA)
        if b'"role":' in data[at : data.find(b"\n", at)]:
            return data
        comma = b"" if data[at : at + 1] == b"}" else b","
        return data[:at] + b'"role":"assistant"' + comma + data[at:]

    def _relay(self, job: int, payload: bytes) -> bytes:
        chunk = self._chunk(job, payload)
        if chunk is None or (not chunk.choices and not self._include_usage):
            return b""
        return b"data: " + payload + b"\n\n"

    def end(self) -> bytes:
        return sse.DONE

    def fail(self, error: ApiError) -> bytes:
        return errors.event(error)


class RenderedView(Tracking):
    """A stream in the format of another API, or of several jobs as the choices of one answer."""

    __slots__ = ("_rendering", "_started")
    streams = True

    def __init__(self, rendering: Rendering, choices: int = 1) -> None:
        super().__init__(choices)
        self._rendering = rendering
        self._started = False

    def events(self, job: int, data: bytes) -> bytes:
        out = [self._start()]
        for payload in sse.payloads(data):
            chunk = self._chunk(job, payload)
            if chunk is not None and chunk.choices:
                for choice in chunk.choices:
                    choice.index = job
                out.append(self._rendering.chunk(chunk))
        return b"".join(out)

    def end(self) -> bytes:
        return self._start() + self._rendering.end(self.usage)

    def fail(self, error: ApiError) -> bytes:
        return self._start() + self._rendering.fail(error)

    def _start(self) -> bytes:
        if self._started:
            return b""
        self._started = True
        return self._rendering.start()


class WholeView(Tracking):
    """One JSON document at the end, for clients that do not stream."""

    __slots__ = ("_fold", "_rendering")
    streams = False

    def __init__(self, rendering: Rendering, choices: int = 1) -> None:
        super().__init__(choices)
        self._rendering = rendering
        self._fold = AnswerFold()

    def events(self, job: int, data: bytes) -> bytes:
        for payload in sse.payloads(data):
            chunk = self._chunk(job, payload)
            if chunk is not None:
                for choice in chunk.choices:
                    choice.index = job
                self._fold.add(chunk)
        return b""

    def end(self) -> bytes:
        return self._rendering.body(self._fold.answer(self.usage))

    def fail(self, error: ApiError) -> bytes:
        return b""


class DocumentView(Tracking):
    """A whole answer whose shape is the engine's own: where the engine gives it in one piece, it goes on as it is.

    Where it streams, the view that `rendering` is for makes it whole.
    """

    __slots__ = ("_document", "_rendering", "_whole")
    streams = False

    def __init__(self, rendering: Callable[[], Rendering]) -> None:
        super().__init__()
        self._rendering = rendering
        self._whole: WholeView | None = None
        self._document: bytes | None = None

    def events(self, job: int, data: bytes) -> bytes:
        whole = self._whole
        if whole is None:
            whole = self._whole = WholeView(self._rendering())
        try:
            whole.events(job, data)
        finally:
            self.events_seen, self._ended = whole.events_seen, whole._ended
            self._job_usage, self._total = whole._job_usage, whole._total
        return b""

    def document(self, data: bytes) -> None:
        """The engine's answer, of which only the usage is read. Raises EngineError."""
        usage = self._job_usage[0] = self._total = usage_in(data)
        self._document = data
        self.events_seen = max(1, usage.completion_tokens)

    def end(self) -> bytes:
        if self._document is not None:
            return self._document
        return (self._whole or WholeView(self._rendering())).end()

    def fail(self, error: ApiError) -> bytes:
        return b""
