"""The engine in a pod is the engine on one machine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import engine_programs
from inhouse.config import Stack, load
from inhouse.deploy.launch import launch, replica, weights_path
from inhouse.deploy.site import Site
from inhouse.deploy.tree import tree
from inhouse.engines.choices import choose
from inhouse.engines.cpu import Cpu
from inhouse.engines.hardware import Hardware
from inhouse.engines.http import Address
from inhouse.engines.specs import UNKNOWN, spec_of
from inhouse.engines.table import ENGINES
from inhouse.errors import StackError
from rendered import objects, site

FILE = "hf://org/repo/model.gguf"
STARTED = [name for name, engine in ENGINES.items() if engine.argv is not None and engine.image is not None]


@pytest.mark.parametrize("engine", STARTED)
def test_the_flags_in_the_manifest_are_those_of_a_child_process(engine: str) -> None:
    """Written once: what a pod is started with differs from a child of the gateway by its address and program only."""
    formats = ENGINES[engine].formats
    source = FILE if "gguf" in formats else "hf://org/repo"
    model = {"source": source, "engine": engine, "slots": 3, "context": 2048, "threads": 2, "engine_args": ["--x", "y"]}
    stack = Stack(models={"chat": model}, deploy={"gateway": {"replicas": 1}})
    if "gguf" not in formats:
        stack = stack.model_copy(
            update={"models": {"chat": stack.models["chat"].model_copy(update={"source": "hf://org/repo"})}}
        )
    (lane,) = Site(stack).lanes
    machine = Hardware("Linux", Cpu("", 2, 2), 2, None, None, None, None)
    said = stack.models["chat"]
    here = spec_of("chat", said, Path(weights_path(str(said.source))), UNKNOWN, choose(machine, threads=2, slots=3))
    row = ENGINES["llama-server" if engine == "llamacpp" else engine]
    assert row.argv is not None
    address = Address(host="0.0.0.0", port=8000)
    made = row.argv(here, address)
    assert launch(Site(stack), lane).args[-len(made.argv[1:]) :] == made.argv[1:]
    assert replica(lane) == here


@pytest.mark.parametrize(
    ("engine", "memory", "source", "weights"),
    [
        ("llamacpp", "8 GiB", "hf://acme/house-GGUF/house-Q4_K_M.gguf", "/models/house-Q4_K_M.gguf"),
        ("llamacpp", "4 GiB", "hf://acme/house-GGUF/house-Q2_K.gguf", "/models/house-Q2_K.gguf"),
        ("vllm", "8 GiB", "hf://acme/house", "/models"),
    ],
)
def test_a_name_of_the_catalogue_is_resolved_for_the_pod(
    tmp_path: Path, engine: str, memory: str, source: str, weights: str
) -> None:
    """By the pod's memory, not by that of what fetches the weights, and the gateway's file names no list of names."""
    (tmp_path / "models.yaml").write_text(
        "house:\n  repository: acme/house-GGUF\n  safetensors: acme/house\n  files:\n"
        "    Q2_K: {file: house-Q2_K.gguf, bytes: 2 GB}\n    Q4_K_M: {file: house-Q4_K_M.gguf, bytes: 4 GB}\n"
    )
    (tmp_path / "inhouse.yaml").write_text(
        f"weights: {{catalogue: ./models.yaml}}\nmodels:\n  chat:\n    source: house\n    engine: {engine}\n"
        f"    deploy: {{memory: {memory}}}\n"
    )
    here = Site(load(tmp_path / "inhouse.yaml", environ={}, flags={}))
    (lane,) = here.lanes
    assert lane.spec.source == source
    assert str(replica(lane).weights) == weights
    rendered = objects(tree(here))
    pod = next(
        one for one in rendered if one["kind"] in ("Deployment", "StatefulSet") and one["metadata"]["name"] == lane.name
    )
    (fetch,) = (one for one in pod["spec"]["template"]["spec"]["initContainers"] if one["name"] == "weights")
    assert fetch["args"][:2] == ["pull", source]
    (config,) = (one for one in rendered if one["kind"] == "ConfigMap" and "inhouse.yaml" in one.get("data", {}))
    assert "models.yaml" not in config["data"]["inhouse.yaml"]


def test_the_gateway_in_the_cluster_reads_the_same_stack(stack: str, tmp_path: Path) -> None:
    """The config map holds a valid file: every model is there, at its pods, with the slots that they have."""
    here = site(stack)
    (config,) = (one for one in objects(tree(here)) if "inhouse.yaml" in one.get("data", {}))
    file = tmp_path / "inhouse.yaml"
    file.write_text(config["data"]["inhouse.yaml"])
    inner = load(file, environ={}, flags={})
    assert list(inner.models) == list(here.stack.models)
    for lane in here.lanes:
        pods = lane.spec.deploy.scaling.pods_max if here.target == "knative" else 1  # behind the one address
        assert inner.models[lane.model].slots == replica(lane).slots * pods
        assert inner.models[lane.model].endpoints == ([] if lane.queued else [here.endpoint(lane)])
    assert inner.tenants == here.stack.tenants
    assert inner.routes == here.stack.routes


def test_no_secret_is_in_a_tree(stack: str) -> None:
    """Pods take secrets by reference; there is no Secret object to leak."""
    for one in objects(tree(site(stack))):
        assert one["kind"] != "Secret"
        for container in (
            one.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
            if isinstance(one.get("spec"), dict)
            else []
        ):
            for variable in container.get("env", []):
                assert "valueFrom" in variable or not any(
                    word in variable["name"] for word in ("KEY", "TOKEN", "SECRET")
                )


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        ({"models": {"a": {"source": "./a.gguf"}}}, "which no pod can read"),
        ({"models": {"a": {"source": "hf://org/repo"}}}, "names no file"),
        ({"models": {"a": {"source": FILE}}, "gateway": {"tls_cert": "c", "tls_key": "k"}}, "names a file"),
        (
            {
                "models": {"a": {"source": FILE}, "b": {"source": FILE}},
                "deploy": {"gateway": {"form": "sidecar", "replicas": 1}},
            },
            "one model and one pod",
        ),
        ({"models": {"a": {"source": FILE}}, "deploy": {"gateway": {"replicas": 2}}}, "share no state"),
        ({"models": {"a": {"source": FILE}}, "deploy": {"secrets": {"store": "oci"}}}, "needs `vault`"),
        ({"models": {"a": {"source": FILE}}, "deploy": {"gitops": {"kind": "flux"}}}, "needs `repository`"),
    ],
)
def test_what_no_cluster_can_do_is_told(stack: dict[str, object], words: str) -> None:
    """Before anything is written, with the key to change."""
    with pytest.raises(StackError, match=words):
        tree(Site(Stack(**stack)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("engine", "gpus", "image"),
    [
        ("llamacpp", 0, "r.example/ours/engine-cpu:7"),
        ("llamacpp", 1, "r.example/ours/engine-cuda:7"),
        ("transformers", 0, "r.example/ours/engine-transformers:7"),
        ("vllm", 1, "vllm/vllm-openai:v0.30.0"),
    ],
)
def test_images_of_ours_are_where_the_stack_says(engine: str, gpus: int, image: str) -> None:
    """Those of others are where others lay them."""
    source = FILE if engine == "llamacpp" else "hf://org/repo"
    model = {"source": source, "engine": engine, "slots": 1, "deploy": {"gpus": gpus}}
    where = {"registry": "r.example/ours", "tag": "7"}
    stack = Stack(models={"chat": model}, deploy={"gateway": {"replicas": 1}} | where)  # type: ignore[arg-type]
    (lane,) = Site(stack).lanes
    assert launch(Site(stack), lane).image == image


def test_names_of_models_become_names_of_objects_that_differ() -> None:
    """Names that look alike once the signs are gone, and long ones."""
    models = {name: {"source": FILE} for name in ("a/b", "a-b", "A:b", "x" * 100, "x" * 101)}
    names = [lane.name for lane in Site(Stack(models=models)).lanes]
    assert len(set(names)) == len(models)
    assert all(len(name) <= 63 and name == name.lower() for name in names)


def test_an_engine_that_has_to_be_told_its_model(tmp_path: Path) -> None:
    """The container starts it and has the weights made known to it, as is done here; it counts as started once they
    are, not as soon as the engine answers. The command is run to see it."""
    engine_programs.install(tmp_path)
    weights = tmp_path / "model.gguf"
    weights.write_bytes(b"GGUF")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tags = f"http://127.0.0.1:{port}/api/tags"
    stack = Stack(models={"chat": {"source": FILE, "engine": "ollama"}}, deploy={"gateway": {"replicas": 1}})
    (lane,) = Site(stack).lanes
    made = launch(Site(stack), lane)
    words = [word.replace("/bin/ollama", "ollama").replace("/models/model.gguf", str(weights)) for word in made.command]
    environ = {one["name"]: one["value"] for one in made.env} | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environ |= {"OLLAMA_HOST": f"127.0.0.1:{port}", "HOME": str(tmp_path)}
    assert made.started is not None
    started = [word.replace("/cache", str(tmp_path)) for word in made.started]
    Path(started[-1]).touch()  # of the container before this one
    container = subprocess.Popen(
        [*words, *(word.replace("/bin/ollama", "ollama") for word in made.args)],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline_s = time.monotonic() + 20
        while True:
            is_told = subprocess.run(started, check=False).returncode == 0
            with contextlib.suppress(OSError), urllib.request.urlopen(tags, timeout=5) as answer:
                known = json.load(answer)["models"]
                assert not is_told or known == [{"name": "chat:latest"}]
                if is_told:
                    break
            assert container.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        container.terminate()
        container.wait(20)
        with pytest.raises(urllib.error.URLError, match="refused"):
            urllib.request.urlopen(tags, timeout=5)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(container.pid, signal.SIGKILL)
        container.wait()
