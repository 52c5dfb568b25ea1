"""What a client has been shown of one job's answer, kept so that another engine can go on from there. Pure.

An engine's events mostly differ in nothing but their text. Of those only the text is cut out, which takes no parsing;
any other event is kept whole for a while, and read when there are many or when somebody has to know. What is kept of
either is the text as JSON writes it, a few bytes for a token.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from inhouse.wire import sse
from inhouse.wire.sent_shapes import SentChoice, SentEvent

_UNREAD_BYTES_MAX = 8 * 1024
_UNLIKE_MAX = 8
"""After so many events of which each was unlike the one before it, nobody looks any more whether the next is."""
_TEXT = (b'"content":"', b'"text":"')


_event = msgspec.json.Decoder(SentEvent)
_events = msgspec.json.Decoder(list[SentEvent])
_texts = msgspec.json.Decoder(list[str])
_encode = msgspec.json.Encoder().encode


def _events_in(shown: bytes) -> list[SentEvent] | None:
    """Events of one line each, which is what engines send, read in one go; None where there is anything else."""
    if not (shown.startswith(b"data: {") and shown.endswith(b"}\n\n")):
        return None
    lines = shown[6:-2].replace(b"}\n\ndata: {", b"},{")
    if b"\n" in lines:  # there is none within JSON that is written on one line
        return None
    try:
        return _events.decode(b"[%b]" % lines)
    except sse.UNREADABLE:
        return None


def _around_text(event: bytes) -> tuple[bytes, bytes] | None:
    """What stands before and behind the text of an event that has one, and no quotation mark in it."""
    for name in _TEXT:
        at = event.find(name)
        if at >= 0:
            begin = at + len(name)
            end = event.find(b'"', begin)
            found = _events_in(event)
            if end < 0 or found is None or len(found) != 1 or len(found[0].choices) != 1:
                return None
            text = _text_of(found[0].choices[0])
            if not text or _texts_in(event[begin:end]) != [text]:
                return None
            return event[:begin], event[end:]
    return None


def _texts_in(joined: bytes) -> list[str]:
    """Texts as JSON writes them, with `","` between them and no other quotation mark; without those that are none."""
    try:
        return _texts.decode(b'["%b"]' % joined)
    except sse.UNREADABLE:
        parts = joined.split(b'","')
        return [] if len(parts) == 1 else [text for part in parts for text in _texts_in(part)]


def _text_of(choice: SentChoice) -> str | None:
    return choice.text if choice.delta is None else choice.delta.content


class Sent:
    """See the module. `keep` whole events, then `read` before anything else is asked.

    `overflowed`: there was more than `bytes_max` of its text, as JSON writes that, and it was let go of.
    """

    __slots__ = (
        "_bytes",
        "_bytes_max",
        "_head",
        "_tail",
        "_text_bytes",
        "_texts",
        "_unlike",
        "_unread",
        "began",
        "called",
        "counted",
        "created",
        "done",
        "finish_reason",
        "id",
        "model",
        "overflowed",
        "reasoned",
    )

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._text_bytes = 0
        self._unread: list[bytes] = []
        self._head = self._tail = b""
        """Around the text of the events that differ in nothing else."""
        self._texts = bytearray()
        """As JSON writes them, each with `","` behind it; what is unread came after them."""
        self._unlike = 0
        self.began = False
        """Something was shown."""
        self.overflowed = False
        self.reasoned = False
        """It has shown what the model thinks, apart from its answer."""
        self.called = False
        """It has begun to call a tool."""
        self.finish_reason: str | None = None
        self.counted = False
        """Its usage was told."""
        self.done = False
        """The stream has come to its end."""
        self.id = ""
        self.created = 0
        self.model = ""

    def keep(self, events: bytes) -> None:
        self.began = True
        head, tail = self._head, self._tail
        if head and events.startswith(head) and events.endswith(tail):
            text = events[len(head) : -len(tail)]
            if text and b'"' not in text:
                self._keep_text(text)
                return
        self._unread.append(events)
        self._bytes += len(events)
        if self._unlike < _UNLIKE_MAX:
            self._unlike += 1
            around = _around_text(events)
            if around is not None:
                self._head, self._tail = around
        if self._bytes > _UNREAD_BYTES_MAX:
            self.read()

    def _keep_text(self, text: bytes) -> None:
        if self._unread:
            self.read()
        self._unlike = 0
        self._add(text)

    @property
    def pieces(self) -> list[str]:
        """The texts of the events that had one; each is about one token."""
        return _texts_in(bytes(self._texts[:-3])) if self._texts else []

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def read(self) -> None:
        """Takes in what was kept since."""
        unread, self._unread, self._bytes = self._unread, [], 0
        if self.overflowed:
            return
        shown = b"".join(unread)
        events = _events_in(shown)
        if events is None:
            for payload in sse.payloads(shown):
                self._read(payload)
        else:
            for event in events:
                self._take_in(event)

    def _add(self, text: bytes) -> None:
        """As JSON writes it, without a quotation mark."""
        if self.overflowed:
            return
        self._text_bytes += len(text)
        if self._text_bytes > self._bytes_max:
            self.overflowed = True
            self._texts = bytearray()
        else:
            self._texts += text
            self._texts += b'","'

    def _read(self, payload: bytes) -> None:
        if payload == b"[DONE]":
            self.done = True
            return
        try:
            event = _event.decode(payload)
        except sse.UNREADABLE:
            return  # no chunk: the view has passed over it as well
        self._take_in(event)

    def _take_in(self, event: SentEvent) -> None:
        if not self.id:
            self.id, self.created, self.model = event.id, event.created, event.model
        if event.usage is not UNSET and event.usage != b"null":
            self.counted = True
        for choice in event.choices:
            self._take(choice)

    def _take(self, choice: SentChoice) -> None:
        delta = choice.delta
        text = _text_of(choice)
        if text:
            self._add(_encode(text)[1:-1].replace(b'\\"', b"\\u0022"))
        if delta is not None:
            self.reasoned = self.reasoned or bool(delta.reasoning_content or delta.reasoning)
            self.called = self.called or bool(delta.tool_calls)
        self.finish_reason = choice.finish_reason or self.finish_reason
