"""Certificates between gateways and engines, as rendered: the same flags and files, run here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from certificates import Authority
from fake_engine import fake_engine
from inhouse.config import Stack
from inhouse.deploy.inventory import Inventory
from inhouse.deploy.launch import launch
from inhouse.deploy.site import Site
from inhouse.deploy.tree import expected, findings, tree
from inhouse.errors import StackError
from rendered import objects, site
from serving import serving

VLLM = {"source": "hf://org/repo", "engine": "vllm", "slots": 8}


def of_kind(all_: list[dict[str, Any]], kind: str, name: str) -> Any:
    (one,) = (one for one in all_ if one["kind"] == kind and one["metadata"]["name"] == name)
    return one["spec"] if "spec" in one else one["data"]


def containers(all_: list[dict[str, Any]], name: str, kind: str = "Deployment") -> dict[str, Any]:
    pod = of_kind(all_, kind, name)["template"]["spec"]
    return {one["name"]: one for one in [*pod["initContainers"], *pod["containers"]]}


def test_gateway_and_engine_of_the_manifests_understand_each_other(tmp_path: Path) -> None:
    """The door's flags, the gateway's file and the certificates' names and usages fit together: an answer comes."""
    all_, authority = objects(tree(site("certificates"))), Authority()
    folders = {}
    for secret in ("inhouse-client-tls", "inhouse-chat-engine-tls"):
        made = of_kind(all_, "Certificate", secret)
        folders[secret] = authority.secret(tmp_path / secret, *made["dnsNames"], client="client auth" in made["usages"])
    with fake_engine() as engine:
        args = [
            {"0.0.0.0:8000": "127.0.0.1:0", "127.0.0.1:8001": engine.url.removeprefix("http://"), "8002": "0"}.get(
                word, word.replace("/etc/inhouse-tls", str(folders["inhouse-chat-engine-tls"]))
            )
            for word in containers(all_, "inhouse-chat")["door"]["args"]
        ]
        with subprocess.Popen([sys.executable, "-m", "inhouse", *args], stderr=subprocess.PIPE, text=True) as door:
            try:
                assert door.stderr is not None
                port = json.loads(door.stderr.readline())["port"]
                told = yaml.safe_load(of_kind(all_, "ConfigMap", "inhouse-config")["inhouse.yaml"])["models"]["chat"]
                assert told["endpoints"] == ["k8s+https://inhouse/inhouse-chat:http"]
                mine = str(folders["inhouse-client-tls"])
                model = {
                    key: str(value).replace("/etc/inhouse-tls", mine)
                    for key, value in told.items()
                    if key.endswith("_file")
                } | {"endpoints": [f"https://127.0.0.1:{port}"], "server_name": "inhouse-chat.inhouse.svc"}
                with serving(
                    tmp_path, yaml.safe_dump({"models": {"chat": model | {"engine": "llama-server"}}})
                ) as gate:
                    assert gate.get("/v1/models")["data"][0]["id"] == "chat"
            finally:
                door.kill()


def test_the_engine_listens_where_only_its_door_reaches_it() -> None:
    """On the loopback of its pod, and all that other pods see is the door's; a follower has none."""
    all_ = objects(tree(site("certificates")))
    here = containers(all_, "inhouse-chat")
    (lane, _) = site("certificates").lanes
    args = here["engine"]["args"]
    assert args == list(launch(site("certificates"), lane).args)
    assert (args[args.index("--host") + 1], args[args.index("--port") + 1]) == ("127.0.0.1", "8001")
    assert "ports" not in here["engine"]
    assert here["door"]["restartPolicy"] == "Always"
    assert {probe: here["engine"][probe]["httpGet"]["port"] for probe in here["engine"] if probe.endswith("Probe")} == {
        "startupProbe": 8002, "readinessProbe": 8002, "livenessProbe": 8002,
    }  # fmt: skip
    group = of_kind(all_, "LeaderWorkerSet", "inhouse-large")["leaderWorkerTemplate"]
    names = {
        role: [one["name"] for one in group[f"{role}Template"]["spec"]["initContainers"]]
        for role in ("leader", "worker")
    }
    assert names == {"leader": ["weights", "door"], "worker": ["weights"]}


def test_an_issuer_of_the_company_signs_in_place_of_our_own() -> None:
    """No authority is made then."""
    here = Site(Stack(models={"chat": VLLM}, deploy={"mesh": {"mtls": "cert-manager", "issuer": "company"}}))  # type: ignore[arg-type]
    all_ = objects(tree(here))
    assert {one["spec"]["issuerRef"]["name"] for one in all_ if one["kind"] == "Certificate"} == {"company"}
    assert not [one for one in all_ if one["kind"] == "Issuer"]
    assert findings(here) == []
    assert ("ClusterIssuer", "company") in expected(here)
    assert Inventory(all_).has("Secret", "inhouse-chat-engine-tls")


@pytest.mark.parametrize("kind", ["InferenceService", "LLMInferenceService"])
def test_engines_of_kserve_have_doors_too(kind: str) -> None:
    """The pod is the same one."""
    deploy = {"target": "kserve", "kserve_kind": kind, "mesh": {"mtls": "cert-manager"}}
    model = VLLM | {"deploy": {"gpus": 1, "volume": "shared"}}
    here = Site(Stack(models={"chat": model}, deploy=deploy))  # type: ignore[arg-type]
    assert findings(here) == []
    (one,) = (one for one in objects(tree(here)) if one["kind"] == kind)
    pod = one["spec"]["predictor"] if kind == "InferenceService" else one["spec"]["template"]
    assert [one["name"] for one in pod["initContainers"]] == ["weights", "door"]


def test_knative_has_a_proxy_where_the_door_would_be() -> None:
    """Told before anything is written."""
    deploy = {"target": "knative", "mesh": {"mtls": "cert-manager"}}
    with pytest.raises(StackError, match="proxy of its own"):
        tree(Site(Stack(models={"chat": VLLM | {"deploy": {"volume": "empty"}}}, deploy=deploy)))  # type: ignore[arg-type]


def test_one_pod_needs_no_certificates() -> None:
    """What gateway and engine say to each other does not leave the pod."""
    gguf = {"source": "hf://org/repo/model.gguf"}
    deploy = {"gateway": {"form": "sidecar", "replicas": 1}, "mesh": {"mtls": "cert-manager"}}
    all_ = objects(tree(Site(Stack(models={"chat": gguf}, deploy=deploy))))  # type: ignore[arg-type]
    assert not [one for one in all_ if one["kind"] in ("Certificate", "Issuer")]
