"""One chat at a gateway, whole."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

from serving import KEY, Gateway


def ask(door: Gateway, text: str) -> tuple[str, Any]:
    """The text of the answer, and its usage."""
    body = {"model": "chat", "messages": [{"role": "user", "content": text}], "max_tokens": 8, "temperature": 0}
    request = urllib.request.Request(
        door.url + "/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {KEY}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as response:
        document = json.load(response)
    return document["choices"][0]["message"]["content"], document["usage"]
