"""The vendors' own clients. Those that a test does not close itself are closed after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from serving import KEY, Gateway

if TYPE_CHECKING:
    import openai


class Closes(Protocol):
    def close(self) -> None: ...


T = TypeVar("T", bound=Closes)

_OPEN: list[Closes] = []


def closed_later(client: T) -> T:
    _OPEN.append(client)
    return client


def client_at(door: Gateway, key: str = KEY, *, timeout_s: float = 30.0) -> openai.OpenAI:
    import openai

    return closed_later(openai.OpenAI(base_url=door.base_url, api_key=key, max_retries=0, timeout=timeout_s))


def close_all() -> None:
    while _OPEN:
        _OPEN.pop().close()
