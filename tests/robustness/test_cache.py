"""Answers that are given again and generations that are shared, at the real door and with a real engine."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from rawhttp import (
    Answer,
    Client,
    Start,
    ask,
    chat,
    descendants,
    events,
    free_within_a_second,
    frozen,
    gauge,
    head,
    in_service,
    post,
    until,
)

from inhouse.store.sqlite import SqliteStore
from inhouse.tenancy.keys import Rights, mint
from serving import Gateway, serving

STACK = """
models:
  demo: {source: demo, slots: 2, threads: 1, cache: {enabled: true}}
  small: {source: demo, slots: 1, threads: 1, cache: {enabled: true, bytes_max: 40 KiB, entry_bytes_max: 16 KiB}}
tenants:
  few: {limits: {requests_per_minute: 3}}
"""
CHAT, COMPLETIONS, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"
WORDS = iter(f"word number {number}" for number in range(1000))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(tmp_path_factory.mktemp("cache"), STACK) as running:
        running.wait_for(event="replica", state="ready")
        yield running


def fresh(**fields: Any) -> dict[str, Any]:
    """A deterministic request that was not made before."""
    found = chat(max_tokens=12, messages=[{"role": "user", "content": next(WORDS)}], ignore_eos=True, temperature=0)
    return found | fields


def asked(gateway: Gateway, body: dict[str, Any] | bytes, path: str = CHAT, key: str | None = None) -> Answer:
    lines = [f"x-api-key: {key}"] if key else []
    request = post(body, *lines, path=path)
    if key:
        request = request.replace(b"Authorization: Bearer", b"X-Unused:", 1)
    found = ask(gateway, request)
    assert found.status == 200, found
    return found


def source(answer: Answer) -> str | None:
    return answer.headers.get("x-inhouse-cache")


def text_of(answer: Answer) -> str:
    """The text of a chat answer, streamed or not."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        chunks = [event for event in events(answer.body) if event != "[DONE]"]
        return "".join(choice["delta"].get("content") or "" for one in chunks for choice in one["choices"])
    return str(answer.json["choices"][0]["message"]["content"])


def counter(gateway: Gateway, name: str, **labels: str) -> float:
    page = ask(gateway, head("GET", "/metrics", key=None)).body.decode()
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    lines = [line for line in page.splitlines() if line.startswith(f"{name}{{") and all(one in line for one in wanted)]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def engine_of(gateway: Gateway, model: str = "demo") -> tuple[int, str]:
    """Process id and socket of the engine that serves the model."""
    for pid in descendants(gateway.process.pid):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if "--alias" in words and words[words.index("--alias") + 1] == model:
            return pid, words[words.index("--host") + 1]
    raise AssertionError(f"no engine of {model}")


def tokens_made(gateway: Gateway) -> int:
    """Tokens that the engine has generated in its life, as it counts them itself."""
    with socket.socket(socket.AF_UNIX) as own:
        own.settimeout(30)
        own.connect(engine_of(gateway)[1])
        own.sendall(b"GET /metrics HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
        page = b""
        while data := own.recv(1 << 16):
            page += data
    [line] = [line for line in page.decode().splitlines() if line.startswith("llamacpp:tokens_predicted_total ")]
    return int(float(line.split()[1]))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9}),
        (CHAT, {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9, "n": 2}),
        (COMPLETIONS, {"prompt": "hello", "max_tokens": 9}),
        (RESPONSES, {"input": "hello there", "max_output_tokens": 9}),
        (MESSAGES, {"messages": [{"role": "user", "content": "hello you"}], "max_tokens": 9}),
        ("/generate", {"text": "hello again", "max_tokens": 9}),
    ],
)
def test_the_same_request_again(gateway: Gateway, path: str, body: dict[str, Any], stream: bool) -> None:
    """The same answer in the same form, without the engine, with ids of its own."""
    body = body | {"model": "demo", "temperature": 0, "stream": stream}
    first = asked(gateway, body, path)
    made = tokens_made(gateway)
    again = asked(gateway, body, path)
    assert source(first) in ("miss", "hit")
    assert source(again) == "hit"
    assert tokens_made(gateway) == made
    ids = [{one.get("id") for one in shown(answer, stream) if "id" in one} for answer in (first, again)]
    assert not ids[0] & ids[1]
    assert plain(shown(first, stream)) == plain(shown(again, stream))


def shown(answer: Answer, stream: bool) -> list[dict[str, Any]]:
    return [one for one in events(answer.body) if one != "[DONE]"] if stream else [answer.json]


OWN = {"id", "created", "created_at", "completed_at", "item_id", "usage"}


