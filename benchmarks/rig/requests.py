"""Chat requests as bytes on the wire, of an exact size."""

from __future__ import annotations

import json
from typing import Any

SMALL_BYTES = 972
LARGE_BYTES = 32 * 1024


def chat(
    model: str,
    key: str,
    *,
    stream: bool,
    tokens: int,
    body_bytes: int | None = None,
    prompt: str = "",
    **more: Any,
) -> bytes:
    """One POST. The prompt is filled with words until the body has `body_bytes`."""
    fields: dict[str, Any] = {"model": model, "max_tokens": tokens, **more}
    if stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}

    def body(text: str) -> bytes:
        messages = [{"role": "system", "content": "You answer briefly."}, {"role": "user", "content": text}]
        return json.dumps({**fields, "messages": messages}, separators=(",", ":")).encode()

    content = body(prompt)
    if body_bytes is not None:
        missing = body_bytes - len(content)
        content = body(prompt + ("lorem ipsum dolor " * (missing // 18 + 1))[:missing])
        assert len(content) == body_bytes
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content
