"""What holds for every engine that is started here, whichever it is: one gateway, a model on each.

Real are those in `REAL`; the others are stand-ins that take the real one's flags and speak its
dialect (`engine_programs`), since they need GPUs or are no packages.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

sys.path += [str(Path(__file__).parents[1] / name) for name in ("hf_engine", "robustness")]

import tiny_models
from rawhttp import ask, post
from tests.weights import hub_server
from tests.weights.hub_server import Repo

import engine_programs
from inhouse.engines.table import ENGINES
from serving import KEY, Gateway, started

REAL = ("llamacpp", "transformers")
STARTED = [name for name, engine in ENGINES.items() if engine.argv is not None]
SLOTS, CONTEXT = 3, 512


def weights_of(name: str, folder: Path) -> str:
    """The demo model where GGUF is read, else a tiny one in a folder as a hub has it."""
    if "gguf" in ENGINES[name].formats:
        return "demo"
    own = folder / "tiny-llama"
    return str(own if own.exists() else tiny_models.llama(own))


def stack(names: list[str], folder: Path) -> str:
    models = {
        name: {
            "source": weights_of(name, folder),
            "engine": name,
            "slots": SLOTS,
            "context": CONTEXT,
            "threads": 1,
            "memory": "64 MiB",
        }
        for name in names
    }
    return json.dumps({"models": models})


def started_with(programs: Path, folder: Path, text: str) -> Gateway:
    """A gateway that finds the stand-ins before whatever else the machine has."""
    engine_programs.install(programs)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{programs}:{before}"
    try:
        return started(folder, text)
    finally:
        os.environ["PATH"] = before


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("contract")
    running = started_with(folder / "bin", folder, stack(STARTED, folder))
    try:
        for _ in STARTED:
            running.wait_for(event="replica", state="ready")
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=30) as one:
        yield one


def chat(client: openai.OpenAI, model: str, text: str = "What are you?", **fields: Any) -> Any:
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **fields)


@pytest.mark.parametrize("name", STARTED)
def test_it_is_ready(gateway: Gateway, name: str) -> None:
    """It says so once it can answer, with the slots and the context that it was started with."""
    told = next(one for one in gateway.events if one.get("model") == name and one.get("state") == "ready")
    assert (told["engine"], told["slots"], told["context_tokens"]) == (name, SLOTS, CONTEXT)


@pytest.mark.parametrize("name", STARTED)
def test_a_whole_answer(client: openai.OpenAI, name: str) -> None:
    """It bears the public name, and its tokens are counted."""
    answer = chat(client, name, max_tokens=5, temperature=0)
    assert answer.model == name
    assert answer.choices[0].message.content
    assert 1 <= answer.usage.completion_tokens <= 5
    assert answer.usage.prompt_tokens > 0


@pytest.mark.parametrize("name", STARTED)
def test_a_stream(client: openai.OpenAI, name: str) -> None:
    """It has the words of the whole answer, an end with its reason, and the same count."""
    whole = chat(client, name, max_tokens=8, temperature=0)
    chunks = list(chat(client, name, max_tokens=8, temperature=0, stream=True, stream_options={"include_usage": True}))
    words = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert words == whole.choices[0].message.content
    assert [one.choices[0].finish_reason for one in chunks if one.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert {chunk.model for chunk in chunks} == {name}


@pytest.mark.parametrize("name", STARTED)
def test_a_text_completion(client: openai.OpenAI, name: str) -> None:
    answer = client.completions.create(model=name, prompt="Hello", max_tokens=4, temperature=0)
    assert answer.model == name
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 4


@pytest.mark.parametrize("name", [name for name in STARTED if name != "ollama"])
def test_a_prompt_that_is_too_long(client: openai.OpenAI, name: str) -> None:
    """Whatever words the engine has for it, the client learns both numbers. (Ollama cuts it without a word.)"""
    with pytest.raises(openai.BadRequestError) as refused:
        chat(client, name, "hello " * 1200)
    assert refused.value.code == "context_length_exceeded"
    assert str(CONTEXT) in refused.value.message


@pytest.mark.parametrize("name", STARTED)
def test_tokens_are_counted(gateway: Gateway, client: openai.OpenAI, name: str) -> None:
    """A chat's are what its answer is charged for; who does not count for others is named."""
    counting = ENGINES[name].counting
    messages = [{"role": "user", "content": "What are you?"}]
    counted = ask(
        gateway, post({"model": name, "messages": messages, "max_tokens": 1}, path="/v1/messages/count_tokens")
    )
    cut = ask(gateway, post({"model": name, "content": "so it is"}, path="/tokenize"))
    if counting is None:
        assert (counted.status, cut.status) == (400, 400)
        assert f"'{name}' ({name}) do not count tokens" in cut.json["error"]["message"]
        return
    assert counted.json == {"input_tokens": chat(client, name, max_tokens=1).usage.prompt_tokens}
    back = ask(gateway, post({"model": name, "tokens": cut.json["tokens"]}, path="/detokenize"))
    if counting.words([]) is None:
        assert (back.status, len(cut.json["tokens"])) == (400, 3)
    else:
        assert back.json == {"content": "so it is"}


