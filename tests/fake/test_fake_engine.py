"""The fake engine as a process: what its clients see, how it fails, and a real gateway in front of it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from clients import client_at, closed_later
from fake_engine import FakeEngine, binary, fake_engine
from serving import serving

ASK: list[Any] = [{"role": "user", "content": "tell me something of the sea"}]
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with fake_engine(slots=2, cache_block=4) as running:
        yield running


@pytest.fixture
def plain(engine: FakeEngine) -> Iterator[FakeEngine]:
    """The engine, put back to how it was."""
    before = engine.set()
    yield engine
    engine.set(**before)


def client_of(engine: FakeEngine) -> openai.OpenAI:
    return closed_later(openai.OpenAI(base_url=engine.url + "/v1", api_key="none", max_retries=0, timeout=20))


def connected(engine: FakeEngine) -> socket.socket:
    host, port = engine.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=20)


def posted(body: dict[str, Any], path: str = CHAT) -> bytes:
    data = json.dumps(body).encode()
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def all_of(connection: socket.socket) -> bytes:
    """Everything until the other side closes."""
    found = b""
    while data := connection.recv(1 << 16):
        found += data
    return found


def until(engine: FakeEngine, **wanted: Any) -> None:
    """Waits until the engine's counts are these."""
    end_s = time.monotonic() + 20
    while any(engine.stats()[name] != value for name, value in wanted.items()):
        assert time.monotonic() < end_s, (wanted, engine.stats())


