"""The events of an answer that goes on at another engine, made to look as if they came from the first one. Pure.

The client has an id, a time and a model already, and a role; it has the text up to here. So of what the next engine
sends, names are replaced, the opening is left out, and the usage is told as that of one answer: the prompt without what
was added to it, the completion with it.

White space at the end of the text was not handed to the next engine: chat templates may trim it, and the model would
then write it twice. It writes it again as well where they do not, so what the client has of it is taken off the
beginning.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from inhouse.wire import sse

_USAGE = b'"usage":'
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_fields = msgspec.json.Decoder(dict[str, Raw])


class Splice:
    """See the module. `tokens` were sent and are part of the next engine's prompt; `blank` was sent and is not."""

    __slots__ = ("_blank", "_created", "_id", "_model", "_open", "_pairs", "_tokens")

    def __init__(self, *, id: str, created: int, model: str, tokens: int, blank: str = "") -> None:
        self._id = id
        self._created = created
        self._model = model
        self._tokens = tokens
        self._blank = blank
        self._open = False
        self._pairs: list[tuple[bytes, bytes]] | None = None

    def events(self, data: bytes) -> bytes:
        """The client's side of whole events; may be nothing."""
        if self._pairs is None:
            self._pairs = self._find(data)
        for old, new in self._pairs:
            data = data.replace(old, new)
        if not self._open:
            return b"".join([self._first(payload) for payload in sse.payloads(data)])
        if _USAGE in data:
            return b"".join([_line(self._counted(payload)) for payload in sse.payloads(data)])
        return data

    def _find(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """What the engine calls the answer, as bytes: inside of a JSON text their quotes would be escaped."""
        try:
            first = _decode(next(sse.payloads(data), b"{}"))
        except sse.UNREADABLE:
            return []
        pairs = []
        for name, new in (("id", self._id), ("created", self._created), ("model", self._model)):
            old = first.get(name) if isinstance(first, dict) else None
            if new and old and old != new:
                begin = b'"%b":' % name.encode()
                pairs += [(begin + gap + _encode(old), begin + gap + _encode(new)) for gap in (b"", b" ")]
        return pairs

    def _first(self, payload: bytes) -> bytes:
        """An event up to the first one that has something new."""
        if self._open:
            return _line(self._counted(payload))
        try:
            event = _decode(payload)
        except sse.UNREADABLE:
            return _line(payload)  # [DONE], or a fault, which the view finds
        if not isinstance(event, dict) or not event.get("choices"):
            return _line(self._counted(payload))
        event["choices"] = [choice for choice in event["choices"] if self._adds(choice)]
        return _line(_encode(event)) if event["choices"] else b""

    def _adds(self, choice: Any) -> bool:
        """Whether it adds to the answer. Takes the role and what is there already out of it."""
        delta = choice.get("delta")
        holder, name = (choice, "text") if delta is None else (delta, "content")
        if delta is not None:
            delta.pop("role", None)
        text = holder.get(name)
        if isinstance(text, str) and text:
            text = self._without_blank(text)
            if text:
                self._open = True
            holder[name] = text
        others = delta is not None and any(value for key, value in delta.items() if key != "content")
        if others or choice.get("finish_reason"):
            self._open = True
            return True
        return bool(text)

    def _without_blank(self, text: str) -> str:
        blank = self._blank
        if blank.startswith(text):
            self._blank = blank[len(text) :]
            return ""
        self._blank = ""
        return text.removeprefix(blank)

    def _counted(self, payload: bytes) -> bytes:
        """An event with its usage, if it has one, as that of the whole answer."""
        if _USAGE not in payload:
            return payload
        try:
            fields = _fields.decode(payload)
            usage = _decode(fields["usage"])
            prompt_tokens = max(0, usage["prompt_tokens"] - self._tokens)
            total_tokens = usage["prompt_tokens"] + usage["completion_tokens"]
        except (*sse.UNREADABLE, KeyError, TypeError):
            return payload
        usage |= {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": total_tokens - prompt_tokens,
            "total_tokens": total_tokens,
        }
        details = usage.get("prompt_tokens_details")
        if isinstance(details, dict) and isinstance(details.get("cached_tokens"), int):
            details["cached_tokens"] = min(details["cached_tokens"], prompt_tokens)
        fields["usage"] = Raw(_encode(usage))
        return _encode(fields)


def _line(payload: bytes) -> bytes:
    return b"data: " + payload + b"\n\n"


def closing(
    *, id: str, created: int, model: str, chat: bool, finish_reason: str | None, usage: tuple[int, int] | None
) -> bytes:
    """The end of an answer of which nothing is missing but its end, in the engine's words.

    `finish_reason` and `usage`, prompt and completion, are left out where they were told.
    """
    head = {"id": id, "created": created, "model": model}
    head["object"] = "chat.completion.chunk" if chat else "text_completion"
    out = b""
    if finish_reason is not None:
        shape: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
        out += _line(_encode({"choices": [{"index": 0, **shape, "finish_reason": finish_reason}], **head}))
    if usage is not None:
        prompt, completion = usage
        told = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        out += _line(_encode({"choices": [], **head, "usage": told}))
    return out + sse.DONE
