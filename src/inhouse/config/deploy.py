"""The sections of the stack that only a cluster needs: `deploy`, and `deploy` of each model.

What becomes of them: `deploy/`. On one machine they are read, checked and left alone.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from inhouse.config.compose import ComposeSpec
from inhouse.config.deploy_parts import GitopsSpec, MeshSpec, ObserveSpec, SecretsSpec, StateSpec, TrafficSpec
from inhouse.config.fields import Count, Duration, MaybeCount, Section, Size, setting
from inhouse.config.scaling import ScalingSpec
from inhouse.config.units import GIB, MIB

LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_KEY = r"(?:[A-Za-z0-9.-]{1,253}/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?"
_TOLERATION = re.compile(rf"{_KEY}(?:={_VALUE})?(?::(?:NoSchedule|PreferNoSchedule|NoExecute))?")


def _label(name: str) -> str:
    if not re.fullmatch(LABEL, name):
        raise ValueError("not a name of Kubernetes: small letters, digits and -, at most 63")
    return name


def _object(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?", name):
        raise ValueError("not a name of Kubernetes: small letters, digits, - and dots")
    return name


def _cpu(text: str) -> str:
    if not re.fullmatch(r"[1-9]\d{0,4}m|[1-9]\d{0,3}(\.\d{1,3})?|0\.\d{1,3}", text):
        raise ValueError("not a number of CPUs such as 2 or 500m")
    return text


def _pairs(texts: list[str]) -> list[str]:
    for text in texts:
        if not re.fullmatch(f"{_KEY}={_VALUE}", text):
            raise ValueError("not a pair such as node.kubernetes.io/instance-type=g6.xlarge")
    return texts


def _tolerations(texts: list[str]) -> list[str]:
    for text in texts:
        if not _TOLERATION.fullmatch(text):
            raise ValueError("not a toleration such as nvidia.com/gpu:NoSchedule or pool=gpu:NoExecute")
    return texts


KubernetesName = Annotated[str, AfterValidator(_label)]
MaybeKubernetesName = Annotated[str | None, AfterValidator(lambda name: None if name is None else _object(name))]
Cpu = Annotated[str, AfterValidator(_cpu)]
MaybeCpu = Annotated[str | None, AfterValidator(lambda text: None if text is None else _cpu(text))]
Pairs = Annotated[list[str], AfterValidator(_pairs)]
Tolerations = Annotated[list[str], AfterValidator(_tolerations)]


class PlacementSpec(Section):
    """Which nodes pods may run on."""

    node_selector: Pairs = setting(
        [], "Labels that a node must have.", example=["node.kubernetes.io/instance-type=g6.xlarge"]
    )
    tolerations: Tolerations = setting([], "Taints that are no obstacle.", example=["nvidia.com/gpu:NoSchedule"])
    regions: list[str] = setting(
        [], "Regions that a node must be in, where data may not leave them.", example=["eu-frankfurt-1"]
    )
    priority_class: MaybeKubernetesName = setting(
        None, "A PriorityClass that exists in the cluster.", example="high-priority"
    )


class GatewayDeploySpec(Section):
    """The pods of the gateway."""

    replicas: MaybeCount = setting(
        None, "Pods of the gateway; without a number, 2 where they share a `store`, else the one that can be.",
        unit="pods", example=3, ge=1, le=100,
    )  # fmt: skip
    form: Literal["separate", "sidecar"] = setting(
        "separate", "`sidecar` puts gateway and engine of the one model into one pod: the smallest installation."
    )
    cpu: Cpu = setting("500m", "CPUs that a pod asks for; it may use more.", unit="CPUs")
    memory: Size = setting(256 * MIB, "Memory that a pod asks for and is held to.", unit="bytes", ge=32 * MIB)
    replicas_max: MaybeCount = setting(
        None, "Pods that there may be when their CPUs are busy; without a number, always `replicas`.",
        unit="pods", example=8, ge=1, le=1000,
    )  # fmt: skip
    placement: PlacementSpec = Field(default_factory=PlacementSpec, description="Which nodes they may run on.")


class DeploySpec(Section):
    """The installation on a cluster, as `inhouse render` writes it."""

    name: KubernetesName = setting("inhouse", "What the names of all objects begin with.")
    namespace: KubernetesName = setting("inhouse", "The namespace of all objects.")
    own_namespace: bool = setting(
        True,
        "Whether the namespace belongs to the installation, which makes it and takes it away; else it must be there.",
    )
    target: Literal["kubernetes", "kserve", "knative"] = setting(
        "kubernetes",
        "What makes engines' pods: plain Kubernetes, KServe, or KServe on Knative.",
    )
    kserve_kind: Literal["InferenceService", "LLMInferenceService"] = setting(
        "InferenceService",
        "What KServe is given for each model; the LLM kind has a fixed number of pods.",
    )
    registry: str = setting(
        "inhouse", "Where the images are that `docker/build` makes.", example="registry.example.com/inhouse",
        min_length=1, max_length=200,
    )  # fmt: skip
    tag: str | None = setting(None, "Tag of those images; without it, the version of inhouse.", example="1.2.3")
    discovery: Literal["k8s", "dns"] = setting(
        "k8s", "How the gateway finds engines: by watching EndpointSlices, or by the name of a headless Service."
    )
    storage_class: MaybeKubernetesName = setting(
        None, "StorageClass of all volumes; without it, the cluster's default.", example="fast-ssd"
    )
    network_policies: bool = setting(
        True, "Whether all traffic is closed but what the parts need; needs a network that enforces it."
    )
    gateway: GatewayDeploySpec = Field(default_factory=GatewayDeploySpec, description="The pods of the gateway.")
    traffic: TrafficSpec = Field(default_factory=TrafficSpec, description="The way in.")
    state: StateSpec = Field(default_factory=StateSpec, description="Stores that are made beside the gateways.")
    secrets: SecretsSpec = Field(default_factory=SecretsSpec, description="Where keys and passwords come from.")
    observe: ObserveSpec = Field(default_factory=ObserveSpec, description="Who reads the metrics.")
    compose: ComposeSpec = Field(default_factory=ComposeSpec, description="The installation by Docker Compose.")
    mesh: MeshSpec = Field(default_factory=MeshSpec, description="Encryption inside the cluster.")
    gitops: GitopsSpec = Field(default_factory=GitopsSpec, description="Who applies the tree.")


class PoolSpec(Section):
    """Workers of a queued model on one kind of node, in place of the pods that the model's own settings describe."""

    replicas: Count = setting(1, "Pods of the pool, each an engine and its worker.", unit="pods", ge=0, le=1000)
    spot: bool = setting(False, "Whether its nodes may vanish at any time: pods prefer spot nodes and tolerate them.")
    drain: Duration = setting(
        20.0, "How long a worker that leaves goes on with its jobs; then others go on with what is left.",
        unit="seconds", ge=0, le=86_400,
    )  # fmt: skip
    scaling: ScalingSpec = Field(default_factory=ScalingSpec, description="How many pods, as the backlog grows.")
    placement: PlacementSpec = Field(default_factory=PlacementSpec, description="Which nodes they may run on.")