def test_the_official_client(plain: FakeEngine) -> None:
    """Streamed and whole, the same text; usage adds up."""
    client = client_of(plain)
    whole = client.chat.completions.create(model="fake", messages=ASK)
    chunks = list(
        client.chat.completions.create(model="fake", messages=ASK, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert len(text.split()) == 32
    assert whole.usage
    assert chunks[-1].usage
    assert whole.usage.completion_tokens == chunks[-1].usage.completion_tokens == 32
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert [model.id for model in client.models.list()] == ["fake"]
    found = client.embeddings.create(model="fake", input=["a", "b", "a"]).data
    assert found[0].embedding == found[2].embedding != found[1].embedding


def test_a_partial_answer_is_continued(plain: FakeEngine) -> None:
    """Cut at any token, the rest is what would have come; in a chat and in a plain text."""
    client = client_of(plain)
    whole = client.chat.completions.create(model="fake", messages=ASK).choices[0].message.content or ""
    words = whole.split(" ")
    for said in (1, 7, 31):
        partial = {"role": "assistant", "content": " ".join(words[:said])}
        rest = client.chat.completions.create(model="fake", messages=[*ASK, partial])
        assert f"{partial['content']}{rest.choices[0].message.content}" == whole
    text = client.completions.create(model="fake", prompt="Once upon", max_tokens=20).choices[0].text
    first = client.completions.create(model="fake", prompt="Once upon", max_tokens=8).choices[0].text
    second = client.completions.create(model="fake", prompt="Once upon" + first, max_tokens=12).choices[0].text
    assert first + second == text


def test_a_conversation_is_cached(plain: FakeEngine) -> None:
    """The second turn takes all of the first one, answer included, from the cache; another client takes nothing."""
    client = client_of(plain)
    plain.set(cache="slot", cache_block=1)
    first = client.chat.completions.create(model="fake", messages=ASK)
    said = {"role": "assistant", "content": first.choices[0].message.content}
    second = client.chat.completions.create(model="fake", messages=[*ASK, said, *ASK])
    usage, details = second.usage, second.usage and second.usage.prompt_tokens_details
    assert first.usage
    assert usage
    assert details
    assert details.cached_tokens == first.usage.total_tokens
    plain.set(cache="none")
    third = client.chat.completions.create(model="fake", messages=[*ASK, said, *ASK]).usage
    assert third
    assert third.prompt_tokens_details
    assert third.prompt_tokens_details.cached_tokens == 0


def test_tokens(plain: FakeEngine) -> None:
    """Cut and joined again; a chat is counted as it is charged."""
    tokens = plain.ask("/tokenize", {"content": "one two, three"})["tokens"]
    assert plain.ask("/detokenize", {"tokens": tokens})["content"] == "one two, three"
    counted = plain.ask(CHAT + "/input_tokens", {"messages": ASK})["input_tokens"]
    assert plain.ask(CHAT, {"messages": ASK})["usage"]["prompt_tokens"] == counted


def test_a_prompt_that_is_too_long(plain: FakeEngine) -> None:
    """400, with both numbers."""
    plain.set(context_tokens=100)
    with pytest.raises(urllib.error.HTTPError) as refused:
        plain.ask(CHAT, {"messages": [{"role": "user", "content": "many words " * 100}]})
    with refused.value:
        error = json.load(refused.value)["error"]
    assert (refused.value.code, error["type"], error["n_ctx"]) == (400, "exceed_context_size_error", 100)
    assert error["n_prompt_tokens"] == 204


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"messages": 3}', b"\xff"])
def test_a_body_that_cannot_be_read(plain: FakeEngine, body: bytes) -> None:
    with connected(plain) as connection:
        connection.sendall(b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (CHAT.encode(), len(body), body))
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 400 ")


FLAVOURS = {
    "llamacpp": "llamacpp:requests_processing 0",
    "vllm": 'vllm:kv_cache_usage_perc{model_name="fake"} 0',
    "vllm-old": 'vllm:gpu_cache_usage_perc{model_name="fake"} 0',
    "sglang": 'sglang:num_running_reqs{model_name="fake"} 0',
    "tgi": "tgi_queue_size 0",
    "trtllm": 'trtllm_kv_cache_utilization{model_name="fake"} 0',
}


@pytest.mark.parametrize("flavour", [*FLAVOURS, "none"])
def test_metrics(plain: FakeEngine, flavour: str) -> None:
    """Each engine's own names; none at all is a 404."""
    plain.set(metrics_as=flavour)
    if flavour == "none":
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(plain.url + "/metrics", timeout=20)
        refused.value.close()
        return
    with urllib.request.urlopen(plain.url + "/metrics", timeout=20) as response:
        assert FLAVOURS[flavour] in response.read().decode().splitlines()


def test_it_loads(plain: FakeEngine) -> None:
    """503 everywhere a model is needed, until it is loaded."""
    plain.set(load_s=3600)
    for path, body in (("/health", None), (CHAT, {"messages": ASK})):
        with pytest.raises(urllib.error.HTTPError, match="503") as refused:
            plain.ask(path, body)
        with refused.value:
            assert json.load(refused.value)["error"]["message"] == "Loading model"
    plain.set(load_s=0)
    assert plain.ask("/health") == {"status": "ok"}


def test_slots_queue_and_hang_ups(plain: FakeEngine) -> None:
    """Two run, one waits, the fourth is refused; who hangs up makes room at once."""
    plain.set(queue_max=1, tokens_per_s=1)
    held = [connected(plain) for _ in range(3)]
    for connection in held:
        connection.sendall(posted({"messages": ASK, "stream": True}))
    until(plain, running=2, waiting=1)
    assert sum(slot["is_processing"] for slot in plain.ask("/slots")) == 2
    with pytest.raises(urllib.error.HTTPError, match="503") as refused:
        plain.ask(CHAT, {"messages": ASK})
    refused.value.close()
    held[0].close()
    until(plain, running=2, waiting=0)
    for connection in held[1:]:
        connection.close()
    until(plain, running=0)


def test_it_does_not_hear_a_hang_up(plain: FakeEngine) -> None:
    """The slot is held to the end of the answer."""
    plain.set(tokens_per_s=1, deaf=True)
    hang_ups = plain.stats()["hang_ups"]
    with connected(plain) as connection:
        connection.sendall(posted({"messages": ASK, "stream": True}))
        assert connection.recv(100)
    until(plain, hang_ups=hang_ups + 1)
    assert plain.stats()["running"] == 1
    plain.set(tokens_per_s=0)
    until(plain, running=0)


def test_the_pace_of_a_stream(plain: FakeEngine) -> None:
    """It takes as long as was asked for: first token, then the rate."""
    plain.set(ttft_s=0.2, tokens_per_s=100)
    began_s = time.monotonic()
    stream = client_of(plain).chat.completions.create(model="fake", messages=ASK, stream=True)
    times = [time.monotonic() - began_s for chunk in stream if chunk.choices[0].delta.content]
    assert len(times) == 32
    assert times[0] > 0.19
    assert times[-1] > 0.2 + 31 / 100 - 0.02


def test_errors(plain: FakeEngine) -> None:
    plain.set(error_rate=1, error_status=418)
    with pytest.raises(urllib.error.HTTPError, match="418") as refused:
        plain.ask(CHAT, {"messages": ASK})
    refused.value.close()
    assert plain.ask("/health") == {"status": "ok"}


def test_the_same_seed_the_same_failures(plain: FakeEngine) -> None:
    """Half of the requests fail, and the same ones once more."""

    def drawn(seed: int) -> list[int]:
        plain.set(error_rate=0.5, fault_seed=seed)
        found = []
        for _ in range(20):
            try:
                plain.ask(CHAT, {"messages": ASK})
                found.append(200)
            except urllib.error.HTTPError as error:
                with error:
                    found.append(error.code)
        return found

    first = drawn(7)
    assert set(first) == {200, 500}
    drawn(8)
    assert drawn(7) == first


def test_garbage_and_broken_streams(plain: FakeEngine) -> None:
    """What is no HTTP; a stream that ends in the middle, with a clean end of the connection."""
    plain.set(garbage_rate=1)
    with connected(plain) as connection:
        connection.sendall(posted({"messages": ASK}))
        assert not connection.recv(100).startswith(b"HTTP")
    plain.set(garbage_rate=0, truncate_rate=1)
    with connected(plain) as connection:
        connection.sendall(posted({"messages": ASK, "stream": True}))
        answer = all_of(connection)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"[DONE]" not in answer
    until(plain, running=0)


def test_no_answer_a_stall_and_a_slow_one(plain: FakeEngine) -> None:
    """Taken and never answered; begun and never ended; a token at a time."""
    plain.set(half_open_rate=1)
    with connected(plain) as connection:
        connection.sendall(posted({"messages": ASK}))
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    plain.set(half_open_rate=0, stall_rate=1, stall_after_tokens=3)
    with connected(plain) as connection:
        connection.sendall(posted({"messages": ASK, "stream": True}))
        seen = b""
        while seen.count(b"content") < 4:
            seen += connection.recv(1 << 16)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert plain.stats()["running"] == 1
    plain.set(stall_rate=0, drip_rate=1, drip_s=0.05)
    began_s = time.monotonic()
    assert plain.ask(CHAT, {"messages": ASK, "max_tokens": 4})["usage"]["completion_tokens"] == 4
    assert time.monotonic() - began_s > 0.14


def listens(engine: FakeEngine, wanted: bool) -> None:
    """Waits until connections are taken, or are refused: the listener changes a moment after the answer."""
    end_s = time.monotonic() + 20
    while True:
        try:
            connected(engine).close()
            found = True
        except ConnectionError:  # refused; reset, where it came while the listener closed
            found = False
        if found is wanted:
            return
        assert time.monotonic() < end_s


def test_refused_connections(plain: FakeEngine) -> None:
    """Nothing listens; the control port still does, and can turn it back."""
    plain.set(refuse_rate=1)
    listens(plain, False)
    plain.set(refuse_rate=0)
    listens(plain, True)
    assert plain.ask("/health") == {"status": "ok"}


def test_unwell(plain: FakeEngine) -> None:
    plain.set(unhealthy=True)
    with pytest.raises(urllib.error.HTTPError, match="500") as refused:
        plain.ask("/health")
    refused.value.close()
    plain.set(unhealthy=False, health_hangs=True)
    with pytest.raises(TimeoutError):
        plain.ask("/health", timeout_s=0.2)


@pytest.mark.parametrize(
    ("settings", "status"), [({"crash_after_tokens": 40, "crash_status": 7}, 7), ({"crash_after_s": 0.5}, 1)]
)
def test_the_process_ends(settings: dict[str, Any], status: int) -> None:
    """With the status asked for, in the middle of an answer or at a time."""
    with fake_engine(**settings) as running:
        if "crash_after_tokens" in settings:
            running.ask(CHAT, {"messages": ASK})
            with pytest.raises((ConnectionError, urllib.error.URLError)):
                running.ask(CHAT, {"messages": ASK})
        assert running.process.wait(timeout=20) == status


@pytest.mark.parametrize("flags", [["--slots-max", "3", "--error-rate", "2"], ["--metrics-as", "mine"]])
def test_a_wrong_flag(flags: list[str]) -> None:
    """Exit status 2 and what is allowed."""
    done = subprocess.run(
        [sys.executable, "-m", "inhouse", "fake-engine", *flags], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "must be" in done.stderr


def test_on_a_socket_with_flags_of_llama_server(tmp_path: Path) -> None:
    """A stack names it `engine_binary`: a real gateway starts it, sees its slots and context, and relays its words."""
    program = binary(tmp_path, seed=3)
    stack = f"models: {{demo: {{source: demo, slots: 3, context: 512, engine_binary: {program}}}}}"
    with serving(tmp_path, stack) as gateway:
        client = client_at(gateway)
        answer = client.chat.completions.create(model="demo", messages=ASK)
        stream = client.chat.completions.create(model="demo", messages=ASK, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert answer.choices[0].message.content == text
        assert len(text.split()) == 32
        (shown,) = gateway.get("/slots")
        assert [slot["n_ctx"] for slot in shown["slots"]] == [512] * 3
