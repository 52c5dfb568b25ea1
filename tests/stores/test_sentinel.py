"""A failover behind Sentinel in the middle of answers: kept ones, and those that come through a queue."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from crowd import gateways, until
from test_kept import BEGIN, CHAT, numbers, posted, stack_of

from fake_engine import fake_engine
from kept_streams import events, text_of
from sentinels import watched

sys.path += [str(Path(__file__).parents[1] / name) for name in ("queue", "robustness", "fleet")]

from pool import Pool
from rawhttp import Client, post
from rawhttp import ask as ask_raw
from streams import body_of, words_of


def test_a_kept_answer_outlasts_a_failover(tmp_path: Path) -> None:
    """It is copied to the new master, and goes on at another gateway without a gap."""
    with (
        watched(tmp_path) as servers,
        fake_engine(tokens_per_s=40, slots=8) as engine,
        gateways(tmp_path, stack_of(engine, servers.url), 2) as doors,
    ):
        body = CHAT | {"max_tokens": 300, "ignore_eos": True}
        seen = events(doors[0], BEGIN, body, most=10)
        servers.fail_over()
        until(lambda: doors[0].get("/health/ready")["stores"]["kept"] == "ok")
        until(lambda: posted(doors[1], {"last-event-id": "0123:4"}).status_code == 404)  # it has found the new one
        seen += events(doors[1], {"last-event-id": seen[-1][0]})
        assert seen[-1][1] == "[DONE]"
        assert numbers(seen) == list(range(len(seen)))
        engine.set(tokens_per_s=10_000)
        assert text_of(seen) == text_of(events(doors[1], BEGIN, body))


def test_a_queue_outlasts_a_failover(tmp_path: Path) -> None:
    """A stream stands still and goes on, whole; new requests are answered by the same gateway and worker."""
    with watched(tmp_path) as servers, contextlib.ExitStack() as exits:
        pool = Pool(tmp_path, servers.second, exits)
        pool.url, pool.settings = servers.url, "lease: 3 s"
        pool.worker(tokens_per_s=20)
        gateway = pool.gateway()
        asked = body_of("of the sea", 200)
        with Client(gateway) as client:
            client.send(post(asked))
            beginning = b""
            for _ in range(5):
                beginning += client.read_until(b'"content":"')
            servers.fail_over()
            answer = beginning + client.read_until(b"\r\n0\r\n\r\n")
        said = b"".join(part.partition(b'"')[0] for part in answer.split(b'"content":"')[1:]).decode()
        assert said == words_of(asked)
        assert ask_raw(gateway, post({**body_of("a", 8), "stream": False})).status == 200
        until(lambda: not pool.leftovers())
