"""The same stack for KServe and Knative: the same engine, one scaler at most, no way past the gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from inhouse.config import Stack, load
from inhouse.deploy.inside import text
from inhouse.deploy.inventory import Inventory
from inhouse.deploy.launch import launch
from inhouse.deploy.lint import lint
from inhouse.deploy.site import Site
from inhouse.deploy.targets import TARGETS
from inhouse.deploy.tree import expected, findings, tree
from inhouse.errors import StackError
from rendered import objects, site

MODEL = {"source": "hf://org/repo", "engine": "vllm", "slots": 8}
SHARED = {"gpus": 1, "volume": "shared"}


def stack(target: str, deploy: dict[str, Any], **more: Any) -> Stack:
    return Stack(models={"chat": MODEL | {"deploy": SHARED | deploy}}, deploy={"target": target, **more})  # type: ignore[arg-type]


def containers(here: Site) -> dict[str, dict[str, Any]]:
    """By model, the container of its engine."""
    found = {}
    for one in objects(tree(here)):
        if one["kind"] in ("InferenceService", "LLMInferenceService"):
            pod = one["spec"]["predictor"] if one["kind"] == "InferenceService" else one["spec"]["template"]
            (found[one["metadata"]["name"]],) = pod["containers"]
    return found


@pytest.mark.parametrize("target", ["kserve", "knative"])
def test_an_engine_that_has_to_be_told_its_model(target: str) -> None:
    """It counts as started by the command that it counts by elsewhere, no sooner."""
    model = {"source": "hf://org/repo/model.gguf", "engine": "ollama"}
    here = Site(Stack(models={"chat": model}, deploy={"target": target, "gateway": {"replicas": 1}}))  # type: ignore[arg-type]
    (container,) = containers(here).values()
    started = launch(here, here.lanes[0]).started
    assert started is not None
    assert container["startupProbe"]["exec"]["command"] == list(started)
    assert container["readinessProbe"]["httpGet"]["path"] == "/api/tags"


@pytest.mark.parametrize("name", ["kserve", "kserve-llm", "knative"])
def test_the_engine_is_started_with_the_flags_of_one_machine(name: str) -> None:
    """Whatever makes the pods: the container is that of `launch`, image, program and arguments."""
    here = site(name)
    made = containers(here)
    assert set(made) == {lane.name for lane in here.lanes}
    for lane in here.lanes:
        start = launch(here, lane)
        assert made[lane.name]["image"] == start.image
        assert made[lane.name].get("command", []) == list(start.command)
        assert made[lane.name]["args"] == list(start.args)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_renders_what_works(target: str) -> None:
    """The linter is content, and the target by flag is the target of the stack."""
    assert findings(Site(stack(target, {}))) == []


def test_a_flag_chooses_the_target(tmp_path: Path) -> None:
    """`--target` wins over the file."""
    file = tmp_path / "inhouse.yaml"
    file.write_text("models: {chat: {source: 'hf://org/repo', engine: vllm}}\ndeploy: {target: kserve}\n")
    assert load(file, environ={}, flags={"deploy.target": "knative"}).deploy.target == "knative"
    assert load(file, environ={}, flags={"deploy.target": None}).deploy.target == "kserve"


def test_knative_is_the_only_scaler_where_it_is_one() -> None:
    """Its figures are annotations; no ScaledObject or autoscaler of ours works on the engines."""
    made = objects(tree(Site(stack("knative", {"scaling": {"by": "knative", "pods_min": 2, "pods_max": 5}}))))
    (one,) = (one for one in made if one["kind"] == "InferenceService")
    notes = one["metadata"]["annotations"]
    figures = {
        key.rpartition("/")[2]: value for key, value in notes.items() if key.startswith("autoscaling.knative.dev")
    }
    assert figures == {"metric": "concurrency", "target": "8", "min-scale": "2", "max-scale": "5", "window": "300s"}
    assert not [one for one in made if one["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")]


def test_knative_never_sees_what_its_webhook_refuses() -> None:
    """No grace period, no hooks, no name of a port but http1."""
    (one,) = (one for one in objects(tree(site("knative"))) if one["kind"] == "InferenceService")
    predictor = one["spec"]["predictor"]
    (container,) = predictor["containers"]
    assert "terminationGracePeriodSeconds" not in predictor
    assert "lifecycle" not in container
    assert [port["name"] for port in container["ports"]] == ["http1"]


def test_the_gateway_speaks_to_knative_by_its_address_and_to_pods_of_kserve_by_themselves() -> None:
    """Behind the one address are all pods' slots."""
    by_address = text(Site(stack("knative", {"scaling": {"by": "knative", "pods_min": 1, "pods_max": 4}})))
    assert "http://inhouse-chat-predictor.inhouse.svc.cluster.local:80" in by_address
    assert "slots: 32" in by_address
    by_pods = text(Site(stack("kserve", {})))
    assert "k8s://inhouse/inhouse-chat-pods:http" in by_pods
    assert "slots: 8" in by_pods


