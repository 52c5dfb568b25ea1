"""Two gateways keep answers together: what one has generated the other gives again; without Redis each is alone."""

from __future__ import annotations

import time
from pathlib import Path

import redis as client_library
from crowd import gateways
from one_chat import ask

from fake_engine import FakeEngine, fake_engine
from services import redis_server


def asked(engine: FakeEngine) -> int:
    return int(engine.stats()["requests"])


def until_kept(url: str) -> None:
    """The client has its answer before Redis has it."""
    with client_library.Redis.from_url(url) as client:
        for _ in range(1000):
            if next(client.scan_iter("*:answers:*", count=1000), None) is not None:
                return
            time.sleep(0.01)
    raise AssertionError("no answer is kept")


def test_an_answer_of_another_gateway(tmp_path: Path) -> None:
    """It is given again without the engine, a stack without Redis at that moment asks the engine as ever."""
    with redis_server(tmp_path) as redis, fake_engine(slots=8) as engine:
        stack = (
            f"models: {{chat: {{endpoints: ['{engine.url}'], engine: vllm, cache: {{enabled: true, shared: true}}}}}}\n"
            f"store: {{redis: {{url: '{redis.url}'}}}}\n"
        )
        with gateways(tmp_path, stack, 2) as doors:
            first, _ = ask(doors[0], "hello")
            before = asked(engine)
            assert before >= 1
            until_kept(redis.url)
            again, usage = ask(doors[1], "hello")
            assert again == first
            assert asked(engine) == before
            assert usage["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"]
            redis.kill()
            ask(doors[0], "another question")
            ask(doors[1], "another question")
            assert asked(engine) == before + 2
            assert doors[1].get("/health/ready")["stores"]["cache"] == "away"
