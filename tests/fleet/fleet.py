"""What the fleet's tests share: stacks, and clients that ask many things at once."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rawhttp import Answer, ask, post

from fake_engine import FakeEngine
from serving import Gateway

Fakes = Callable[..., list[FakeEngine]]
"""Of the fixture `fakes`: (count, **settings) → running engines."""
Start = Callable[..., Gateway]
"""Of the fixture `start`: (stack, ready=…) → a running gateway."""
PROBE = "{interval: 0.1 s, timeout: 0.5 s, connect_timeout: 0.5 s}"


def stack(engines: list[FakeEngine] | list[str], more: str = "", *, engine: str = "vllm", slots: int | None = 4) -> str:
    """One model, `demo`, behind these engines."""
    urls = [engine if isinstance(engine, str) else engine.url for engine in engines]
    count = "" if slots is None else f"slots: {slots}, "
    return (
        f"models: {{demo: {{endpoints: {json.dumps(urls)}, engine: {engine}, {count}probe: {PROBE}, {more}}}}}\n"
    ).replace(", }", "}")


def chat(text: str = "hello", **fields: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": text}], "max_tokens": 8, **fields}


@dataclass
class Load:
    """Requests at once, for as long as it is not told to stop; what they were told."""

    gateway: Gateway
    clients: int
    body: dict[str, Any]
    answers: Counter[Any] = field(default_factory=Counter)
    odd: list[Answer] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._pool = ThreadPoolExecutor(self.clients)
        self._work = [self._pool.submit(self._ask_on, number) for number in range(self.clients)]
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._pool.shutdown()
        for work in self._work:
            work.result()

    @property
    def total(self) -> int:
        return sum(self.answers.values())

    def _ask_on(self, number: int) -> None:
        count = 0
        while not self._over.is_set():
            count += 1
            body = {**self.body, "messages": [{"role": "user", "content": f"{number} {count}"}]}
            answer = ask(self.gateway, post(body))
            whole = answer.status == 200 and (not body.get("stream") or answer.body.endswith(b"data: [DONE]\n\n"))
            self.answers[answer.status if answer.status != 200 or whole else "cut"] += 1
            if not whole:
                self.odd.append(answer)


def together(gateway: Gateway, bodies: list[dict[str, Any]]) -> list[Answer]:
    """All at once."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(lambda body: ask(gateway, post(body)), bodies))


def seen(engine: FakeEngine) -> int:
    """Requests that it has had, those that still run among them."""
    stats = engine.stats()
    found: int = stats["requests"] + stats["running"]
    return found
