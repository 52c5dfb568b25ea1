"""Streams whose events have ids, read a part at a time."""

from __future__ import annotations

import json
from typing import Any

import httpx2

from serving import KEY, Gateway


def events(
    door: Gateway, headers: dict[str, str], body: Any = None, *, most: int = 10_000, path: str = "/v1/chat/completions"
) -> list[tuple[str, str]]:
    """(id, data) of the first events of a stream; then it is left."""
    found: list[tuple[str, str]] = []
    own = {"authorization": f"Bearer {KEY}"} | headers
    with httpx2.stream("POST", f"{door.url}{path}", headers=own, json=body, timeout=30) as reply:
        assert reply.status_code == 200, reply.read()
        id = ""
        for line in reply.iter_lines():
            if line.startswith("id: "):
                id = line.removeprefix("id: ")
            if line.startswith("data: "):
                found.append((id, line.removeprefix("data: ")))
            if len(found) == most:
                break
    return found


def text_of(data: list[tuple[str, str]]) -> str:
    chunks = [json.loads(one) for _, one in data if one != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
