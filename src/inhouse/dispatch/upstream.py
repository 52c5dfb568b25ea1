"""The model's name on the way to an engine that knows it by another, and on the way back. Bytes in, bytes out.

Every body that is made for an engine names the model first, so its name can be changed without parsing the rest.
"""

from __future__ import annotations

import msgspec

from inhouse.errors import EngineError

_START = b'{"model":"'


def start_of(model: str) -> bytes:
    """How a body begins that names this model: `{"model":"name"`."""
    return b'{"model":' + msgspec.json.encode(model)


def renamed(body: bytes, start: bytes) -> bytes:
    """The body with the model's name replaced."""
    if body.startswith(start) and body[len(start) : len(start) + 1] in (b",", b"}"):
        return body
    if not body.startswith(_START):
        raise EngineError("a request for an engine does not begin with its model")
    at = len(_START)
    while True:  # to the end of the name, past what is escaped in it
        at = body.index(b'"', at)
        backslashes = at - len(body[:at].rstrip(b"\\")) if body[at - 1] == 0x5C else 0
        at += 1
        if backslashes % 2 == 0:
            return start + body[at:]


def shown_model(upstream_model: str | None, model: str) -> tuple[bytes, bytes] | None:
    """What to replace in an answer, and by what. Inside the text of an answer quotes are escaped: it is left alone."""
    if upstream_model is None or upstream_model == model:
        return None
    return b'"model":' + msgspec.json.encode(upstream_model), b'"model":' + msgspec.json.encode(model)
