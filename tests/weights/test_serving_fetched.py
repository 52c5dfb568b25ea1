"""`inhouse serve` on weights that it has to fetch first, through a real gateway and engine."""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests import serving
from tests.weights import hub_server, oci_registry

from inhouse.weights.part import bytes_here

DEMO = (importlib.resources.files("inhouse.weights") / "demo.gguf").read_bytes()
COMMIT = "hf://acme/demo-GGUF/demo.gguf@" + hub_server.COMMIT


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "*")


@contextmanager
def running(folder: Path, stack: object) -> Iterator[serving.Gateway]:
    """A gateway that listens, whatever becomes of its models."""
    folder.mkdir()
    gateway = serving.started(folder, json.dumps(stack))
    try:
        yield gateway
    finally:
        gateway.stop()


def answer(gateway: serving.Gateway) -> str:
    body = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
    request = urllib.request.Request(
        gateway.base_url + "/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {serving.KEY}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])


def test_a_model_is_fetched_then_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With progress meanwhile; a second start fetches nothing."""
    with hub_server.serving() as hub:
        hub.repos["acme/demo-GGUF"] = hub_server.Repo({"demo.gguf": DEMO})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        stack = {"models": {"chat": {"source": "hf://acme/demo-GGUF", "context": 256, "slots": 1}}}
        for start in (1, 2):
            with running(tmp_path / f"state-{start}", stack) as gateway:
                gateway.wait_for(event="replica", state="ready")
                assert answer(gateway)
                fetched = [event for event in gateway.events if event["event"] == "fetch"]
                assert fetched[-1]["done_bytes"] == len(DEMO)
        assert len([path for verb, path, _ in hub.requests if path.startswith("/blobs")]) == 1


def test_a_pinned_model_serves_without_asking_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is here; a place that is gone is not noticed."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    stack = {"models": {"chat": {"source": COMMIT, "context": 256, "slots": 1}}}
    with hub_server.serving() as hub:
        hub.repos["acme/demo-GGUF"] = hub_server.Repo({"demo.gguf": DEMO})
        environment = os.environ | {"HF_ENDPOINT": hub.url}
        words = [sys.executable, "-m", "inhouse", "pull", COMMIT]
        subprocess.run(words, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    with running(tmp_path / "state", stack) as gateway:
        gateway.wait_for(event="replica", state="ready")
        assert answer(gateway)
        assert not [event for event in gateway.events if event["event"] == "fetch"]


def test_what_cannot_be_fetched_is_told(tmp_path: Path) -> None:
    """By the event, with the way out; the gateway stays and says 503."""
    with oci_registry.serving() as registry:
        source = f"oci://{registry.host}/acme/demo:v1"
        with running(tmp_path / "state", {"models": {"chat": {"source": source}}}) as gateway:
            failed = gateway.wait_for(event="replica", state="failed")
            assert f"has no {source}" in failed["reason"]
            assert "check repository and tag" in failed["reason"]
            assert gateway.process.poll() is None


def test_the_child_that_fetches_ends_with_its_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with one that is killed: the lock on the file is free, and what had come counts."""
    with hub_server.serving() as hub:
        hub.repos["acme/demo-GGUF"] = hub_server.Repo({"demo.gguf": DEMO})
        hub.gate = threading.Event()
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        stack = {"models": {"chat": {"source": "hf://acme/demo-GGUF/demo.gguf"}}}
        with running(tmp_path / "state", stack) as gateway:
            hub.wait_for(lambda: sum(map(bytes_here, (tmp_path / "hf").rglob("*.part"))) > 100_000)
            (child,) = gateway.engine_pids()
            gateway.process.kill()
            hub.wait_for(lambda: ended(child))
        hub.gate.set()


def ended(pid: int) -> bool:
    """Gone, or waiting for somebody to look at how it ended."""
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