@pytest.mark.parametrize("name", [name for name in STARTED if ENGINES[name].counting is not None])
def test_a_conversation_is_made_to_fit(client: openai.OpenAI, name: str) -> None:
    """The engine's own count decides how much is left out, and it takes what is left."""
    turns: Any = [{"role": ("user", "assistant")[at % 2], "content": "so it is " * 12} for at in range(81)]
    raw = client.responses.with_raw_response.create(model=name, input=turns, truncation="auto", max_output_tokens=4)
    told = dict(pair.split("=") for pair in raw.headers["x-inhouse-trimmed"].split(", "))
    assert 40 < int(told["messages"]) < 80
    usage = raw.parse().usage
    assert usage is not None
    assert CONTEXT // 2 < usage.input_tokens < CONTEXT


ASKED: dict[str, dict[str, Any]] = {
    "tools": {"tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]},
    "json_schema": {"response_format": {"type": "json_object"}},
    "logprobs": {"logprobs": True},
}


@pytest.mark.parametrize("name", STARTED)
def test_what_it_can_do(gateway: Gateway, client: openai.OpenAI, name: str) -> None:
    """`/v1/models` tells it; what is not among it is refused under its name, with model and engine in the message."""
    can = gateway.get(f"/v1/models/{name}")["capabilities"]
    assert "chat" in can
    for ability, fields in ASKED.items():
        if ability in can:
            assert chat(client, name, max_tokens=2, **fields).choices
        else:
            with pytest.raises(openai.BadRequestError) as refused:
                chat(client, name, **fields)
            assert (refused.value.code, refused.value.param) == ("unsupported_by_model", next(iter(fields)))
            assert f"'{name}'" in refused.value.message
            assert ENGINES[name].title in refused.value.message
    if "embeddings" in can:
        assert client.embeddings.create(model=name, input="Hello").data[0].embedding
    else:
        with pytest.raises(openai.BadRequestError, match="cannot make embeddings"):
            client.embeddings.create(model=name, input="Hello")


@pytest.mark.parametrize("name", STARTED)
def test_it_is_killed(gateway: Gateway, client: openai.OpenAI, name: str) -> None:
    """It is started again, and answers."""
    own = [one for one in descendants(gateway.process.pid) if engine_of(one) == name]
    gateway.events.clear()
    for pid in own:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    gateway.wait_for(event="replica", model=name, state="ready")
    assert chat(client, name, max_tokens=2).choices


def test_the_gateway_is_killed(tmp_path: Path) -> None:
    """By kill -9: none of the engines is left, nor what they started themselves."""
    names = ["vllm", "sglang", "ollama"]
    running = started_with(tmp_path / "bin", tmp_path, stack(names, tmp_path))
    try:
        for _ in names:
            running.wait_for(event="replica", state="ready")
        left = descendants(running.process.pid)
        assert len([one for one in left if command(one).startswith("sleep")]) == 3
    finally:
        running.stop(signal.SIGKILL)
    deadline = time.monotonic() + 15
    while alive := [pid for pid in left if Path(f"/proc/{pid}/cmdline").exists() and command(pid)]:
        assert time.monotonic() < deadline, [command(pid) for pid in alive]
        time.sleep(0.02)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """The reason says what is missing, how to get it, and the way to name another."""
    running = started(tmp_path, "models: {chat: {source: demo, engine: vllm}}")
    try:
        reason = running.wait_for(event="replica", state="failed")["reason"]
    finally:
        running.stop()
    assert "`vllm`" in reason
    assert "pip install vllm" in reason
    assert "engine_binary" in reason


def test_a_flag_that_the_engine_does_not_know(tmp_path: Path) -> None:
    """The reason is the engine's own."""
    text = "models: {chat: {source: demo, engine: vllm, engine_args: [--no-such-flag]}}"
    running = started_with(tmp_path / "bin", tmp_path, text)
    try:
        reason = running.wait_for(event="replica", state="failed")["reason"]
    finally:
        running.stop()
    assert "unrecognized arguments: --no-such-flag" in reason


def test_weights_that_the_engine_does_not_read(tmp_path: Path) -> None:
    running = started(tmp_path, "models: {chat: {source: demo, engine: tgi}}")
    try:
        reason = running.wait_for(event="replica", state="failed")["reason"]
    finally:
        running.stop()
    assert "TGI does not read GGUF" in reason
    assert "`llamacpp`" in reason


def test_a_repository_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder is fetched and checked here; the engine gets the path, and answers."""
    weights = tiny_models.llama(tmp_path / "tiny")
    with hub_server.serving() as hub:
        hub.repos["acme/tiny"] = Repo({file.name: file.read_bytes() for file in weights.iterdir()})
        for name, value in {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "*"}.items():
            monkeypatch.setenv(name, value)
        text = "models: {chat: {source: 'hf://acme/tiny', engine: vllm}}"
        running = started_with(tmp_path / "bin", tmp_path, text)
        try:
            running.wait_for(event="replica", state="ready")
            own = next(command(pid) for pid in descendants(running.process.pid) if engine_of(pid) == "vllm")
            with openai.OpenAI(base_url=running.base_url, api_key=KEY, max_retries=0, timeout=30) as client:
                assert chat(client, "chat", max_tokens=2).choices
        finally:
            running.stop()
    folder = Path(own.split(" serve ")[1].split(" ")[0])
    assert folder.is_relative_to(tmp_path / "hf")
    assert (folder / "model.safetensors").read_bytes() == (weights / "model.safetensors").read_bytes()


def test_a_gpu_that_is_too_small(tmp_path: Path) -> None:
    """It is told with the numbers before the engine is started. (The card is `nvidia-smi`'s word.)"""
    programs = tmp_path / "bin"
    programs.mkdir()
    smi = programs / "nvidia-smi"
    smi.write_text('#!/bin/sh\ncase "$1" in -L) ;; *) echo "0, Small, GPU-1, 1024, 0, 570.1, 9.0" ;; esac\n')
    smi.chmod(0o755)
    running = started_with(programs, tmp_path, stack(["vllm"], tmp_path))
    try:
        reason = running.wait_for(event="replica", state="failed")["reason"]
    finally:
        running.stop()
    assert "may take 0.9 GiB of 1.0 GiB" in reason
    assert "`gpus`" in reason


def descendants(pid: int) -> list[int]:
    found: list[int] = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found.append(int(child))
        with contextlib.suppress(FileNotFoundError):
            found += descendants(int(child))
    return found


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def engine_of(pid: int) -> str:
    """Whose process it is, by its command; "" for the life line and for workers."""
    text = command(pid)
    if "lifeline.py" in text:
        return ""
    programs = {engine.program: name for name, engine in ENGINES.items() if engine.argv is not None}
    programs["llama-server"] = "llama-server"
    if " transformers-engine " in text:
        return "transformers"
    if "llamacpp_child.py" in text:
        return "llamacpp"
    return next((name for program, name in programs.items() if f"/bin/{program} " in text), "")
