"""A short name from end to end: pulled, shown, searched for and served from a hub of this machine."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.weights import hub_server, safetensors_bytes
from tests.weights.hub_server import Hub, Repo
from tests.weights.pulling import Puller

from serving import KEY, serving

MODEL = (importlib.resources.files("inhouse.weights") / "demo.gguf").read_bytes()
NAMES = """\
house-chat:
  about: The house's own model
  repository: acme/house-GGUF
  files:
    Q4_K_M: {file: house-Q4_K_M.gguf, bytes: 2 MB}
    Q8_0: {file: house-Q8_0.gguf, bytes: 5.7 MB}
  safetensors: acme/house
  licence: mit
house-large:
  repository: acme/large-GGUF
  files:
    Q4_K_M: {file: large.gguf, bytes: 900 TB}
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with hub_server.serving() as running:
        running.repos["acme/house-GGUF"] = Repo({"house-Q4_K_M.gguf": MODEL, "house-Q8_0.gguf": MODEL})
        running.repos["acme/house"] = Repo(safetensors_bytes.files())
        yield running


@pytest.fixture
def puller(hub: Hub, tmp_path: Path) -> Puller:
    (tmp_path / "models.yaml").write_text(NAMES)
    (tmp_path / "inhouse.yaml").write_text(
        "weights:\n  catalogue: ./models.yaml\nmodels:\n  chat:\n    source: house-chat\n    quant: Q8_0\n"
    )
    return Puller(hub.url, tmp_path)


def test_a_name_is_pulled(hub: Hub, puller: Puller) -> None:
    """The file that suits, the one that is named behind it, that of the stack's `quant`, or the safetensors."""
    for words, file in (
        (("house-chat",), "house-Q4_K_M.gguf"),
        (("house-chat:Q8_0",), "house-Q8_0.gguf"),
        (("chat",), "house-Q8_0.gguf"),
        ((), "house-Q8_0.gguf"),
        (("house-chat", "--safetensors"), "model-00002-of-00002.safetensors"),
    ):
        done = puller.run("pull", *words, "--json")
        assert (done.code, done.err) == (0, "")
        assert file in {each["name"] for each in done.pulled["files"]}
    assert puller.run("pull", "house-chat", "--offline", HF_ENDPOINT="http://127.0.0.1:9").code == 0


def test_a_name_that_is_none_is_told_with_near_ones(puller: Puller) -> None:
    done = puller.run("pull", "hous-chat")
    assert done.code == 2
    assert "house-chat" in done.err


def test_a_model_that_is_too_large_for_this_machine_is_not_begun(hub: Hub, puller: Puller) -> None:
    done = puller.run("pull", "house-large")
    assert done.code == 1
    assert "house-large needs about" in done.err
    assert not hub.requests


def test_a_name_is_shown_without_its_weights(hub: Hub, puller: Puller) -> None:
    """Its header comes from the hub, and from the cache once it has been pulled."""
    shown = json.loads(puller.run("models", "show", "house-chat", "--json").out)
    assert (shown["architecture"], shown["quantisation"]) == ("llama", "Q8_0")
    assert shown["source"] == "hf://acme/house-GGUF/house-Q4_K_M.gguf"
    assert not list(puller.folder.rglob("*.gguf"))
    puller.run("pull", "house-chat")
    assert puller.run("models", "show", "house-chat", HF_ENDPOINT="http://127.0.0.1:9").code == 0


def test_names_are_searched_for(puller: Puller) -> None:
    """Each with the file for this machine; one that is too large says so."""
    done = puller.run("models", "search", "house")
    assert [line.split()[:2] for line in done.out.splitlines()] == [
        ["NAME", "HERE"],
        ["house-chat", "Q4_K_M"],
        ["house-large", "too"],
    ]
    found = json.loads(puller.run("models", "search", "house", "--json").out)["models"]
    assert found[0]["here"] == {
        "source": "hf://acme/house-GGUF/house-Q4_K_M.gguf",
        "quantisation": "Q4_K_M",
        "bytes": 2_000_000,
    }
    assert found[0]["safetensors"] == "hf://acme/house"
    assert "needs about" in found[1]["here"]["reason"]
    assert puller.run("models", "search", "xxxxxxxx").code == 1


def test_a_name_is_served(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`source: house-chat`: fetched at the start, and answers."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "models.yaml").write_text(NAMES)
    stack = "weights:\n  catalogue: ./models.yaml\nmodels:\n  chat:\n    source: house-chat\n    context: 512\n"
    with serving(tmp_path, stack) as gateway:
        assert gateway.get("/v1/models")["data"][0]["id"] == "chat"
        answer = _ask(gateway.base_url)
    assert answer["choices"][0]["message"]["content"]
    assert any(path.endswith("/house-Q4_K_M.gguf") for path in hub.asked("GET"))


def test_a_name_is_served_from_the_command_line(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`inhouse serve house-chat:Q8_0`; clients call it by the name alone."""
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "models.yaml").write_text(NAMES)
    with serving(tmp_path, "weights:\n  catalogue: ./models.yaml\n", args=("house-chat:Q8_0",)) as gateway:
        assert [model["id"] for model in gateway.get("/v1/models")["data"]] == ["house-chat"]
    assert any(path.endswith("/house-Q8_0.gguf") for path in hub.asked("GET"))


def _ask(base_url: str) -> dict[str, list[dict[str, dict[str, str]]]]:
    import urllib.request

    body = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8}
    request = urllib.request.Request(
        f"{base_url}/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {KEY}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        found: dict[str, list[dict[str, dict[str, str]]]] = json.load(response)
        return found
