"""The last events of a stream whose maker is gone, by those who have never seen its request.

Known are its API, what was said of a response last, and how many events there have been.
"""

from __future__ import annotations

from typing import Any

import msgspec

from inhouse.errors import ApiError
from inhouse.wire import errors, messages_render, responses_render


def events(error: ApiError, api: str, shown: bytes, count: int) -> list[bytes]:
    """In the API's own shape, as a view's `fail` would have ended it. `shown`: a response as it was last."""
    if api == "messages":
        return [messages_render.broken_off(error)]
    if api != "responses":
        return [errors.event(error)]
    found = [responses_render.error_event(error, count)]
    if shown:
        body: dict[str, Any] = msgspec.json.decode(shown)
        body |= {"status": "failed", "error": {"code": "server_error", "message": error.message}}
        event = {"type": "response.failed", "response": body, "sequence_number": count + 1}
        found.append(b"event: response.failed\ndata: " + msgspec.json.encode(event) + b"\n\n")
    return found
