"""The engine as a process, spoken to by OpenAI's own client and by plain HTTP."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from engine_process import EngineProcess, transformers_engine
from tiny_models import CONTEXT_TOKENS

ENDLESS = {"ignore_eos": True}
"""Random weights say the end at a random place."""


@pytest.fixture(scope="module")
def client(engine: EngineProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=engine.url + "/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def ask(client: openai.OpenAI, text: str, **more: Any) -> Any:
    more = {"max_tokens": 24, "temperature": 0, "extra_body": ENDLESS, **more}
    return client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": text}], **more)


def streamed(client: openai.OpenAI, text: str, **more: Any) -> tuple[str, Any, Any]:
    """Text, finish reason and usage of a stream."""
    said, finish, usage = "", None, None
    for chunk in ask(client, text, stream=True, stream_options={"include_usage": True}, **more):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            said += choice.delta.content or ""
            finish = choice.finish_reason or finish
    return said, finish, usage


def test_a_chat_whole_and_streamed(client: openai.OpenAI) -> None:
    """Both say the same, count the same and end for the same reason."""
    whole = ask(client, "How are you?")
    said, finish, usage = streamed(client, "How are you?")
    assert said == whole.choices[0].message.content
    assert len(said) > 10
    assert finish == whole.choices[0].finish_reason == "length"
    assert usage.completion_tokens == whole.usage.completion_tokens == 24
    assert usage.prompt_tokens == whole.usage.prompt_tokens == len("<|user|>") // 8 + len("How are you?") + 2


def test_more_chats_at_once_than_rows(engine: EngineProcess, client: openai.OpenAI) -> None:
    """Each stream gets its own answer, the one that it gets alone; they were computed together."""
    texts = [f"question {'x' * (3 * number)}" for number in range(8)]
    alone = [streamed(client, text, max_tokens=40)[0] for text in texts]
    passes = engine.figure("passes_total")
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda text: streamed(client, text, max_tokens=40)[0], texts))
    assert together == alone
    assert engine.figure("passes_total") - passes < 8 * 40


def test_several_answers(client: openai.OpenAI) -> None:
    """`n` answers have an index each, and with a seed they differ in a way that repeats."""
    found = [ask(client, "tell me", n=3, seed=4, temperature=1) for _ in range(2)]
    texts = [[choice.message.content for choice in one.choices] for one in found]
    assert texts[0] == texts[1]
    assert len(set(texts[0])) == 3
    assert found[0].usage.completion_tokens == 3 * 24


def test_a_stop_sequence(client: openai.OpenAI) -> None:
    """The answer ends before it, streamed too, and says that it was stopped."""
    whole = ask(client, "How are you?").choices[0].message.content
    stop = whole[7:10]
    expected = whole[: whole.find(stop)]
    assert ask(client, "How are you?", stop=stop).choices[0].message.content == expected
    assert streamed(client, "How are you?", stop=["never said", stop])[:2] == (expected, "stop")


def test_the_model_says_the_end(client: openai.OpenAI) -> None:
    """The token that ends an answer is counted and not shown."""
    answer = ask(client, "bye", extra_body={"logit_bias": {"2": 100}})
    assert answer.choices[0].message.content == ""
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.completion_tokens == 1


def test_log_probabilities(client: openai.OpenAI) -> None:
    """One for each token, with as many alternatives as asked for; greedy, the token is the first of them."""
    answer = ask(client, "hello", logprobs=True, top_logprobs=3, max_tokens=5)
    content = answer.choices[0].logprobs.content
    assert len(content) == 5
    for token in content:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token
        assert token.logprob == pytest.approx(token.top_logprobs[0].logprob)
    text = client.completions.create(
        model="tiny", prompt="hello", max_tokens=4, temperature=0, logprobs=2, extra_body=ENDLESS
    )
    assert len(text.choices[0].logprobs.tokens) == len(text.choices[0].logprobs.text_offset) == 4


def test_completions_of_several_prompts(client: openai.OpenAI, engine: EngineProcess) -> None:
    """Texts and token ids, streamed and whole; an answer is that of its own prompt."""
    more: dict[str, Any] = {"model": "tiny", "max_tokens": 12, "temperature": 0, "extra_body": ENDLESS}
    single = [client.completions.create(prompt=prompt, **more).choices[0].text for prompt in ("one", "two thirds")]
    both = client.completions.create(prompt=["one", "two thirds"], **more)
    assert [choice.text for choice in both.choices] == single
    ids = engine.ask("/tokenize", {"content": "two thirds"}).json()["tokens"]
    assert client.completions.create(prompt=ids, **more).choices[0].text == single[1]
    said = ["", ""]
    for chunk in client.completions.create(prompt=["one", "two thirds"], stream=True, **more):
        for choice in chunk.choices:
            said[choice.index] += choice.text
    assert said == single


def test_an_answer_that_is_gone_on_with(client: openai.OpenAI) -> None:
    """A chat that ends with the assistant, and the wish to continue it, goes on where that stopped."""
    whole = ask(client, "How are you?").choices[0].message.content
    messages: list[Any] = [{"role": "user", "content": "How are you?"}, {"role": "assistant", "content": whole[:9]}]
    body = {**ENDLESS, "continue_final_message": True, "add_generation_prompt": False}
    rest = client.chat.completions.create(
        model="tiny", messages=messages, max_tokens=24 - 9, temperature=0, extra_body=body
    )
    assert rest.choices[0].message.content == whole[9:]


def test_generate(engine: EngineProcess, client: openai.OpenAI) -> None:
    """`{text, max_tokens, temperature}` → the text that a chat would answer, whole and streamed."""
    body = {"text": "How are you?", "max_tokens": 24, "temperature": 0, "ignore_eos": True}
    whole = engine.ask("/generate", body).json()
    assert whole["text"] == ask(client, "How are you?").choices[0].message.content
    assert (whole["finish_reason"], whole["usage"]["completion_tokens"]) == ("length", 24)
    events = engine.ask("/generate", {**body, "stream": True}).body.decode().strip().split("\n\n")
    assert events[-1] == "data: [DONE]"
    told = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    assert "".join(one["text"] for one in told) == whole["text"]
    assert told[-1]["usage"]["completion_tokens"] == 24


def test_tokens_are_counted_and_read_back(engine: EngineProcess) -> None:
    """The small paths of llama-server: what a gateway asks before it cuts a prompt."""
    tokens = engine.ask("/tokenize", {"content": "so it is"}).json()["tokens"]
    assert engine.ask("/detokenize", {"tokens": tokens}).json() == {"content": "so it is"}
    chat = {"messages": [{"role": "user", "content": "so it is"}]}
    counted = engine.ask("/v1/chat/completions/input_tokens", chat).json()["input_tokens"]
    assert counted == engine.ask("/v1/chat/completions", {**chat, "max_tokens": 1}).json()["usage"]["prompt_tokens"]
    assert engine.ask("/props").json()["total_slots"] == len(engine.ask("/slots").json()) == 4


CHAT = {"messages": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/v1/chat/completions", {"messages": []}, 400, "messages"),
        ("/v1/chat/completions", {**CHAT, "temperature": 9}, 400, "temperature"),
        ("/v1/chat/completions", {**CHAT, "max_tokens": 0}, 400, "max_tokens"),
        ("/v1/chat/completions", {**CHAT, "n": 99}, 400, "n"),
        ("/v1/chat/completions", {**CHAT, "stop": ["x"] * 17}, 400, "stop"),
        ("/v1/chat/completions", {**CHAT, "tools": [{"type": "function"}]}, 400, "tools"),
        ("/v1/chat/completions", {**CHAT, "response_format": {"type": "json_object"}}, 400, "response_format"),
        ("/v1/chat/completions", {**CHAT, "logit_bias": {"word": 1}}, 400, "logit_bias"),
        ("/v1/chat/completions", {**CHAT, "top_logprobs": 2}, 400, "top_logprobs"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            400,
            "messages[0].content[0]",
        ),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x" * 66_000}]}, 400, "messages"),
        ("/v1/completions", {"prompt": [5, 100_000]}, 400, None),
        ("/v1/completions", {"prompt": [5, "x"]}, 400, "prompt"),
        ("/v1/completions", {"prompt": ["x"] * 17}, 400, "prompt"),
        ("/generate", {}, 400, "text"),
        ("/detokenize", {"tokens": [-1]}, 400, "tokens"),
        ("/v1/embeddings", {"input": "x"}, 400, None),
        ("/v1/nothing", {}, 404, None),
        ("/health", {}, 405, None),
    ],
)
def test_requests_that_cannot_be_answered(
    engine: EngineProcess, path: str, body: Any, status: int, told: str | None
) -> None:
    """An error in OpenAI's shape, which names the field."""
    reply = engine.ask(path, body)
    error = reply.json()["error"]
    assert (reply.status, error["param"]) == (status, told)
    assert error["message"]
    assert error["type"] == "invalid_request_error"