class ModelDeploySpec(Section):
    """The engine's pods of one model."""

    replicas: Count = setting(1, "Pods of the engine.", unit="pods", ge=0, le=1000)
    image: str | None = setting(
        None, "Image of the engine; without it, the pinned one that inhouse knows.", example="vllm/vllm-openai:v0.11.0"
    )
    workload: Literal["auto", "deployment", "statefulset"] = setting(
        "auto", "`statefulset` gives each pod a volume of its own; `auto` takes it where several pods each need one."
    )
    nodes: Count = setting(
        1,
        "Nodes that one copy of the model spans (LeaderWorkerSet); engines vllm and sglang.",
        unit="nodes",
        ge=1,
        le=64,
    )
    cpu: MaybeCpu = setting(
        None, "CPUs; without it, the engine's threads, or what it needs to feed a GPU.", example="8"
    )
    memory: Size = setting(8 * GIB, "Memory that a pod asks for and is held to.", unit="bytes", ge=64 * MIB)
    gpus: MaybeCount = setting(
        None, "GPUs of one pod; without a number, `gpus` of the model, and none where its engine runs on CPUs.",
        unit="GPUs", example=1, ge=0, le=16,
    )  # fmt: skip
    gpu_vendor: Literal["nvidia", "amd", "intel-i915", "intel-xe"] = setting(
        "nvidia", "Whose GPUs: which resource a pod asks for."
    )
    mig_profile: str | None = setting(
        None, "A MIG slice in place of whole GPUs (nvidia).", example="3g.40gb", pattern=r"^\d{1,2}g\.\d{1,3}gb(\.me)?$"
    )
    device_class: MaybeKubernetesName = setting(
        None, "A DeviceClass: GPUs come by DRA in place of the device plugin.", example="gpu.nvidia.com"
    )
    shared_memory: Size = setting(
        0, "Size of /dev/shm, of which tensor parallel needs some GiB; 0 is the system's.", unit="bytes"
    )
    volume: Literal["pvc", "shared", "empty"] = setting(
        "pvc",
        "Where weights lie: a volume of one node, one that all pods share (ReadWriteMany), or the node's own disk, "
        "fetched anew for each pod.",
    )
    volume_size: Size = setting(20 * GIB, "Size of that volume.", unit="bytes", ge=64 * MIB)
    weights_image: str | None = setting(
        None, "An image that holds the weights, mounted as a volume in place of a download.", example="weights/chat:1"
    )
    load_time: MaybeCount = setting(
        None, "Longest time to fetch and load; without it, `start_timeout`.", unit="seconds", example=900, ge=1
    )
    scaling: ScalingSpec = Field(default_factory=ScalingSpec, description="How many pods, as load comes and goes.")
    spot: bool = setting(False, "Whether its nodes may vanish at any time: pods prefer spot pools and tolerate them.")
    placement: PlacementSpec = Field(default_factory=PlacementSpec, description="Which nodes they may run on.")
    pools: dict[KubernetesName, PoolSpec] = Field(
        default_factory=dict, description="Of a model with `queued: true`: pools of workers, by name."
    )
