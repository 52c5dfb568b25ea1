"""Each thing that can be switched: what it changes in the tree, and that the tree stays whole with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import kubernetes_validate
import pytest

from inhouse.config import Stack
from inhouse.deploy.site import Site
from inhouse.deploy.tree import File, findings, tree
from rendered import objects

GPU = {"source": "hf://org/repo", "engine": "vllm", "slots": 8}
Errors = Callable[[dict[str, Any]], Iterator[str]]
STORES = {"redis": {"url": "redis://r:6379/0"}, "postgres": {"url": "postgresql://u@p:5432/d"}}
DOOR = {"kind": "gateway-api", "host": "llm.example.com"}


def files_of(model: dict[str, Any], deploy: dict[str, Any], **more: Any) -> tuple[Site, tuple[File, ...]]:
    here = Site(Stack(models={"chat": GPU | {"deploy": {"volume": "empty"} | model}}, deploy=deploy, **more))
    return here, tree(here)


CONTAINER = "Deployment inhouse-chat spec/template/spec/containers/0/"
POD = "Deployment inhouse-chat spec/template/spec/"
VAULT = "SecretStore inhouse-vault spec/provider/"
SWITCHES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ("AMD's GPUs", {"gpus": 2, "gpu_vendor": "amd"}, {}, {}, {CONTAINER + "resources/limits/amd.com~gpu": 2}),
    (
        "Intel's GPUs by the old driver",
        {"gpus": 1, "gpu_vendor": "intel-i915"},
        {},
        {},
        {CONTAINER + "resources/limits/gpu.intel.com~i915": 1},
    ),
    (
        "Intel's GPUs by the new one",
        {"gpus": 1, "gpu_vendor": "intel-xe"},
        {},
        {},
        {CONTAINER + "resources/limits/gpu.intel.com~xe": 1},
    ),
    (
        "a slice of a GPU",
        {"gpus": 1, "mig_profile": "1g.10gb"},
        {},
        {},
        {CONTAINER + "resources/requests/nvidia.com~mig-1g.10gb": 1},
    ),
    (
        "GPUs by dynamic resource allocation",
        {"gpus": 2, "device_class": "gpu.nvidia.com"},
        {},
        {},
        {
            POD + "resourceClaims/0/resourceClaimTemplateName": "inhouse-chat-gpus",
            "ResourceClaimTemplate inhouse-chat-gpus spec/spec/devices/requests/0/exactly/count": 2,
        },
    ),
    (
        "weights in an image",
        {"gpus": 1, "weights_image": "weights/chat:1"},
        {},
        {},
        {POD + "volumes/0/image/reference": "weights/chat:1"},
    ),
    (
        "weights that pods share",
        {"gpus": 1, "volume": "shared", "replicas": 2},
        {"storage_class": "fast"},
        {},
        {
            "PersistentVolumeClaim inhouse-chat-models spec/accessModes": ["ReadWriteMany"],
            "PersistentVolumeClaim inhouse-chat-models spec/storageClassName": "fast",
        },
    ),
    (
        "regions and a class of priority",
        {"gpus": 1, "placement": {"regions": ["eu-1"], "priority_class": "serving", "node_selector": ["a/b=c"]}},
        {},
        {},
        {
            POD + "priorityClassName": "serving",
            POD + "nodeSelector/a~b": "c",
            POD + "affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0"
            "/matchExpressions/0/values": ["eu-1"],
        },
    ),
    (
        "an autoscaler without KEDA",
        {"gpus": 1, "scaling": {"by": "hpa", "pods_max": 3}},
        {},
        {},
        {
            "HorizontalPodAutoscaler inhouse-chat spec/metrics/0/external/target/averageValue": "8",
            "HorizontalPodAutoscaler inhouse-chat spec/behavior/scaleDown/stabilizationWindowSeconds": 300,
        },
    ),
    (
        "office hours",
        {"gpus": 1, "scaling": {"by": "keda", "office_hours": ["Mon-Fri 07:30-18:00=2"], "timezone": "Asia/Tokyo"}},
        {},
        {},
        {
            "ScaledObject inhouse-chat spec/triggers/1/type": "cron",
            "ScaledObject inhouse-chat spec/triggers/1/metadata": {
                "timezone": "Asia/Tokyo",
                "start": "30 7 * * 1-5",
                "end": "0 18 * * 1-5",
                "desiredReplicas": "2",
            },
        },
    ),
    (
        "a part of the traffic for another installation",
        {"gpus": 1},
        {"traffic": DOOR | {"canary_service": "inhouse-next", "canary_percent": 20}},
        {},
        {
            "HTTPRoute inhouse spec/rules/0/backendRefs": [
                {"name": "inhouse", "port": 80, "weight": 80},
                {"name": "inhouse-next", "port": 80, "weight": 20},
            ]
        },
    ),
    (
        "streams that may live",
        {"gpus": 1},
        {"traffic": DOOR},
        {},
        {"HTTPRoute inhouse spec/rules/0/timeouts/request": "3630s"},
    ),
    (
        "a Gateway that is there",
        {"gpus": 1},
        {"traffic": DOOR | {"gateway": "infra/public"}},
        {},
        {"HTTPRoute inhouse spec/parentRefs": [{"namespace": "infra", "name": "public"}]},
    ),
    (
        "a pool for the cluster's own picker",
        {"gpus": 1},
        {"traffic": DOOR | {"inference_pool": True}},
        {},
        {
            "InferencePool inhouse-chat spec/targetPorts": [{"number": 8000}],
            "InferencePool inhouse-chat spec/endpointPickerRef/name": "inhouse-chat-epp",
        },
    ),
    (
        "clients that stay with one gateway",
        {"gpus": 1},
        {"traffic": {"kind": "ingress", "session_affinity": True}},
        {"store": STORES},
        {
            "Service inhouse spec/sessionAffinity": "ClientIP",
            "Ingress inhouse metadata/annotations/nginx.ingress.kubernetes.io~affinity": "cookie",
        },
    ),
    (
        "OCI's vault",
        {"gpus": 1},
        {"secrets": {"store": "oci", "vault": "ocid1.vault.x", "region": "eu-frankfurt-1"}},
        {},
        {
            VAULT + "oracle": {
                "vault": "ocid1.vault.x",
                "region": "eu-frankfurt-1",
                "principalType": "InstancePrincipal",
            },
            "ExternalSecret inhouse-secrets spec/data/0/remoteRef/key": "inhouse-inhouse-api-key",
        },
    ),
    (
        "AWS's secrets",
        {"gpus": 1},
        {"secrets": {"store": "aws", "region": "eu-central-1", "role": "arn:aws:iam::1:role/x"}},
        {},
        {VAULT + "aws/service": "SecretsManager", VAULT + "aws/role": "arn:aws:iam::1:role/x"},
    ),
    (
        "Google's secrets",
        {"gpus": 1},
        {"secrets": {"store": "gcp", "vault": "project", "service_account": "reader"}},
        {},
        {VAULT + "gcpsm/auth/workloadIdentity/serviceAccountRef/name": "reader"},
    ),
    (
        "Azure's vault",
        {"gpus": 1},
        {"secrets": {"store": "azure", "vault": "https://x.vault.azure.net", "service_account": "reader"}},
        {},
        {VAULT + "azurekv/authType": "WorkloadIdentity"},
    ),
    (
        "HashiCorp's vault",
        {"gpus": 1},
        {"secrets": {"store": "vault", "vault": "https://vault.example.com", "role": "inhouse"}},
        {},
        {VAULT + "vault/auth/kubernetes/role": "inhouse", VAULT + "vault/version": "v2"},
    ),
    (
        "PostgreSQL by its operator",
        {"gpus": 1},
        {"state": {"redis": "trial", "postgres": "cloudnative-pg"}},
        {},
        {"Cluster inhouse-postgres spec/instances": 3},
    ),
    (
        "figures of GPUs",
        {"gpus": 1},
        {"observe": {"metrics": "monitors", "dcgm": True, "release": "prom"}},
        {},
        {
            "PodMonitor inhouse-gpus spec/namespaceSelector/matchNames": ["gpu-operator"],
            "PodMonitor inhouse-chat metadata/labels/release": "prom",
        },
    ),
    (
        "a mesh of its own kind",
        {"gpus": 1},
        {"mesh": {"mtls": "linkerd"}},
        {},
        {"Namespace inhouse metadata/annotations/linkerd.io~inject": "enabled"},
    ),
]
_UNKNOWN = ("Cluster", "PeerAuthentication", "LeaderWorkerSet")
"""Of these no schema is at hand."""


@pytest.mark.parametrize(
    ("model", "deploy", "more", "wanted"), [row[1:] for row in SWITCHES], ids=[row[0] for row in SWITCHES]
)
def test_a_switch_and_what_it_makes(
    model: dict[str, Any], deploy: dict[str, Any], more: dict[str, Any], wanted: dict[str, Any], crd_errors: Errors
) -> None:
    """It stands where it belongs, schemas know every field, and the linter is content."""
    here, files = files_of(model, deploy, **more)
    made = {f"{one['kind']} {one['metadata']['name']}": one for one in objects(files)}
    for place, value in wanted.items():
        kind, name, path = place.split(" ", 2)
        assert _at(made[f"{kind} {name}"], path) == value
    assert findings(here) == []
    for one in made.values():
        try:
            kubernetes_validate.validate(one, "1.37", strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            assert one["kind"] in _UNKNOWN or list(crd_errors(one)) == []


def _at(value: Any, path: str) -> Any:
    """`spec/rules/0`: what lies there; a ~ in a key stands for its /."""
    for key in path.split("/"):
        value = value[int(key)] if isinstance(value, list) else value[key.replace("~", "/")]
    return value


def test_flux_applies_a_folder_of_a_repository() -> None:
    """Two objects, applied once by hand; what is gone from the folder goes from the cluster."""
    _, files = files_of({"gpus": 1}, {"gitops": {"kind": "flux", "repository": "https://git.example.com/x.git"}})
    (text,) = (file.text for file in files if file.path == "gitops/flux.yaml")
    assert "kind: GitRepository" in text
    assert "prune: true" in text
    assert "./overlays/prod" in text