def test_a_prompt_longer_than_the_context(engine: EngineProcess) -> None:
    """It is told in numbers, under the names by which gateways know them."""
    error = engine.ask("/v1/completions", {"prompt": "x" * 66_000}).json()["error"]
    told = (error["code"], error["n_prompt_tokens"], error["n_ctx"])
    assert told == ("context_length_exceeded", 66_000, CONTEXT_TOKENS)


def test_fields_that_do_not_exist(engine: EngineProcess) -> None:
    """They are passed over, and so are tools that are not to be used; what is no JSON is refused."""
    body = {**CHAT, "max_tokens": 2, "no_such_field": {"a": 1}, "tools": [{"type": "x"}], "tool_choice": "none"}
    assert engine.ask("/v1/chat/completions", body).status == 200
    connection = http.client.HTTPConnection(engine.url.removeprefix("http://"))
    connection.request("POST", "/v1/chat/completions", b"{no")
    reply = connection.getresponse()
    assert (reply.status, json.loads(reply.read())["error"]["code"]) == (400, "invalid_json")
    connection.close()


def test_a_client_templates_variables_and_no_templates(engine: EngineProcess, client: openai.OpenAI) -> None:
    """A template of the client's own has no effect."""
    usual = ask(client, "hi").choices[0].message.content
    body = {**ENDLESS, "chat_template_kwargs": {"chat_template": "{{ 7 * 7 }}", "enable_thinking": False}}
    assert ask(client, "hi", extra_body=body).choices[0].message.content == usual


