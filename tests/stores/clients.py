"""The official client at a gateway; all of them are closed after the test that made them."""

from __future__ import annotations

import openai

from serving import KEY, Gateway

_OPEN: list[openai.OpenAI] = []


def client_at(door: Gateway, key: str = KEY) -> openai.OpenAI:
    made = openai.OpenAI(base_url=door.base_url, api_key=key, max_retries=0, timeout=30)
    _OPEN.append(made)
    return made


def close_all() -> None:
    while _OPEN:
        _OPEN.pop().close()
