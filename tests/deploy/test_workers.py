"""Workers of queued models on a cluster: beside their engines, scaled by the backlog, on nodes that may vanish."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from fake_engine import fake_engine
from inhouse.config import Stack, load
from inhouse.deploy.launch import launch
from inhouse.deploy.scaling import per_pod
from inhouse.deploy.site import Site
from inhouse.deploy.tree import findings, tree
from inhouse.errors import StackError
from rendered import objects, site
from services import redis_server
from serving import KEY, started

QUEUED = {"source": "hf://org/repo/model.gguf", "queued": True, "slots": 4}
QUEUE = {"url": "redis://queue.internal:6379/0"}


def named(all_: list[dict[str, Any]], kind: str, name: str) -> Any:
    (one,) = (one for one in all_ if one["kind"] == kind and one["metadata"]["name"] == name)
    return one


def rendered(deploy: dict[str, Any], **more: Any) -> Site:
    return Site(Stack(models={"chat": QUEUED | {"deploy": deploy}}, queue=QUEUE, deploy=more))  # type: ignore[arg-type]


def test_a_worker_of_the_manifests_serves_a_gateway_of_the_manifests(tmp_path: Path) -> None:
    """Both files, with the Redis and the engine that are here: an answer comes through the queue, and the figure that
    scales the pools is where the scaler looks for it."""
    all_ = objects(tree(site("workers")))
    pod = named(all_, "Deployment", "inhouse-chat-spot")["spec"]["template"]["spec"]
    (worker,) = pod["containers"]
    file = worker["args"][worker["args"].index("--config") + 1].rpartition("/")[2]
    stacks = {
        "gateway": named(all_, "ConfigMap", "inhouse-config")["data"]["inhouse.yaml"],
        "worker": named(all_, "ConfigMap", "inhouse-workers")["data"][file],
    }
    (tmp_path / "redis").mkdir()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")}
    environ["QUEUE_KEY"] = "a-secret-of-the-queue-0123456789abcdef"
    with redis_server(tmp_path / "redis") as redis, fake_engine() as engine, pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUEUE_KEY", environ["QUEUE_KEY"])
        told = {name: yaml.safe_load(text) for name, text in stacks.items()}
        for stack in told.values():
            stack["queue"]["url"] = redis.url
        told["worker"]["models"]["chat"]["endpoints"] = [engine.url]
        for name in ("store", "state_dir"):
            del told["gateway"][name]
        told["gateway"]["gateway"] |= {"host": "127.0.0.1", "port": 0, "health_port": 0, "drain": 0}
        (tmp_path / "worker.yaml").write_text(yaml.safe_dump(told["worker"]))
        command = [sys.executable, "-m", "inhouse", "worker", "--config", str(tmp_path / "worker.yaml"), "--json"]
        command += ["--health-port", "0"]
        gateway = started(tmp_path, yaml.safe_dump(told["gateway"]))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ) as process:
            try:
                assert process.stdout is not None
                events = (json.loads(line) for line in process.stdout)
                working = next(event for event in events if event.get("state") == "working")
                gateway.wait_for(event="replica", state="ready")
                assert _asked(gateway.address) == 200
                with urllib.request.urlopen(working["health_url"] + "/health/ready", timeout=10) as ready:
                    assert ready.status == 200
                (trigger,) = named(all_, "ScaledObject", "inhouse-chat-spot")["spec"]["triggers"]
                figure = gateway.get("/health/backlog")
                for key in trigger["metadata"]["valueLocation"].split("."):
                    figure = figure[key]
                assert figure == 0
                process.send_signal(signal.SIGTERM)
                assert process.wait(30) == 0
            finally:
                process.kill()
                gateway.stop()


def _asked(address: tuple[str, int]) -> int:
    connection = http.client.HTTPConnection(*address, timeout=30)
    body = {"model": "chat", "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}
    head = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), head)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def test_the_engine_beside_a_worker_has_the_flags_of_one_machine() -> None:
    """It listens on the pod's loopback, and outlives the worker that hands back its jobs."""
    here = site("workers")
    all_ = objects(tree(here))
    for lane in here.workers:
        pod = named(all_, "Deployment", lane.name)["spec"]["template"]["spec"]
        (engine,) = (one for one in pod["initContainers"] if one["name"] == "engine")
        start = launch(here, lane)
        assert (engine["image"], engine["args"], engine["command"]) == (
            start.image, list(start.args), list(start.command),
        )  # fmt: skip
        assert engine["args"][engine["args"].index("--host") + 1] == "127.0.0.1"
        assert engine["restartPolicy"] == "Always"
        assert not {"ports", "readinessProbe", "livenessProbe", "startupProbe", "lifecycle"} & set(engine)