def _begun(engine: EngineProcess, body: dict[str, Any]) -> http.client.HTTPConnection:
    """A request on a connection of its own, whose answer is not read."""
    connection = http.client.HTTPConnection(engine.url.removeprefix("http://"))
    connection.request("POST", "/v1/chat/completions", json.dumps(body))
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_hangs_up(engine: EngineProcess, stream: bool) -> None:
    """Its rows leave the batch at the next token, whether its answer was streamed or not; the others go on."""
    engine.until("requests_running", 0)
    left = engine.figure("left_total")
    gone = _begun(engine, {**CHAT, **ENDLESS, "max_tokens": 60_000, "stream": stream, "n": 2})
    engine.until("requests_running", 2)
    stays = _begun(engine, {**CHAT, **ENDLESS, "max_tokens": 100, "stream": stream})
    gone.close()
    reply = stays.getresponse()
    assert reply.status == 200
    assert reply.read().endswith(b"[DONE]\n\n" if stream else b"}")
    stays.close()
    engine.until("left_total", left + 2)
    engine.until("requests_running", 0)


def test_the_queue_is_full(engine: EngineProcess) -> None:
    """429 with the time to come back; whoever waits and leaves makes room at once."""
    engine.until("requests_running", 0)
    running = _begun(engine, {**CHAT, **ENDLESS, "max_tokens": 60_000, "n": 4})
    engine.until("requests_running", 4)
    waiting = [_begun(engine, {**CHAT, "max_tokens": 1, "n": 2}) for _ in range(2)]
    engine.until("requests_waiting", 4)
    reply = engine.ask("/v1/chat/completions", CHAT)
    assert (reply.status, reply.json()["error"]["code"], reply.headers["retry-after"]) == (429, "queue_full", "1")
    waiting.pop().close()
    engine.until("requests_waiting", 2)
    waiting.append(_begun(engine, {**CHAT, "max_tokens": 1}))
    engine.until("requests_waiting", 3)
    running.close()
    for connection in waiting:
        assert connection.getresponse().status == 200
        connection.close()


def test_the_log_has_nothing_of_what_was_asked(engine: EngineProcess) -> None:
    """Neither prompts nor answers, after answers and refusals."""
    secret = "xylophone"
    engine.ask("/generate", {"text": secret, "max_tokens": 4})
    engine.ask("/generate", {"text": secret, "max_tokens": -4})
    engine.ask("/v1/chat/completions", {"messages": [{"role": secret, "content": secret}]})
    assert secret not in engine.log.read_text()


def test_metrics(engine: EngineProcess) -> None:
    """Counters go up with what was done; both histograms have as many samples as there were tokens."""
    before = {name: engine.figure(name) for name in ("answer_tokens_total", "prompt_tokens_total")}
    first = engine.figure("time_to_first_token_seconds_count")
    later = engine.figure("time_per_output_token_seconds_count")
    engine.ask("/v1/completions", {"prompt": "abc", "max_tokens": 7, **ENDLESS})
    assert engine.figure("answer_tokens_total") == before["answer_tokens_total"] + 7
    assert engine.figure("prompt_tokens_total") == before["prompt_tokens_total"] + 3
    assert engine.figure("time_to_first_token_seconds_count") == first + 1
    assert engine.figure("time_per_output_token_seconds_count") == later + 6


def test_a_life_of_an_engine(wider: Path) -> None:
    """It listens from the beginning and says 503 until its model, in four bits, is there; then it serves. Told to end,
    it does so at once, with an answer under way."""
    with transformers_engine(wider, threads=1, quantize="nf4") as running:
        health = running.ask("/health")
        assert (health.status, health.json()["error"]["code"]) == (503, "model_loading")
        assert running.ask("/v1/chat/completions", CHAT).headers["retry-after"] == "2"
        running.ready()
        assert running.ask("/v1/models").json()["data"][0]["id"] == "wider"
        begun = _begun(running, {**CHAT, **ENDLESS, "max_tokens": 60_000})
        running.until("requests_running", 1)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(timeout=5) == 0
        begun.close()


def test_it_is_told_to_end_while_it_loads(llama: Path) -> None:
    """It ends at once."""
    with transformers_engine(llama, threads=1) as running:
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=5) == 0


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    """The engine ends with a sentence that says so, and what was expected."""
    command = [sys.executable, "-m", "inhouse", "transformers-engine", str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: ")
    assert "has no config.json; expected form" in ended.stderr
