"""What all artefacts share: names, labels, ports, images, and the stack as the gateway in the cluster reads it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from inhouse import __version__
from inhouse.config import ModelSpec, Stack
from inhouse.config.deploy import PoolSpec
from inhouse.config.model_catalogue import catalogue
from inhouse.config.sources import parse_source
from inhouse.engines.table import ENGINES
from inhouse.errors import StackError
from inhouse.weights.catalogue import Machine, expand

HTTP_PORT = 8080
HEALTH_PORT = 8081
ENGINE_PORT = 8000
BEHIND_PORT, OPEN_PORT = 8001, 8002
"""Of an engine behind its door, and of the pages that the door shows without a certificate."""
STATE_FOLDER = "/var/lib/inhouse"
CONFIG_FOLDER = "/etc/inhouse"
TLS_FOLDER = "/etc/inhouse-tls"
MODELS_FOLDER = "/models"
USER = 65532
"""Who runs in the images: nobody with rights."""


@dataclass(frozen=True)
class Lane:
    """One model whose engine runs in the cluster."""

    model: str
    spec: ModelSpec
    name: str
    """Of its objects."""
    pool: str = ""
    """Of workers: which of the model's pools it is, where it has several."""
    drain_s: float | None = None
    """Of workers: how long one that leaves goes on with its jobs; None: as long as an answer may take."""

    @property
    def queued(self) -> bool:
        """Whether its pods are workers, which take jobs from the queue and which nobody connects to."""
        return self.spec.queued


@dataclass(frozen=True)
class Site:
    """A stack, and what its installation on a cluster is called."""

    stack: Stack

    @property
    def name(self) -> str:
        return self.stack.deploy.name

    @property
    def namespace(self) -> str:
        return self.stack.deploy.namespace

    @property
    def sidecar(self) -> bool:
        return self.stack.deploy.gateway.form == "sidecar"

    @property
    def certified(self) -> bool:
        """Whether gateways and engines show each other certificates of the installation's own."""
        return self.stack.deploy.mesh.mtls == "cert-manager" and not self.sidecar

    def inner(self, lane: Lane) -> tuple[str, int]:
        """Where the engine itself listens: on its pod's loopback, where something stands in front of it."""
        if self.sidecar or lane.queued:
            return "127.0.0.1", ENGINE_PORT
        if self.certified:
            return "127.0.0.1", BEHIND_PORT
        return "0.0.0.0", ENGINE_PORT  # noqa: S104 - the pod's own

    @property
    def target(self) -> str:
        """What makes pods of engines: a name of `targets.TARGETS`."""
        return self.stack.deploy.target

    @property
    def llm(self) -> bool:
        """Whether KServe is given LLMInferenceServices."""
        return self.target == "kserve" and self.stack.deploy.kserve_kind == "LLMInferenceService"

    @cached_property
    def lanes(self) -> tuple[Lane, ...]:
        """The models that have a `source`, or each of their pools; others' engines run elsewhere and are left alone."""
        taken: set[str] = set()
        found: list[Lane] = []
        for model, spec in self.stack.models.items():
            if spec.source is None:
                continue
            placed = _placed(spec, self.stack)
            if not spec.deploy.pools:
                drain_s = PoolSpec().drain if spec.queued and spec.deploy.spot else None
                found.append(Lane(model, placed, f"{self.name}-{_label(model, taken)}", drain_s=drain_s))
            for pool, said in spec.deploy.pools.items():
                own: dict[str, Any] = {"replicas": said.replicas, "spot": said.spot}
                own |= {"scaling": said.scaling, "placement": said.placement}
                deploy = placed.deploy.model_copy(update=own)
                name = f"{self.name}-{_label(f'{model}-{pool}', taken)}"
                found.append(Lane(model, placed.model_copy(update={"deploy": deploy}), name, pool, said.drain))
        return tuple(found)

    @cached_property
    def reached(self) -> tuple[Lane, ...]:
        """Those whose engines the gateway speaks to."""
        return tuple(lane for lane in self.lanes if not lane.queued)

    @cached_property
    def workers(self) -> tuple[Lane, ...]:
        """Those whose engines have a worker beside them."""
        return tuple(lane for lane in self.lanes if lane.queued)

    def image(self, part: str) -> str:
        """An image of ours."""
        return f"{self.stack.deploy.registry}/{part}:{self.stack.deploy.tag or __version__}"

    @property
    def common(self) -> dict[str, str]:
        """What all objects of the installation have, and no others."""
        return {"app.kubernetes.io/name": "inhouse", "app.kubernetes.io/instance": self.name}

    def labels(self, component: str, lane: Lane | None = None) -> dict[str, str]:
        """What a selector chooses by: it never changes with a version."""
        found = self.common | {"app.kubernetes.io/component": component}
        if lane is not None:
            found["inhouse.dev/model"] = lane.name.removeprefix(f"{self.name}-")
        return found

    def meta(self, name: str, component: str, lane: Lane | None = None, **more: Any) -> dict[str, Any]:
        """An object's metadata."""
        labels = {**self.labels(component, lane), "app.kubernetes.io/managed-by": "inhouse"}
        return {"name": name, "namespace": self.namespace, "labels": labels, **more}

    @property
    def gateways(self) -> int:
        """Pods of the gateway."""
        return self.stack.deploy.gateway.replicas or (2 if shared(self) else 1)

    @property
    def drain_s(self) -> float:
        """How long a gateway that leaves finishes streams: as said, or as long as one may take."""
        if "drain" in self.stack.gateway.model_fields_set:
            return self.stack.gateway.drain
        return max(spec.total_timeout for spec in self.stack.models.values())

    def service(self, lane: Lane) -> str:
        """The headless Service of a model's pods; KServe has one by the model's own name."""
        return lane.name if self.target == "kubernetes" else f"{lane.name}-pods"

    def host(self, service: str) -> str:
        """By what name a Service of the installation is reached."""
        return f"{service}.{self.namespace}.svc"

    def endpoint(self, lane: Lane) -> str:
        """Where the gateway finds the engines of a model: pods, never the address of a Service."""
        if self.sidecar:
            return f"http://127.0.0.1:{ENGINE_PORT}"
        if self.target == "knative":  # which counts what comes by its own address
            return f"http://{lane.name}-predictor.{self.namespace}.svc.cluster.local:80"
        tls = "+https" if self.certified else ""
        if self.stack.deploy.discovery == "dns":
            return f"dns{tls}://{self.service(lane)}.{self.namespace}.svc:{ENGINE_PORT}"
        return f"k8s{tls}://{self.namespace}/{self.service(lane)}:http"

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """The variables that the stack takes secrets from, in order."""
        made = ["POSTGRES_PASSWORD"] if self.stack.deploy.state.postgres == "trial" else []
        used = _variables(self.stack.model_dump(exclude_unset=True))
        return tuple(dict.fromkeys(["INHOUSE_API_KEY", *used, *made]))

    @property
    def secret(self) -> str:
        """The Secret that holds them."""
        return f"{self.name}-secrets"


