"""The one machine as a site: services find each other by their names, secrets are files, one gateway serves.

Not here: what a service looks like.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from inhouse.deploy import inside
from inhouse.deploy.launch import gpus_of
from inhouse.deploy.site import ENGINE_PORT, Lane, Site, check
from inhouse.errors import StackError

SECRETS_FOLDER = "/run/secrets"
FIRST_KEY = "INHOUSE_API_KEY"
GRAFANA_PASSWORD = "GRAFANA_PASSWORD"  # noqa: S105 - the name of a file


@dataclass(frozen=True)
class Box(Site):
    """A stack as it is installed on one machine."""

    @property
    def gateways(self) -> int:
        return 1

    @property
    def target(self) -> str:
        return "kubernetes"  # containers as plain ones have them

    @property
    def sidecar(self) -> bool:
        return False

    @property
    def certified(self) -> bool:
        """What they say to each other stays on the machine."""
        return False

    def inner(self, lane: Lane) -> tuple[str, int]:
        return "0.0.0.0", ENGINE_PORT  # noqa: S104 - the container's own, on the network without a way out

    def service(self, lane: Lane) -> str:
        return lane.name.removeprefix(f"{self.name}-")

    def endpoint(self, lane: Lane) -> str:
        """Every container of the model, by the one name that they share."""
        return f"dns://{self.service(lane)}:{ENGINE_PORT}"

    def host(self, service: str) -> str:
        return service.removeprefix(f"{self.name}-")


def checked(box: Box) -> None:
    """Raises StackError for what a cluster can do and one machine by Compose cannot."""
    check(box)
    made = box.stack.deploy.state
    if made.postgres == "cloudnative-pg":
        raise StackError(
            "CloudNativePG is an operator of Kubernetes",
            where="deploy.state.postgres",
            hint="`trial` makes one PostgreSQL; one that exists is named in `store.postgres`",
        )
    taken = {"gateway", "caddy", "redis", "postgres", "prometheus", "loki", "alloy", "grafana"}
    for lane in box.lanes:
        spec = lane.spec.deploy
        if lane.queued:
            raise StackError(
                f"`models.{lane.model}` is queued for workers, and on one machine the gateway reaches its engines",
                where=f"models.{lane.model}.queued",
                hint="leave `queued` out; workers elsewhere take jobs of a model that has no `source` here",
            )
        if spec.nodes > 1:
            raise StackError(
                f"`models.{lane.model}` spans {spec.nodes} nodes, and Compose has one machine",
                where=f"models.{lane.model}.deploy.nodes",
                hint="leave `nodes` out",
            )
        if spec.weights_image:
            raise StackError(
                f"`models.{lane.model}.deploy.weights_image` is mounted by Kubernetes only",
                where=f"models.{lane.model}.deploy.weights_image",
                hint="leave it out: weights come from `source` into a volume",
            )
        if gpus_of(lane) and (spec.mig_profile or spec.device_class):
            name = "mig_profile" if spec.mig_profile else "device_class"
            raise StackError(
                f"`models.{lane.model}.deploy.{name}` is for Kubernetes' devices",
                where=f"models.{lane.model}.deploy.{name}",
                hint="leave it out: Compose hands over whole GPUs",
            )
        if box.service(lane) in taken:
            raise StackError(
                f"the model {lane.model!r} is called as a part of the installation is",
                where=f"models.{lane.model}",
                hint="give the model another name, and a route the one that clients use",
            )


def text(box: Box) -> str:
    """`inhouse.yaml` as the gateway reads it: the one of a cluster, but for secrets, which are files here."""
    told = _by_files(yaml.safe_load(inside.text(box)))
    keys, place = told.setdefault("keys", {}), f"{SECRETS_FOLDER}/{FIRST_KEY}"
    if all(one.get("from_file") != place for one in keys.values()):
        keys["first"] = {"from_file": place, "note": f"secrets/{FIRST_KEY}"}
    return yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=100)


def secrets(box: Box) -> tuple[str, ...]:
    """Those that the gateway reads."""
    return box.secrets


def _by_files(value: Any) -> Any:
    if isinstance(value, dict):
        if (name := value.get("from_env")) is not None:
            value = {key: inner for key, inner in value.items() if key != "from_env"}
            value["from_file"] = f"{SECRETS_FOLDER}/{name}"
        return {key: _by_files(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_by_files(inner) for inner in value]
    if isinstance(value, str) and value.startswith("env:"):
        return f"file:{SECRETS_FOLDER}/{value.removeprefix('env:')}"
    return value
