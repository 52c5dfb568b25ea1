"""Two gateways that share nothing send the turns of a conversation to the same engine."""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from crowd import gateways, until

from fake_engine import FakeEngine, fake_engine
from serving import KEY, Gateway

TALKS, ENGINES = 18, 3


def ask(door: Gateway, talk: int, turns: int) -> None:
    """The last of so many turns; each begins with the turns before it."""
    messages = []
    for turn in range(turns):
        messages.append({"role": "user", "content": f"talk {talk}, turn {turn}: " + "and so on and so forth " * 30})
        messages.append({"role": "assistant", "content": "yes"})
    body = {"model": "chat", "messages": messages[:-1], "max_tokens": 2}
    request = urllib.request.Request(
        door.url + "/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {KEY}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        assert json.load(response)["usage"]["completion_tokens"] == 2


def test_a_conversation_that_changes_its_gateway_meets_its_prefix_again(tmp_path: Path) -> None:
    """The second turn meets the engine that had the first, through the other gateway; the talks are spread over all
    engines; many at once with one beginning are spread as well."""
    with ExitStack() as exits:
        engines = [exits.enter_context(fake_engine(slots=8)) for _ in range(ENGINES)]
        urls = ", ".join(f"'{engine.url}'" for engine in engines)
        stack = (
            f"models: {{chat: {{endpoints: [{urls}], engine: openai, slots: 8, routing: {{prefix_agreed: true}}}}}}\n"
        )
        doors = exits.enter_context(gateways(tmp_path, stack, 2))
        for door in doors:
            until(lambda door=door: _ready(door) == ENGINES)
        first, second = [
            [_asked(engines, doors[(talk + turn) % 2], talk, turn + 1) for talk in range(TALKS)] for turn in range(2)
        ]
        assert first == second
        assert len(set(first)) > 1, "spread"
        before = [engine.stats()["requests"] for engine in engines]
        with ThreadPoolExecutor(24) as threads:
            list(threads.map(lambda number: ask(doors[number % 2], 0, 1), range(48)))
        took = [engine.stats()["requests"] - earlier for engine, earlier in zip(engines, before, strict=True)]
        assert sum(took) == 48
        assert max(took) < 48, took


def _asked(engines: list[FakeEngine], door: Gateway, talk: int, turns: int) -> int:
    """Which engine answered."""
    before = [engine.stats()["requests"] for engine in engines]
    ask(door, talk, turns)
    (took,) = [number for number, engine in enumerate(engines) if engine.stats()["requests"] > before[number]]
    return took


def _ready(door: Gateway) -> int:
    """Engines that it has seen."""
    told = [event for event in door.events if event.get("event") == "replica" and event.get("state") == "ready"]
    return len({event["endpoint"] for event in told})