def plain(value: Any) -> Any:
    """Without what belongs to one answer alone: ids, times, and where the prompt came from."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items() if name not in OWN}
    return [plain(one) for one in value] if isinstance(value, list) else value


def test_embeddings(gateway: Gateway) -> None:
    """Each input is kept for itself, so a list with one new text asks the engine for that one only."""
    body = {"model": "demo", "input": [next(WORDS), next(WORDS)]}
    first = asked(gateway, body, "/v1/embeddings")
    again = asked(gateway, body | {"input": body["input"][::-1]}, "/v1/embeddings")
    assert (source(first), source(again)) == ("miss", "hit")
    assert [one["embedding"] for one in first.json["data"]] == [one["embedding"] for one in again.json["data"]][::-1]
    assert first.json["usage"] == again.json["usage"]
    assert source(asked(gateway, body | {"input": [*body["input"], next(WORDS)]}, "/v1/embeddings")) == "miss"


def test_usage_and_counters(gateway: Gateway) -> None:
    """A hit tells the length of its answer and the prompt as cached; what is booked is no generated token."""
    body = fresh()
    used = asked(gateway, body).json["usage"]
    names = [("inhouse_tokens_total", kind) for kind in ("prompt", "cached", "completion", "reused")]
    before = [counter(gateway, name, kind=kind, model="demo") for name, kind in names]
    hits = counter(gateway, "inhouse_cache_requests_total", source="hit", model="demo")
    again = asked(gateway, body).json["usage"]
    prompt, completion = used["prompt_tokens"], used["completion_tokens"]
    assert again == used | {"prompt_tokens_details": {"cached_tokens": prompt}}
    after = [counter(gateway, name, kind=kind, model="demo") for name, kind in names]
    grown = [late - early for early, late in zip(before, after, strict=True)]
    assert grown == [prompt, prompt, 0, completion]
    assert counter(gateway, "inhouse_cache_requests_total", source="hit", model="demo") == hits + 1
    until(lambda: [line for line in gateway.log if '"cache":"hit"' in line], "the log says it")


def test_a_stream_and_a_document(gateway: Gateway) -> None:
    """What was generated for a client that streams serves one that does not, and one of another API."""
    body = fresh()
    streamed = asked(gateway, body | {"stream": True})
    whole = asked(gateway, body)
    assert (source(streamed), source(whole)) == ("miss", "hit")
    assert text_of(streamed) == text_of(whole)
    body = {"model": "demo", "max_tokens": 7, "temperature": 0}
    question = next(WORDS)
    first = asked(gateway, body | {"messages": [{"role": "user", "content": question}]})
    other = asked(gateway, body | {"text": question}, "/generate")
    assert source(other) == "hit"
    assert other.json["text"] == text_of(first)


def test_the_form_of_a_body(gateway: Gateway) -> None:
    """The order of fields, white space and fields that reach no engine make no difference."""
    body = fresh()
    asked(gateway, body)
    turned = dict(reversed(body.items())) | {"user": "somebody", "metadata": {"a": "b"}}
    assert source(asked(gateway, json.dumps(turned, indent=3).encode())) == "hit"


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0, "seed": 1},
        {"temperature": 1.5, "seed": 1},
        {"max_tokens": 13},
        {"top_p": 0.5},
        {"top_k": 3},
        {"min_p": 0.1},
        {"stop": "x"},
        {"presence_penalty": 1},
        {"frequency_penalty": 1},
        {"repeat_penalty": 1.1},
        {"logit_bias": {"5": 1}},
        {"logprobs": True},
        {"ignore_eos": False},
        {"response_format": {"type": "json_object"}, "ignore_eos": False},
        {"model": "small"},
        {"messages": [{"role": "system", "content": "hello"}]},
    ],
)
def test_a_request_that_differs(gateway: Gateway, change: dict[str, Any]) -> None:
    """Whatever reaches the engine, or changes who answers, makes another request of it."""
    body = fresh()
    asked(gateway, body)
    assert source(asked(gateway, body | change)) == "miss"
    assert source(asked(gateway, body | change)) == "hit"
    assert source(asked(gateway, body)) == "hit"


@pytest.mark.parametrize("change", [{"temperature": None}, {"temperature": 0.1}, {"temperature": 1, "seed": -1}])
def test_a_request_whose_answer_may_differ(gateway: Gateway, change: dict[str, Any]) -> None:
    """It is never answered from the cache, and says nothing of one."""
    body = fresh(**change)
    assert [source(asked(gateway, body)) for _ in range(2)] == [None, None]


def key_of(gateway: Gateway, tenant: str) -> str:
    with SqliteStore(gateway.state_dir) as store:
        key = mint(store, note=tenant, rights=Rights(tenant=tenant), now=time.time()).key
    until(lambda: ask(gateway, head("GET", "/v1/models", f"x-api-key: {key}", key=None)).status == 200, "it is known")
    return key


def test_another_tenant(gateway: Gateway) -> None:
    """It gets nothing of what was generated for others; a second key of the same tenant does."""
    body = fresh()
    one, twin, other = key_of(gateway, "one"), key_of(gateway, "one"), key_of(gateway, "other")
    assert [source(asked(gateway, body, key=key)) for key in (one, other, twin)] == ["miss", "miss", "hit"]


def test_a_hit_counts_as_a_request(gateway: Gateway) -> None:
    """The fourth in a minute is refused, hit or not."""
    body, key = fresh(), key_of(gateway, "few")
    assert [source(asked(gateway, body, key=key)) for _ in range(3)] == ["miss", "hit", "hit"]
    request = post(body, f"x-api-key: {key}").replace(b"Authorization: Bearer", b"X-Unused:", 1)
    refused = ask(gateway, request)
    assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
    assert source(refused) is None


def test_a_hit_needs_no_slot(gateway: Gateway) -> None:
    """While all slots are taken, it is answered at once."""
    body = fresh()
    asked(gateway, body)
    busy = [Client(gateway) for _ in range(2)]
    for client in busy:
        client.send(post(fresh(stream=True, max_tokens=1900)))
        client.read_until(b"data: ")
    assert in_service(gateway) == 2
    assert source(asked(gateway, body)) == "hit"
    assert in_service(gateway) == 2
    for client in busy:
        client.close()
    free_within_a_second(gateway)


def test_thirty_at_once(gateway: Gateway) -> None:
    """Streaming or not, they get the same answer from one generation, which is booked once."""
    body = fresh(max_tokens=300)
    made = tokens_made(gateway)
    booked = counter(gateway, "inhouse_tokens_total", kind="completion", model="demo")
    clients = [Client(gateway) for _ in range(30)]
    for number, client in enumerate(clients):
        client.send(post(body | {"stream": number % 2 == 0}))
    answers = [client.answer() for client in clients]
    for client in clients:
        client.close()
    assert {answer.status for answer in answers} == {200}
    assert len({text_of(answer) for answer in answers}) == 1
    sources = [source(answer) for answer in answers]
    assert sources.count("miss") == 1
    assert set(sources) <= {"miss", "shared", "hit"}
    assert sources.count("shared") > 0
    assert tokens_made(gateway) - made == 300
    assert counter(gateway, "inhouse_tokens_total", kind="completion", model="demo") - booked == 300
    ids = {str(events(one.body)[0]["id"] if number % 2 == 0 else one.json["id"]) for number, one in enumerate(answers)}
    assert len(ids) == 30


def test_the_first_of_several_hangs_up(gateway: Gateway) -> None:
    """The others are served to the end, without another generation."""
    body = fresh(max_tokens=600, stream=True)
    made = tokens_made(gateway)
    first, others = Client(gateway), [Client(gateway) for _ in range(3)]
    first.send(post(body))
    first.read_until(b"data: ")
    for client in others:
        client.send(post(body))
    heads = [client.read_until(b"data: ") for client in others]
    first.close()
    assert all(b"x-inhouse-cache: shared" in one for one in heads)
    assert all(b"[DONE]" in client.answer_body() for client in others)
    assert tokens_made(gateway) - made == 600
    for client in others:
        client.close()


def test_all_of_several_hang_up(gateway: Gateway) -> None:
    """The generation ends, its slot is free within a second, and nothing of it is kept."""
    body = fresh(max_tokens=1900, stream=True)
    clients = [Client(gateway) for _ in range(3)]
    for client in clients:
        client.send(post(body))
        client.read_until(b"data: ")
    assert in_service(gateway) == 1
    for client in clients:
        client.close()
    free_within_a_second(gateway)
    with Client(gateway) as client:
        client.send(post(body))
        assert b"x-inhouse-cache: miss" in client.read_until(b"data: ")
    free_within_a_second(gateway)


def test_memory(gateway: Gateway) -> None:
    """However many answers there are, what is kept is within its bytes; the newest is still there."""
    for _ in range(20):
        body = fresh(model="small")
        asked(gateway, body)
        kept = counter(gateway, "inhouse_cache_bytes", model="small")
        assert 0 < kept <= 40 * 1024
    assert 1 <= counter(gateway, "inhouse_cache_entries", model="small") < 20
    assert source(asked(gateway, body)) == "hit"
    long = fresh(model="small", max_tokens=400)
    assert [source(asked(gateway, long)) for _ in range(2)] == ["miss", "miss"], "an answer of more than 16 KiB"


def test_an_engine_that_was_started_anew(start: Start) -> None:
    """What was kept is forgotten: its weights may be others. Those who waited for the dead engine are served."""
    gateway = start("models: {demo: {source: demo, slots: 1, load_wait: 60s, cache: {enabled: true}}}")
    body = fresh()
    asked(gateway, body)
    other = fresh()
    pid, _ = engine_of(gateway)
    with ThreadPoolExecutor(4) as pool, frozen(pid):
        answers = [pool.submit(ask, gateway, post(other)) for _ in range(4)]
        until(lambda: in_service(gateway) == 1, "one generation for all of them")
        os.kill(pid, signal.SIGKILL)
    found = [one.result() for one in answers]
    assert sorted(one.status for one in found) == [200, 200, 200, 502]
    assert len({text_of(one) for one in found if one.status == 200}) == 1
    assert source(asked(gateway, body)) == "miss"


def test_a_model_without_a_cache(start: Start) -> None:
    """Nothing is kept, nothing is said of a cache, and there are no figures of one."""
    gateway = start()
    body = fresh()
    assert [source(asked(gateway, body)) for _ in range(2)] == [None, None]
    assert counter(gateway, "inhouse_cache_entries", model="demo") == 0
    assert gauge(gateway, "inhouse_slots") == 4