def _placed(spec: ModelSpec, stack: Stack) -> ModelSpec:
    """With the file that a name of the catalogue stands for in a pod of that memory: what fetches it has less."""
    line = parse_source(str(spec.source))
    if line.kind != "name":
        return spec
    machine = Machine(spec.deploy.memory)
    entries = catalogue(stack.weights.catalogue)
    choice = expand(line, entries, machine, quant=spec.quant, forms=ENGINES[spec.engine].formats)
    return spec.model_copy(update={"source": choice.source})


def shared(site: Site) -> bool:
    """Whether several gateways can agree: keys in PostgreSQL, limits in Redis."""
    said, made = site.stack.store, site.stack.deploy.state
    redis = said.redis.is_set or made.redis != "none"
    return redis and (said.postgres.is_set or made.postgres != "none")


def check(site: Site) -> None:
    """Raises StackError for what one machine can do and a cluster as described cannot."""
    stack = site.stack
    if not site.lanes and not stack.models:
        raise StackError("there is no model to install", where="models")
    if site.gateways > 1 and not shared(site):
        raise StackError(
            f"{site.gateways} gateways share no state: each would have keys and limits of its own",
            where="deploy.gateway.replicas",
            hint="name `store.redis` and `store.postgres`, let `deploy.state` make them, or leave `replicas` out",
        )
    if site.sidecar and (len(site.lanes) != 1 or site.gateways != 1):
        raise StackError(
            "a sidecar is for one model and one pod",
            where="deploy.gateway.form",
            hint="keep one model with a `source` and set `deploy.gateway.replicas: 1`, or leave `form` out",
        )
    for name, spec in stack.models.items():
        if spec.deploy.pools and not spec.queued:
            raise StackError(
                f"`models.{name}.deploy.pools` are for workers, and the model is not queued",
                where=f"models.{name}.deploy.pools",
                hint="add `queued: true` and `queue: {url: …}`, or say `replicas`, `spot` and `scaling` of the model",
            )
    for lane in site.workers:
        if site.sidecar or lane.spec.deploy.nodes > 1:
            what = "beside the gateway in one pod" if site.sidecar else "for a copy over several nodes"
            raise StackError(
                f"`models.{lane.model}` is queued, and workers are not rendered {what}",
                where=f"models.{lane.model}.queued",
                hint="leave `queued` out, or the other setting",
            )
    for lane in site.lanes:
        source = str(lane.spec.source)
        if "://" in source:
            _check_named(lane, source)
            continue
        raise StackError(
            f"`models.{lane.model}.source` is {source}, which no pod can read",
            where=f"models.{lane.model}.source",
            hint="name a place that a cluster reaches: hf://, s3://, oci:// or https://",
        )
    for place in _files(stack.model_dump(exclude_unset=True), ()):
        raise StackError(
            f"`{place}` names a file, which is not in the pods",
            where=place,
            hint="name a variable of the secret in its place (`env:` or `from_env`)",
        )


def _check_named(lane: Lane, source: str) -> None:
    """A manifest names the file that llama.cpp opens; of a whole repository, only what comes tells which it is."""
    if lane.spec.engine in ("llamacpp", "llama-server") and not source.partition("@")[0].endswith(".gguf"):
        raise StackError(
            f"`models.{lane.model}.source` names no file, and a pod must know which one to open",
            where=f"models.{lane.model}.source",
            hint=f"name the file, {source.partition('@')[0]}/….gguf; `inhouse models show` tells what there is",
        )


def _label(model: str, taken: set[str]) -> str:
    """A model's name as part of an object's name: at most 40 characters, unlike all others."""
    text = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-") or "model"
    if text != model or len(text) > 40 or text in taken:
        text = f"{text[:32].rstrip('-')}-{hashlib.sha256(model.encode()).hexdigest()[:6]}"
    taken.add(text)
    return text


def _variables(value: Any, key: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _variables(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _variables(inner, key)
    elif isinstance(value, str) and key == "from_env":
        yield value
    elif isinstance(value, str) and value.startswith("env:"):
        yield value.removeprefix("env:")


def _files(value: Any, place: tuple[str, ...]) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _files(inner, (*place, str(name)))
    elif (
        place
        and (
            place[-1] in ("from_file", "tls_cert", "tls_key", "ca_file", "cert_file", "key_file") and value is not None
        )
    ) or (isinstance(value, str) and value.startswith("file:/")):
        yield ".".join(place)
