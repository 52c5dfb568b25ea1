"""A gateway and workers with a Redis between them: the same answers, the same refusals, the same promises."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest
from pool import Pool, Worker, chat, until
from rawhttp import Answer, Client, ask, events, post
from streams import words_of

from clients import client_at
from inhouse.fake.settings import Settings
from serving import serving

USER = [{"role": "user", "content": "of the sea"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": USER, "max_tokens": 12},
    "/v1/completions": {"prompt": ["of the sea", "of the land"], "max_tokens": 12},
    "/v1/responses": {"input": "of the sea", "max_output_tokens": 12},
    "/v1/messages": {"messages": USER, "max_tokens": 12},
    "/v1/embeddings": {"input": ["of the sea", "of the land"]},
}


def body(text: str, tokens: int = 200, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": "demo", "messages": messages, "max_tokens": tokens, "ignore_eos": True, "stream": True, **fields}


def text_of(answer: Answer) -> str:
    """Of a streamed chat that came to its end."""
    assert answer.status == 200, answer
    found = events(answer.body)
    assert found.pop() == "[DONE]", answer.body[-300:]
    return "".join(choice["delta"].get("content") or "" for one in found for choice in one["choices"])


def plain(document: Any) -> Any:
    """What two answers to one request have in common: all but names and times."""
    if isinstance(document, dict):
        return {name: plain(value) for name, value in document.items() if name not in ("id", "created", "created_at")}
    return [plain(one) for one in document] if isinstance(document, list) else document


def test_each_api_answers_as_it_does_without_a_queue(pool: Pool) -> None:
    """Whole and streamed; the gateway counts the same usage."""
    worker = pool.worker()
    queued = pool.gateway()
    assert worker.engine is not None
    folder = pool.folder / "direct"
    folder.mkdir()
    direct_stack = f"models: {{demo: {{endpoints: ['{worker.engine.url}'], engine: sglang}}}}\n"
    with serving(folder, direct_stack) as direct:
        for path, fields in BODIES.items():
            for stream in (False, True):
                if stream and path == "/v1/embeddings":
                    continue
                asked = post({"model": "demo", **fields, **({"stream": True} if stream else {})}, path=path)
                one, other = ask(queued, asked), ask(direct, asked)
                assert one.status == other.status == 200, (path, one)
                if not stream:
                    assert _without_cache(plain(one.json)) == _without_cache(plain(other.json)), path
                else:
                    assert one.body.count(b"\n\n") == other.body.count(b"\n\n"), path


def _without_cache(document: Any) -> Any:
    text = json.dumps(document)
    assert text
    if isinstance(document, dict):
        return {
            name: _without_cache(value)
            for name, value in document.items()
            if "cache" not in name and "details" not in name and name not in ("input_tokens", "output")
        }
    return [_without_cache(one) for one in document] if isinstance(document, list) else document


def test_a_refusal_of_the_engine_keeps_its_class(pool: Pool) -> None:
    """What an engine says is too long is told as that, with both numbers, though a worker met it."""
    pool.worker(context_tokens=64)
    gateway = pool.gateway()
    answer = ask(gateway, post(json.loads(chat("word " * 400))))
    assert (answer.status, answer.code) == (400, "context_length_exceeded")


def test_the_vendors_own_client_streams_through_it(pool: Pool) -> None:
    """Text and usage of one answer."""
    pool.worker()
    gateway = pool.gateway()
    client = client_at(gateway)
    messages: Any = USER
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model="demo", messages=messages, max_tokens=9, stream=True, stream_options=options
        )
    )
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 9
    assert "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def test_a_hang_up_reaches_the_worker_within_a_second(pool: Pool) -> None:
    """In the middle of an answer and before its first token; nothing of it stays in Redis."""
    worker = pool.worker(tokens_per_s=20)
    gateway = pool.gateway()
    for ttft_s in (0.0, 30.0):
        _set(worker, ttft_s=ttft_s)
        client = Client(gateway)
        client.send(post(body("of the sea", 2000)))
        if not ttft_s:
            client.read_until(b'"content":"')
        until(lambda: _running(worker) == 1, "it runs")
        client.close()
        until(lambda: _running(worker) == 0, "the engine is told", 1.0)
    until(lambda: not pool.leftovers(), "nothing is left in Redis", 2.0)


def test_a_client_that_reads_slowly_holds_up_its_worker_alone(pool: Pool) -> None:
    """Redis holds a bounded part of an answer nobody reads, and all of it comes once it is read."""
    pool.worker(slots=2, model="context: 100000", context_tokens=100_000)
    gateway = pool.gateway(model="context: 100000")
    with Client(gateway, receive_buffer=4096) as slow:
        asked = body("of the sea", 40_000)
        slow.send(post(asked))
        first = slow.read_until(b"\r\n\r\n")
        assert b" 200 " in first
        assert text_of(ask(gateway, post(body("of the land", 50)))) == words_of(body("of the land", 50))
        until(lambda: _settled(pool), "the worker is held up, or has said all of it")
        rest = slow.read_until(b"\r\n0\r\n\r\n")
    said = "".join(json.loads(b'"' + part.partition(b'"')[0] + b'"') for part in rest.split(b'"content":"')[1:])
    assert said == words_of(asked, Settings(context_tokens=100_000))
    assert b"[DONE]" in rest


def test_more_requests_than_slots_wait_in_the_gateway(pool: Pool) -> None:
    """Redis never has more jobs than slots and `ahead`; those that wait hear of it, and are let in one by one."""
    pool.settings = "ahead: 1"
    worker = pool.worker(slots=2, tokens_per_s=20)
    gateway = pool.gateway(model="queue_notice_every: 0.2 s")
    clients = [Client(gateway) for _ in range(8)]
    for number, client in enumerate(clients):
        client.send(post(body(f"{number}", 10)))
    until(lambda: _running(worker) == 2, "both slots run")
    assert len([key for key in pool.leftovers() if ":job:" in key]) <= 3
    parts = [client.read_until(b"\r\n0\r\n\r\n") for client in clients]
    assert all(b"[DONE]" in part for part in parts)
    assert any(b": queued" in part for part in parts)
    for client in clients:
        client.close()
    assert worker.engine is not None
    assert worker.engine.stats()["running_max"] <= 2


def test_without_a_worker_requests_wait_for_one(pool: Pool) -> None:
    """A worker that comes later takes what has waited; a gateway says that it is ready for that."""
    gateway = pool.gateway(ready=False)
    with Client(gateway) as client:
        client.send(post(body("of the sea", 10)))
        until(lambda: gateway.get("/slots")[0]["waiting"] == 1, "it waits")
        assert gateway.get("/health/ready")["status"] == "ok"
        pool.worker()
        assert text_of(client.answer()) == words_of(body("of the sea", 10))


def test_without_a_worker_the_wait_ends_in_time(pool: Pool) -> None:
    """Who does not want to wait is told that no worker is there."""
    gateway = pool.gateway(model="load_wait: 0 s", ready=False)
    answer = ask(gateway, post(json.loads(chat())))
    assert (answer.status, answer.code) == (503, "model_unavailable")
    assert "inhouse worker" in answer.json["error"]["message"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_stop_loses_nothing(pool: Pool, number: int) -> None:
    """SIGTERM: what runs comes to its end there. SIGINT: it goes on at another one. Either way one whole stream."""
    pair = pool.workers(2, tokens_per_s=40)
    gateway = pool.gateway()
    asked = body("of the sea", 60)
    with Client(gateway) as client:
        client.send(post(asked))
        beginning = client.read_until(b'"content":"')
        first, second = sorted(pair, key=_running, reverse=True)
        assert first.stop(number) == 0
        rest = beginning + client.read_until(b"\r\n0\r\n\r\n")
    assert b"[DONE]" in rest
    said = b"".join(part.partition(b'"')[0] for part in rest.split(b'"content":"')[1:])
    assert said.decode() == words_of(asked)
    assert (b": failover 1" in rest) == (number == signal.SIGINT)
    assert (_asked(second) == 1) == (number == signal.SIGINT)


def test_the_demo_model_through_a_worker(pool: Pool) -> None:
    """The engine that comes along, started by the worker; quotas, audit and explanation as ever."""
    pool.worker_of("models: {demo: {source: demo, queued: true, slots: 2}}\n" + pool.queue())
    gateway = pool.gateway()
    answer = ask(gateway, post(json.loads(chat("Who are you?", max_tokens=8))))
    assert answer.status == 200
    assert answer.json["usage"]["completion_tokens"] == 8
    story = gateway.get(f"/admin/requests/{answer.headers['x-request-id']}")["requests"][0]
    assert [step["what"] for step in story["steps"] if step["what"] == "asked"] == ["asked"]


def _settled(pool: Pool) -> bool:
    """Whether nothing is added to the answers in Redis for a while."""
    sizes = []
    for _ in range(5):
        outs = [key for key in pool.leftovers() if ":out:" in key]
        sizes.append([pool.ask_redis("MEMORY", "USAGE", key) for key in outs])
    assert all(size is None or size < 12 * 1024 * 1024 for sizes_now in sizes for size in sizes_now)
    return all(size == sizes[0] for size in sizes)


def _set(worker: Worker, **settings: Any) -> None:
    assert worker.engine is not None
    worker.engine.set(**settings)


def _running(worker: Worker) -> int:
    assert worker.engine is not None
    return int(worker.engine.stats()["running"])


def _asked(worker: Worker) -> int:
    assert worker.engine is not None
    return int(worker.engine.stats()["requests"])