def test_nothing_leads_to_workers(tmp_path: Path) -> None:
    """No Service, no budget, no endpoints in the gateway's file; the network lets in who reads metrics, and no more."""
    here = site("workers")
    all_ = objects(tree(here))
    mine = {lane.name for lane in here.workers}
    assert not [
        one for one in all_ if one["kind"] in ("Service", "PodDisruptionBudget") and one["metadata"]["name"] in mine
    ]
    file = tmp_path / "inhouse.yaml"
    file.write_text(named(all_, "ConfigMap", "inhouse-config")["data"]["inhouse.yaml"])
    chat = load(file, environ={}, flags={}).models["chat"]
    assert (chat.queued, chat.endpoints, chat.slots, chat.engine) == (True, [], 16, "vllm")
    policy = named(all_, "NetworkPolicy", "inhouse-workers")["spec"]
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == [8081]


def test_a_spot_pool_is_on_nodes_that_vanish_and_gone_in_time() -> None:
    """It tolerates and prefers them, is of a class that gives way, hands back within the notice that clouds give."""
    here = site("workers")
    spec = named(objects(tree(here)), "Deployment", "inhouse-chat-spot")["spec"]["template"]["spec"]
    tolerated = {one["key"] for one in spec["tolerations"]}
    assert {"nvidia.com/gpu", "karpenter.sh/capacity-type", "cloud.google.com/gke-spot"} <= tolerated
    assert spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert spec["priorityClassName"] == "batch"
    assert spec["terminationGracePeriodSeconds"] == 30
    standing = named(objects(tree(here)), "Deployment", "inhouse-chat-standing")["spec"]
    assert standing["replicas"] == 2
    assert "priorityClassName" not in standing["template"]["spec"]


def test_a_pool_is_asked_for_when_the_standing_one_is_full() -> None:
    """The backlog is the same at each gateway, so the larger counts, not the sum."""
    here = site("workers")
    (lane,) = (lane for lane in here.workers if lane.pool == "standing")
    (trigger,) = named(objects(tree(here)), "ScaledObject", "inhouse-chat-spot")["spec"]["triggers"]
    assert trigger["metadata"]["activationTargetValue"] == str(2 * per_pod(lane))
    assert trigger["metadata"]["aggregationType"] == "max"


def test_without_pools_the_model_says_what_its_workers_are() -> None:
    """Pods with volumes of their own are a StatefulSet, as engines are."""
    here = rendered({"replicas": 2, "memory": "4 GiB"})
    all_ = objects(tree(here))
    assert findings(here) == []
    made = named(all_, "StatefulSet", "inhouse-chat")["spec"]
    assert [one["name"] for one in made["template"]["spec"]["containers"]] == ["worker"]
    assert named(all_, "Service", made["serviceName"])["spec"]["clusterIP"] == "None"
    egress = named(all_, "NetworkPolicy", "inhouse-workers")["spec"]["egress"]
    assert {} in egress  # its Redis is somewhere else


def test_workers_on_spot_nodes_without_a_pool_are_gone_in_time_too() -> None:
    """As a pool of them is, and the linter has nothing to say."""
    here = rendered({"volume": "empty", "spot": True, "gpus": 0})
    assert findings(here) == []
    made = named(objects(tree(here)), "Deployment", "inhouse-chat")["spec"]["template"]["spec"]
    assert made["terminationGracePeriodSeconds"] == 30


@pytest.mark.parametrize("target", ["kserve", "knative"])
def test_workers_are_plain_pods_on_every_target(target: str) -> None:
    """Services of KServe are for who is asked for answers; KEDA scales workers there too."""
    here = rendered({"volume": "empty", "scaling": {"by": "keda", "pods_min": 0}}, target=target)
    all_ = objects(tree(here))
    assert findings(here) == []
    assert named(all_, "Deployment", "inhouse-chat")
    assert named(all_, "ScaledObject", "inhouse-chat")
    assert not [one for one in all_ if one["kind"] == "InferenceService"]


@pytest.mark.parametrize(
    ("model", "more", "words"),
    [
        ({"queued": False, "deploy": {"pools": {"spot": {}}}}, {}, "not queued"),
        ({"deploy": {"nodes": 2}}, {}, "several nodes"),
        ({}, {"gateway": {"form": "sidecar", "replicas": 1}}, "in one pod"),
        ({"deploy": {"volume": "empty", "scaling": {"by": "knative"}}}, {"target": "knative"}, "nobody sends them any"),
    ],
)
def test_what_workers_cannot_be_is_told(model: dict[str, Any], more: dict[str, Any], words: str) -> None:
    """Before anything is written."""
    stack = Stack(models={"chat": QUEUED | model}, queue=QUEUE, deploy=more)  # type: ignore[arg-type]
    with pytest.raises(StackError, match=words):
        tree(Site(stack))


def test_two_lanes_behind_one_name() -> None:
    """Short prompts and long documents: a route by the prompt's size, a Deployment and a scaler for each."""
    here = site("lanes")
    all_ = objects(tree(here))
    names = {"inhouse-chat", "inhouse-chat-documents"}
    assert {one["metadata"]["name"] for one in all_ if one["kind"] == "ScaledObject"} == names
    contexts = {}
    for lane in here.lanes:
        (container,) = named(all_, "Deployment", lane.name)["spec"]["template"]["spec"]["containers"]
        contexts[lane.model] = container["args"][container["args"].index("--max-model-len") + 1]
    assert contexts == {"chat": "8192", "chat-documents": "32768"}