def test_kserve_leaves_the_scaling_to_ours_or_to_nobody() -> None:
    """A ScaledObject works on the Deployment that KServe makes, which then makes no scaler itself."""
    for by, told in (("keda", "external"), ("none", "none")):
        made = objects(tree(Site(stack("kserve", {"scaling": {"by": by}}))))
        (one,) = (one for one in made if one["kind"] == "InferenceService")
        assert one["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] == told
        assert one["metadata"]["labels"]["networking.kserve.io/visibility"] == "cluster-local"
        targets = [one["spec"]["scaleTargetRef"]["name"] for one in made if one["kind"] == "ScaledObject"]
        assert targets == (["inhouse-chat-predictor"] if by == "keda" else [])


@pytest.mark.parametrize(
    ("target", "deploy", "more", "words"),
    [
        ("knative", {"scaling": {"by": "keda"}}, {}, "against each other"),
        ("kserve", {"scaling": {"by": "knative"}}, {}, "against each other"),
        ("kubernetes", {"scaling": {"by": "knative"}}, {}, "against each other"),
        ("knative", {"scaling": {"by": "knative", "pods_min": 0}}, {}, "pods_min: 1"),
        ("knative", {"device_class": "gpu.nvidia.com"}, {}, "target: kserve"),
        ("kserve", {"volume": "pvc", "replicas": 2}, {}, "volume: shared"),
        ("kserve", {"nodes": 2}, {}, "leave `target` out"),
        ("kserve", {"scaling": {"by": "keda"}}, {"kserve_kind": "LLMInferenceService"}, "say `replicas`"),
    ],
)
def test_what_a_target_cannot_do_is_told(target: str, deploy: dict[str, Any], more: dict[str, Any], words: str) -> None:
    """Before anything is written, with the way out."""
    with pytest.raises(StackError) as told:
        tree(Site(stack(target, deploy, **more)))
    assert words in str(told.value.hint)


@pytest.mark.parametrize(
    ("kind", "path", "value", "rule"),
    [
        ("InferenceService", ("spec", "predictor", "securityContext"), {}, "pods-are-restricted"),
        ("InferenceService", ("spec", "predictor", "labels"), {}, "selectors-match"),
        ("InferenceService", ("spec", "predictor", "volumes"), [], "references-exist"),
        ("InferenceService", ("metadata", "name"), "other", "references-exist"),
        ("ScaledObject", ("spec", "minReplicaCount"), 1, "budgets-leave-room"),
    ],
)
def test_the_linter_looks_into_pods_of_kserve(kind: str, path: tuple[str, ...], value: Any, rule: str) -> None:
    """A mistake in a predictor is found by the rule that finds it in a Deployment."""
    here = site("kserve")
    made = objects(tree(here))
    part = next(one for one in made if one["kind"] == kind)
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    assert rule in {finding.rule for finding in lint(Inventory(made, expected(here)))}
