"""What must outlast a gateway: its own volume, or Redis and PostgreSQL, elsewhere or small ones for a trial."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy import pods
from inhouse.deploy.site import Site, shared
from inhouse.deploy.text import why

REDIS_IMAGE = "valkey/valkey:8.1.4-alpine"
POSTGRES_IMAGE = "postgres:17.6-alpine"
REDIS_PORT, POSTGRES_PORT = 6379, 5432
PASSWORD = "POSTGRES_PASSWORD"  # noqa: S105 - the name of a variable
_POSTGRES_USER = 70
"""Of the image's own user `postgres`."""


def settings(site: Site) -> dict[str, Any]:
    """`store` as the gateway in the cluster reads it, where the stores are made here."""
    made, found = site.stack.deploy.state, site.stack.store.model_dump(exclude_unset=True)
    if made.redis == "trial":
        found["redis"] = {"url": f"redis://{site.host(f'{site.name}-redis')}:{REDIS_PORT}/0"}
    if made.postgres != "none":
        host = f"{site.name}-postgres" + ("-rw" if made.postgres == "cloudnative-pg" else "")
        url = f"postgresql://inhouse@{site.host(host)}:{POSTGRES_PORT}/inhouse"
        found["postgres"] = {"url": url, "password": f"env:{PASSWORD}"}
    return found


def password(site: Site) -> dict[str, Any] | None:
    """The variable with the password of a PostgreSQL that is made here."""
    made = site.stack.deploy.state.postgres
    if made == "none":
        return None
    ref = {"name": site.secret, "key": PASSWORD}
    if made == "cloudnative-pg":
        ref = {"name": f"{site.name}-postgres-app", "key": "password"}
    return {"name": PASSWORD, "valueFrom": {"secretKeyRef": ref}}


def own_volume(site: Site) -> Iterator[Any]:
    """Of a gateway that shares its state with nobody."""
    if not shared(site):
        yield _claim(site, f"{site.name}-state", "gateway", site.stack.deploy.state.volume_size)


def stores(site: Site) -> Iterator[Any]:
    made = site.stack.deploy.state
    if made.redis == "trial":
        yield from _redis(site)
    if made.postgres == "trial":
        yield from _postgres(site)
    if made.postgres == "cloudnative-pg":
        yield _cluster(site)


def redis_container() -> dict[str, Any]:
    """Redis' own, as every target has it."""
    flags = ["--appendonly", "yes", "--appendfsync", "everysec", "--dir", "/data", "--protected-mode", "no"]
    return {
        "name": "redis",
        "image": REDIS_IMAGE,
        "command": ["valkey-server"],
        "args": flags,
        "ports": [{"name": "redis", "containerPort": REDIS_PORT}],
        "readinessProbe": {"tcpSocket": {"port": "redis"}, "periodSeconds": 5},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": pods.container_security(),
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }


def _redis(site: Site) -> Iterator[Any]:
    sentence = "For a trial: one pod, no password; only gateways reach it."
    yield from _stateful(site, f"{site.name}-redis", "redis", REDIS_PORT, redis_container(), [], sentence)


def postgres_container() -> dict[str, Any]:
    """PostgreSQL's own, as every target has it, but for its password."""
    return {
        "name": "postgres",
        "image": POSTGRES_IMAGE,
        "env": [
            {"name": "POSTGRES_USER", "value": "inhouse"},
            {"name": "POSTGRES_DB", "value": "inhouse"},
            {"name": "PGDATA", "value": "/data/pg"},
        ],
        "ports": [{"name": "postgres", "containerPort": POSTGRES_PORT}],
        "readinessProbe": {"exec": {"command": ["pg_isready", "-U", "inhouse"]}, "periodSeconds": 5},
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": pods.container_security(),
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "run", "mountPath": "/var/run/postgresql"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        ],
    }


def _postgres(site: Site) -> Iterator[Any]:
    name = f"{site.name}-postgres"
    container = postgres_container()
    container["env"].append(password(site))
    scratch = [{"name": name, "emptyDir": {"sizeLimit": "64Mi"}} for name in ("run", "tmp")]
    sentence = "For a trial: one pod, no copies; take deploy.state.postgres: cloudnative-pg for work."
    yield from _stateful(site, name, "postgres", POSTGRES_PORT, container, scratch, sentence, user=_POSTGRES_USER)


def _stateful(
    site: Site,
    name: str,
    component: str,
    port: int,
    container: dict[str, Any],
    volumes: list[Any],
    sentence: str,
    **security: int,
) -> Iterator[Any]:
    labels = site.labels(component)
    yield why(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": site.meta(name, component),
            "spec": {
                "clusterIP": "None",
                "selector": labels,
                "ports": [{"name": component, "port": port, "targetPort": component}],
            },
        },
        sentence,
    )
    claim = _claim(site, "data", component, site.stack.deploy.state.volume_size)
    template: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pods.pod_security(**security),
        "terminationGracePeriodSeconds": 60,
        "containers": [container],
    }
    if volumes:
        template["volumes"] = volumes
    yield {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": site.meta(name, component),
        "spec": {
            "replicas": 1,
            "serviceName": name,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": template},
            "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": labels}, "spec": claim["spec"]}],
        },
    }


def _cluster(site: Site) -> Any:
    spec: dict[str, Any] = {
        "instances": 3,
        "storage": {"size": pods.quantity(site.stack.deploy.state.volume_size)},
        "bootstrap": {"initdb": {"database": "inhouse", "owner": "inhouse"}},
    }
    if site.stack.deploy.storage_class:
        spec["storage"]["storageClass"] = site.stack.deploy.storage_class
    return why(
        {
            "apiVersion": "postgresql.cnpg.io/v1",
            "kind": "Cluster",
            "metadata": site.meta(f"{site.name}-postgres", "postgres"),
            "spec": spec,
        },
        "Three copies by CloudNativePG, which makes the password too; add its backup section for your object store.",
    )


def _claim(site: Site, name: str, component: str, size_bytes: int) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": pods.quantity(size_bytes)}},
    }
    if site.stack.deploy.storage_class:
        spec["storageClassName"] = site.stack.deploy.storage_class
    meta = site.meta(name, component)
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec}
