"""Each value of a chart changes the fields that it names, to what it says, and no other."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charted import Objects, changed, template
from inhouse import __version__
from inhouse.deploy.helm.chart import chart
from inhouse.deploy.write import write
from rendered import STACKS, site

DIGEST = f"sha256:{'a' * 64}"
CONFIG = "models: {other: {endpoints: ['http://$(RELEASE_NAME).$(RELEASE_NAMESPACE)']}}  # {{ .Release.Name }} {{-\n"
GIVEN = CONFIG.replace("$(RELEASE_NAME)", "inhouse").replace("$(RELEASE_NAMESPACE)", "inhouse")
POD = "spec.template.spec"
SECRET = "valueFrom.secretKeyRef.name"

Rows = list[tuple[str, Any, dict[str, Any]]]
"""A value, what it is set to, and what then stands where."""

TABLE: dict[str, Rows] = {
    "enterprise": [
        (
            "imagePullSecrets",
            [{"name": "registry"}],
            {f"Deployment/{one} {POD}.imagePullSecrets": [{"name": "registry"}] for one in
             ("inhouse", "inhouse-chat", "inhouse-chat-next")},
        ),
        (
            "storageClass",
            "fast",
            {
                "Cluster/inhouse-postgres spec.storage.storageClass": "fast",
                "PersistentVolumeClaim/inhouse-chat-models spec.storageClassName": "fast",
                "PersistentVolumeClaim/inhouse-chat-next-models spec.storageClassName": "fast",
            },
        ),
        (
            "gateway.image.tag",
            "next",
            {
                f"Deployment/inhouse {POD}.containers[0].image": "inhouse/gateway:next",
                f"Deployment/inhouse-chat {POD}.initContainers[0].image": "inhouse/gateway:next",
                f"Deployment/inhouse-chat-next {POD}.initContainers[0].image": "inhouse/gateway:next",
            },
        ),
        ("gateway.replicas", 4, {"Deployment/inhouse spec.replicas": 4}),
        ("gateway.resources.limits.memory", "1Gi",
         {f"Deployment/inhouse {POD}.containers[0].resources.limits.memory": "1Gi"}),
        ("gateway.nodeSelector", {"pool": "small"}, {f"Deployment/inhouse {POD}.nodeSelector": {"pool": "small"}}),
        ("gateway.tolerations", [{"key": "a"}], {f"Deployment/inhouse {POD}.tolerations": [{"key": "a"}]}),
        ("gateway.priorityClassName", "high", {f"Deployment/inhouse {POD}.priorityClassName": "high"}),
        ("gateway.autoscaling.minReplicas", 4, {"HorizontalPodAutoscaler/inhouse spec.minReplicas": 4}),
        ("gateway.autoscaling.maxReplicas", 20, {"HorizontalPodAutoscaler/inhouse spec.maxReplicas": 20}),
        ("models.chat.source", "hf://Qwen/Qwen3-4B",
         {f"Deployment/inhouse-chat {POD}.initContainers[0].args[1]": "hf://Qwen/Qwen3-4B"}),
        ("models.chat.image", {"repository": "a.example/vllm", "tag": "", "digest": DIGEST},
         {f"Deployment/inhouse-chat {POD}.containers[0].image": f"a.example/vllm@{DIGEST}"}),
        ("models.chat.resources.requests.cpu", 4,
         {f"Deployment/inhouse-chat {POD}.containers[0].resources.requests.cpu": 4}),
        ("models.chat-next.replicas", 0, {"Deployment/inhouse-chat-next spec.replicas": 0}),
        ("models.chat.autoscaling.minReplicas", 0, {"ScaledObject/inhouse-chat spec.minReplicaCount": 0}),
        ("models.chat.autoscaling.maxReplicas", 900, {"ScaledObject/inhouse-chat spec.maxReplicaCount": 900}),
        ("models.chat.volumeSize", "90Gi",
         {"PersistentVolumeClaim/inhouse-chat-models spec.resources.requests.storage": "90Gi"}),
        ("models.chat.nodeSelector", {"gpu": "l40s"}, {f"Deployment/inhouse-chat {POD}.nodeSelector": {"gpu": "l40s"}}),
        ("models.chat.tolerations", [{"key": "a"}], {f"Deployment/inhouse-chat {POD}.tolerations": [{"key": "a"}]}),
        ("models.chat.priorityClassName", "low", {f"Deployment/inhouse-chat {POD}.priorityClassName": "low"}),
        ("stores.postgres.volumeSize", "50Gi", {"Cluster/inhouse-postgres spec.storage.size": "50Gi"}),
        ("stores.postgres.instances", 1, {"Cluster/inhouse-postgres spec.instances": 1}),
        (
            "traffic.host",
            "ai.example.org",
            {
                "Certificate/inhouse spec.dnsNames[0]": "ai.example.org",
                "Gateway/inhouse spec.listeners[0].hostname": "ai.example.org",
                "HTTPRoute/inhouse spec.hostnames[0]": "ai.example.org",
            },
        ),
        ("traffic.gatewayClass", "istio", {"Gateway/inhouse spec.gatewayClassName": "istio"}),
        ("traffic.issuer", "own", {"Certificate/inhouse spec.issuerRef.name": "own"}),
        ("externalSecrets.vault", "https://b.example",
         {"SecretStore/inhouse-vault spec.provider.vault.server": "https://b.example"}),
        ("externalSecrets.role", "r", {"SecretStore/inhouse-vault spec.provider.vault.auth.kubernetes.role": "r"}),
        ("externalSecrets.serviceAccount", "s",
         {"SecretStore/inhouse-vault spec.provider.vault.auth.kubernetes.serviceAccountRef.name": "s"}),
        ("externalSecrets.refreshInterval", "60s", {"ExternalSecret/inhouse-secrets spec.refreshInterval": "60s"}),
        ("monitors.interval", "60s",
         {f"PodMonitor/{one} spec.podMetricsEndpoints[0].interval": "60s" for one in
          ("inhouse", "inhouse-chat", "inhouse-chat-next", "inhouse-gpus")}),
        ("monitors.release", "other",
         {f"PodMonitor/{one} metadata.labels.release": "other" for one in
          ("inhouse", "inhouse-chat", "inhouse-chat-next", "inhouse-gpus")}),
        (
            "config",
            CONFIG,
            {
                "ConfigMap/inhouse-config data.inhouse.yaml": GIVEN,
                "Deployment/inhouse spec.template.metadata.annotations.inhouse.dev/config":
                    hashlib.sha256(GIVEN.encode()).hexdigest()[:16],
            },
        ),
    ],
    "gpu-team": [
        ("traffic.ingressClass", "other", {"Ingress/inhouse spec.ingressClassName": "other"}),
        ("traffic.host", "ai.example.org", {
            "Certificate/inhouse spec.dnsNames[0]": "ai.example.org",
            "Ingress/inhouse spec.rules[0].host": "ai.example.org",
            "Ingress/inhouse spec.tls[0].hosts[0]": "ai.example.org",
        }),
    ],
    "gpu-cluster": [
        ("secretName", "mine", {
            f"Deployment/inhouse {POD}.containers[0].env[0].{SECRET}": "mine",
            f"Deployment/inhouse {POD}.containers[0].env[1].{SECRET}": "mine",
            f"Deployment/inhouse-large {POD}.initContainers[0].env[0].{SECRET}": "mine",
            f"Deployment/inhouse-small-8b-6f7645 {POD}.initContainers[0].env[0].{SECRET}": "mine",
            f"StatefulSet/inhouse-postgres {POD}.containers[0].env[3].{SECRET}": "mine",
        }),
        ("models.batch.weightsImage.tag", "2", {f"Deployment/inhouse-batch {POD}.volumes[0].image.reference":
                                                "weights/qwen3-8b:2"}),
        ("models.small-8b-6f7645.volumeSize", "50Gi",
         {f"Deployment/inhouse-small-8b-6f7645 {POD}.volumes[0].emptyDir.sizeLimit": "50Gi"}),
        ("stores.redis.volumeSize", "9Gi",
         {"StatefulSet/inhouse-redis spec.volumeClaimTemplates[0].spec.resources.requests.storage": "9Gi"}),
        ("stores.redis.image.tag", "9", {f"StatefulSet/inhouse-redis {POD}.containers[0].image": "valkey/valkey:9"}),
        ("stores.redis.resources.limits.memory", "1Gi",
         {f"StatefulSet/inhouse-redis {POD}.containers[0].resources.limits.memory": "1Gi"}),
        ("stores.redis.nodeSelector", {"a": "b"}, {f"StatefulSet/inhouse-redis {POD}.nodeSelector": {"a": "b"}}),
        ("stores.redis.tolerations", [{"key": "a"}], {f"StatefulSet/inhouse-redis {POD}.tolerations": [{"key": "a"}]}),
        ("stores.redis.priorityClassName", "low", {f"StatefulSet/inhouse-redis {POD}.priorityClassName": "low"}),
    ],
    "sidecar": [
        ("models.gemma.source", "hf://a/b/c.gguf@v1", {
            f"Deployment/inhouse {POD}.initContainers[0].args[1]": "hf://a/b/c.gguf@v1",
            f"Deployment/inhouse {POD}.initContainers[1].args[1]": "/models/c.gguf",
        }),
        ("models.gemma.resources.limits.memory", "3Gi",
         {f"Deployment/inhouse {POD}.initContainers[1].resources.limits.memory": "3Gi"}),
        ("models.gemma.image.tag", "2", {f"Deployment/inhouse {POD}.initContainers[1].image": "inhouse/engine-cpu:2"}),
        ("models.gemma.volumeSize", "9Gi",
         {"PersistentVolumeClaim/inhouse-gemma-models spec.resources.requests.storage": "9Gi"}),
        ("gateway.volumeSize", "8Gi", {"PersistentVolumeClaim/inhouse-state spec.resources.requests.storage": "8Gi"}),
    ],
    "kserve": [
        ("models.chat.autoscaling.minReplicas", 0, {
            "ScaledObject/inhouse-chat spec.minReplicaCount": 0,
            "InferenceService/inhouse-chat spec.predictor.minReplicas": 1,
        }),
        ("models.small.autoscaling.maxReplicas", 2, {"InferenceService/inhouse-small spec.predictor.maxReplicas": 2}),
    ],
    "knative": [
        ("models.chat.autoscaling.minReplicas", 3, {
            "InferenceService/inhouse-chat metadata.annotations.autoscaling.knative.dev/min-scale": "3",
            "InferenceService/inhouse-chat spec.predictor.minReplicas": 3,
        }),
    ],
    "workers": [
        ("models.chat-standing.config", CONFIG, {
            "ConfigMap/inhouse-workers data.inhouse-chat-standing.yaml": GIVEN,
            "Deployment/inhouse-chat-standing spec.template.metadata.annotations.inhouse.dev/config":
                hashlib.sha256(GIVEN.encode()).hexdigest()[:16],
        }),
        ("models.chat-standing.worker.resources.limits.memory", "1Gi",
         {f"Deployment/inhouse-chat-standing {POD}.containers[0].resources.limits.memory": "1Gi"}),
        ("models.chat-standing.resources.limits.memory", "9Gi",
         {f"Deployment/inhouse-chat-standing {POD}.initContainers[1].resources.limits.memory": "9Gi"}),
        ("models.chat-standing.image.tag", "v1",
         {f"Deployment/inhouse-chat-standing {POD}.initContainers[1].image": "vllm/vllm-openai:v1"}),
        ("gateway.image.repository", "a.example/gateway", {
            f"Deployment/{name} {POD}.{kind}[0].image": f"a.example/gateway:{__version__}"
            for name, kind in (
                ("inhouse", "containers"),
                ("inhouse-chat-standing", "initContainers"), ("inhouse-chat-standing", "containers"),
                ("inhouse-chat-spot", "initContainers"), ("inhouse-chat-spot", "containers"),
            )
        }),
    ],
    "kserve-llm": [
        ("models.chat.replicas", 3, {"LLMInferenceService/inhouse-chat spec.replicas": 3}),
        ("models.chat.source", "hf://x/y", {
            "LLMInferenceService/inhouse-chat spec.model.uri": "hf://x/y",
            "LLMInferenceService/inhouse-chat spec.template.initContainers[0].args[1]": "hf://x/y",
        }),
    ],
}  # fmt: skip

SWITCHES = {
    "gateway.autoscaling": {"HorizontalPodAutoscaler/inhouse"},
    "models.chat.autoscaling": {"ScaledObject/inhouse-chat"},
    "traffic": {"Certificate/inhouse", "Gateway/inhouse", "HTTPRoute/inhouse"},
    "externalSecrets": {"SecretStore/inhouse-vault", "ExternalSecret/inhouse-secrets"},
    "networkPolicies": {f"NetworkPolicy/inhouse-{name}" for name in
                        ("default-deny", "names", "gateway", "postgres", "engines")},
    "disruptionBudgets": {"PodDisruptionBudget/inhouse", "PodDisruptionBudget/inhouse-chat"},
    "monitors": {f"PodMonitor/inhouse{name}" for name in ("", "-chat", "-chat-next", "-gpus")},
}  # fmt: skip
"""What is there only while a switch is on."""

SEEN_ELSEWHERE = {
    "models.*.sha256",
    *("traffic.tlsSecret", "traffic.canaryService", "traffic.canaryPercent", "externalSecrets.region"),
}
"""Values that no stack on file has: `test_rare_values_stand_where_they_belong`."""


@pytest.mark.parametrize("name", TABLE)
def test_a_value_changes_the_fields_that_it_names(name: str, helm: str, tmp_path: Path) -> None:
    """All at once: what differs from the defaults is what the table says, to the letter."""
    folder = _written(name, tmp_path)
    wanted: dict[str, Any] = {}
    for _, _, places in TABLE[name]:
        wanted |= places
    before, after = template(helm, folder), template(helm, folder, *_given(tmp_path, TABLE[name]))
    assert set(changed(before, after)) == set(wanted)
    assert {place: _at(after, place) for place in wanted} == wanted


@pytest.mark.parametrize("switch", SWITCHES)
def test_a_switch_rules_whole_objects(switch: str, helm: str, tmp_path: Path) -> None:
    """Off, its objects are gone and no other is touched."""
    folder = _written("enterprise", tmp_path)
    before, after = template(helm, folder), template(helm, folder, "--set", f"{switch}.enabled=false")
    assert set(changed(before, after)) == SWITCHES[switch]


def test_a_secret_of_another_name_is_made_by_that_name(helm: str, tmp_path: Path) -> None:
    """Where a vault fills the Secret, what fills it follows."""
    folder = _written("enterprise", tmp_path)
    before, after = template(helm, folder), template(helm, folder, "--set", "secretName=mine")
    assert set(before) - set(after) == {"ExternalSecret/inhouse-secrets"}
    assert after["ExternalSecret/mine"]["spec"]["target"]["name"] == "mine"
    assert '"secretKeyRef": {"name": "inhouse-secrets"' not in json.dumps(list(after.values()))


def test_rare_values_stand_where_they_belong(helm: str, tmp_path: Path) -> None:
    """A certificate that exists, another installation on trial, pinned weights, a vault with a region."""
    one = site("gpu-team").stack
    model = one.models["chat.v2"].model_copy(update={"sha256": "b" * 64})
    deploy = one.deploy.model_copy(
        update={
            "traffic": one.deploy.traffic.model_copy(
                update={"kind": "gateway-api", "issuer": None, "tls_secret": "cert", "canary_service": "inhouse-next"}
            ),
            "secrets": one.deploy.secrets.model_copy(update={"store": "oci", "vault": "ocid1.vault", "region": "r1"}),
        }
    )
    here = type(site("gpu-team"))(one.model_copy(update={"deploy": deploy, "models": {"chat.v2": model}}))
    write(chart(here), tmp_path)
    (label,) = yaml.safe_load((tmp_path / "values.yaml").read_text())["models"]
    rows: Rows = [
        (f"models.{label}.sha256", "c" * 64, {f"Deployment/inhouse-{label} {POD}.initContainers[0].args[6]": "c" * 64}),
        ("traffic.tlsSecret", "mine", {"Gateway/inhouse spec.listeners[0].tls.certificateRefs[0].name": "mine"}),
        ("traffic.canaryService", "b", {"HTTPRoute/inhouse spec.rules[0].backendRefs[1].name": "b"}),
        ("traffic.canaryPercent", 20, {
            "HTTPRoute/inhouse spec.rules[0].backendRefs[0].weight": 80,
            "HTTPRoute/inhouse spec.rules[0].backendRefs[1].weight": 20,
        }),
        ("externalSecrets.region", "r2", {"SecretStore/inhouse-vault spec.provider.oracle.region": "r2"}),
    ]  # fmt: skip
    wanted = {place: value for _, _, places in rows for place, value in places.items()}
    before, after = template(helm, tmp_path), template(helm, tmp_path, *_given(tmp_path, rows))
    assert set(changed(before, after)) == set(wanted)
    assert {place: _at(after, place) for place in wanted} == wanted


def test_every_value_is_in_the_table() -> None:
    """A value that somebody adds is not forgotten here."""
    tried = {_any_model(path) for rows in TABLE.values() for path, _, _ in rows}
    tried |= {_any_model(f"{switch}.enabled") for switch in SWITCHES} | SEEN_ELSEWHERE
    known = {_any_model(path) for name in STACKS for path in _values(name)}
    assert {path for path in known if not any(f"{one}.".startswith(f"{path}.") for one in tried)} == set()


def test_every_value_says_what_it_is() -> None:
    """In values.yaml as a comment, in the schema as a description with its default."""
    for name in STACKS:
        files = {file.path: file.text for file in chart(site(name))}
        values, schema = yaml.safe_load(files["values.yaml"]), json.loads(files["values.schema.json"])
        for path in _values(name):
            there, told = values, schema
            for key in path.split("."):
                there, told = there[key], told["properties"][key]
            assert told["default"] == there
            assert told["description"].endswith((".", ")"))
            words = re.sub(r" \(.*\)$", "", told["description"]).split()
            assert words[-1] in files["values.yaml"], path


def _written(name: str, folder: Path) -> Path:
    write(chart(site(name)), folder)
    return folder


def _given(folder: Path, rows: Rows) -> list[str]:
    """The rows' values in a file for Helm."""
    tree: dict[str, Any] = {}
    for path, value, _ in rows:
        part = tree
        *above, last = path.split(".")
        for key in above:
            part = part.setdefault(key, {})
        part[last] = value
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(tree))
    return ["--values", str(file)]


def _at(objects: Objects, place: str) -> Any:
    """What stands at `Kind/name path`; keys with dots of their own are longer than one step."""
    name, path = place.split(" ")
    value: Any = objects[name]
    steps = re.sub(r"\[(\d+)\]", r".\1", path).split(".")
    while steps:
        if isinstance(value, list):
            value, steps = value[int(steps[0])], steps[1:]
            continue
        taken = next(n for n in range(1, len(steps) + 1) if ".".join(steps[:n]) in value)
        value, steps = value[".".join(steps[:taken])], steps[taken:]
    return value


def _values(name: str) -> Iterator[str]:
    (text,) = (file.text for file in chart(site(name)) if file.path == "values.schema.json")
    yield from _leaves(json.loads(text), "")


def _leaves(schema: dict[str, Any], path: str) -> Iterator[str]:
    for key, inner in schema.get("properties", {}).items():
        if "default" in inner:
            yield f"{path}{key}"
        elif key != "global":
            yield from _leaves(inner, f"{path}{key}.")


def _any_model(path: str) -> str:
    return re.sub(r"^(models|stores)\.[^.]+", r"\1.*", path)
