"""The engine as a child of the gateway: `engine: transformers` and a folder, or a repository of the hub."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import tiny_models

from inhouse.errors import EngineStartError
from inhouse.hf_engine import program
from inhouse.hf_engine.settings import Settings
from serving import KEY, Gateway, serving, started

sys.path += [str(Path(__file__).parents[1] / "weights")]

import hub_server

CHAT: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "How are you?"}],
    "temperature": 0,
    "extra_body": {"ignore_eos": True},
}
TOKENS = 1500


@pytest.fixture(scope="module")
def two(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway with two replicas of the model."""
    stack = f"""
models:
  tiny: {{source: {llama}, engine: transformers, replicas: 2, threads: 1, slots: 4, context: 8192,
         routing: {{policy: round-robin, breaker: {{failures: 1000}}, outliers: {{requests_min: 100000}}}}}}
"""
    with serving(tmp_path_factory.mktemp("two"), stack) as running:
        running.wait_for(event="replica", state="ready")
        yield running


@pytest.fixture(scope="module")
def client(two: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=two.base_url, api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


def engines(gateway: Gateway) -> list[int]:
    """The processes that do the inference."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0") if folder.name.isdecimal() else []
        except OSError:
            continue
        if b"transformers-engine" in words and b"--host" in words and _is_below(int(folder.name), gateway.process.pid):
            found.append(int(folder.name))
    return found


def _is_below(pid: int, above: int) -> bool:
    while pid > 1:
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
        if pid == above:
            return True
    return False


def until(fact: Callable[[], Any]) -> Any:
    end_s = time.monotonic() + 60
    while not (value := fact()):
        assert time.monotonic() < end_s, "not within 60 s"
        time.sleep(0.02)
    return value


def test_an_engine_is_killed_in_the_middle_of_its_answer(two: Gateway, client: openai.OpenAI) -> None:
    """The other one goes on with it: the client gets the whole text, the one that nothing disturbed, in one stream."""
    readable = {**CHAT, "max_tokens": TOKENS, "logit_bias": {str(token): -100 for token in tiny_models.unreadable()}}
    whole = client.chat.completions.create(**readable).choices[0].message.content
    assert whole
    assert len(whole) > TOKENS / 2
    before = engines(two)
    assert len([pid for pid in before if not _lifeline(pid)]) == 2
    said, killed = "", False
    usage = None
    stream = client.chat.completions.create(**readable, stream=True, stream_options={"include_usage": True})
    for chunk in stream:
        said += "".join(choice.delta.content or "" for choice in chunk.choices)
        usage = chunk.usage or usage
        if not killed and len(said) > 40:
            os.kill(_at_work(two), signal.SIGKILL)
            killed = True
    assert killed
    assert said == whole
    assert usage is not None
    assert usage.completion_tokens == TOKENS
    until(lambda: len([pid for pid in engines(two) if not _lifeline(pid)]) == 2)  # it is started again


def _lifeline(pid: int) -> bool:
    return b"lifeline.py" in Path(f"/proc/{pid}/cmdline").read_bytes()


def _at_work(gateway: Gateway) -> int:
    """The engine that has used the most processor time of late."""
    pids = [pid for pid in engines(gateway) if not _lifeline(pid)]

    def used(pid: int) -> int:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    first = {pid: used(pid) for pid in pids}
    return int(until(lambda: next((pid for pid in pids if used(pid) > first[pid] + 2), 0)))


def test_its_gateway_is_gone(llama: Path, tmp_path: Path) -> None:
    """The engine ends with it, however it ended."""
    running = started(tmp_path, f"models: {{tiny: {{source: {llama}, engine: transformers, threads: 1}}}}")
    mine = until(lambda: engines(running))
    running.stop(signal.SIGKILL)
    until(lambda: not [pid for pid in mine if Path(f"/proc/{pid}").exists()])


def test_a_model_that_cannot_be_loaded(llama: Path, tmp_path: Path) -> None:
    """The operator is told what the library says."""
    for file in llama.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    own = tmp_path / "own"
    own.mkdir()
    running = started(own, f"models: {{tiny: {{source: {tmp_path}, engine: transformers, threads: 1}}}}")
    try:
        failed = running.wait_for(event="replica", state="failed")
        assert "its tokenizer cannot be loaded" in failed["reason"]
    finally:
        running.stop(signal.SIGKILL)


def test_a_repository_of_the_hub(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hf://org/repo` is fetched and served."""
    with hub_server.serving() as hub:
        files = {file.name: file.read_bytes() for file in llama.iterdir()}
        hub.repos["org/tiny"] = hub_server.Repo(files=files)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        stack = "models: {tiny: {source: 'hf://org/tiny', engine: transformers, threads: 1}}"
        with (
            serving(tmp_path, stack) as running,
            openai.OpenAI(base_url=running.base_url, api_key=KEY, max_retries=0, timeout=60) as client,
        ):
            answer = client.chat.completions.create(**CHAT, max_tokens=5)
            assert answer.usage is not None
            assert answer.usage.completion_tokens == 5


def test_the_extra_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message says how to get it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "bitsandbytes" else object())
    program.check_extra(Settings(tmp_path, "tiny"))
    with pytest.raises(EngineStartError, match=r"bitsandbytes is missing\): pip install 'inhouse\[transformers\]'"):
        program.check_extra(Settings(tmp_path, "tiny", quantize="nf4"))
