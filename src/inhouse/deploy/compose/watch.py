"""Those that watch: Prometheus, Loki with a shipper of logs, Grafana; in the profile `observe`, which can be left out.

The shipper reads Docker's files of logs. It gets no way to speak to Docker, which would make it lord of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from inhouse.deploy.compose.box import GRAFANA_PASSWORD, SECRETS_FOLDER, Box
from inhouse.deploy.compose.services import Services, check_by, common
from inhouse.deploy.launch import engine_of
from inhouse.deploy.site import ENGINE_PORT, HTTP_PORT
from inhouse.deploy.text import why
from inhouse.deploy.tree import HEAD

ALLOY_HEAD = HEAD.replace("#", "//", 1)
PROFILE = "observe"
PROMETHEUS = "prom/prometheus:v3.5.0"
LOKI = "grafana/loki:3.5.3"
ALLOY = "grafana/alloy:v1.10.2"
GRAFANA = "grafana/grafana:12.1.1"
_LOGS = "/var/lib/docker/containers"
_PROMETHEUS_PORT, _LOKI_PORT, _GRAFANA_PORT = 9090, 3100, 3000


def watching(box: Box) -> Iterator[tuple[str, Services]]:
    yield "prometheus", _prometheus(box)
    yield "loki", _loki(box)
    yield "alloy", _alloy(box)
    yield "grafana", _grafana(box)


def volumes() -> Iterator[tuple[str, str]]:
    """Names of volumes, and what is in each."""
    yield "prometheus", "metrics"
    yield "loki", "logs"
    yield "alloy", "how far logs are read"
    yield "grafana", "dashboards of your own"


def _prometheus(box: Box) -> Services:
    return _watcher(box, "prometheus", PROMETHEUS, user="65534:65534", memory_bytes=1 << 30) | {
        "command": [
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
            f"--storage.tsdb.retention.time={int(box.stack.deploy.compose.keep)}s",
        ],
        "configs": [{"source": "prometheus", "target": "/etc/prometheus/prometheus.yml"}],
        "volumes": [_volume("prometheus", "/prometheus")],
        "healthcheck": check_by(["wget", "-q", "--spider", f"http://127.0.0.1:{_PROMETHEUS_PORT}/-/ready"], start_s=60),
    }


def _loki(box: Box) -> Services:
    return _watcher(box, "loki", LOKI, user="10001:10001", memory_bytes=1 << 30) | {
        "command": ["-config.file=/etc/loki/loki.yaml"],
        "configs": [{"source": "loki", "target": "/etc/loki/loki.yaml"}],
        "volumes": [_volume("loki", "/loki")],
        "tmpfs": ["/tmp:size=64m,mode=1777"],  # noqa: S108
    }


def _alloy(box: Box) -> Services:
    logs = {"type": "bind", "source": _LOGS, "target": _LOGS, "read_only": True}
    root = why("0:0", "Docker's files of logs belong to root; without capabilities it can do no more than read them")
    return _watcher(box, "alloy", ALLOY, user=root, memory_bytes=512 << 20) | {
        "command": [
            "run",
            "--storage.path=/var/lib/alloy/data",
            "--disable-reporting",
            "/etc/alloy/config.alloy",
        ],
        "configs": [{"source": "alloy", "target": "/etc/alloy/config.alloy"}],
        "volumes": [_volume("alloy", "/var/lib/alloy/data"), logs],
        "tmpfs": ["/tmp:size=64m,mode=1777"],  # noqa: S108
        "depends_on": {"loki": {"condition": "service_started"}},
    }


def _grafana(box: Box) -> Services:
    one = box.stack.deploy.compose
    url = f"http://127.0.0.1:{_GRAFANA_PORT}/api/health"
    return _watcher(box, "grafana", GRAFANA, user="472:0", memory_bytes=512 << 20) | {
        "networks": ["outside", "inside"],
        "ports": [f"127.0.0.1:{one.grafana_port}:{_GRAFANA_PORT}"],
        "environment": {
            "GF_SECURITY_ADMIN_PASSWORD__FILE": f"{SECRETS_FOLDER}/{GRAFANA_PASSWORD}",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_USERS_ALLOW_SIGN_UP": "false",
        },
        "secrets": [GRAFANA_PASSWORD],
        "configs": [{"source": "grafana", "target": "/etc/grafana/provisioning/datasources/inhouse.yaml"}],
        "volumes": [_volume("grafana", "/var/lib/grafana")],
        "tmpfs": ["/tmp:size=64m,mode=1777"],  # noqa: S108
        "healthcheck": check_by(["wget", "-q", "--spider", url], start_s=60),
    }


def _watcher(box: Box, name: str, image: str, *, user: Any, memory_bytes: int) -> Services:
    return common(box, name, image, memory_bytes=memory_bytes, user=user, networks=["inside"], profile=PROFILE)


def _volume(name: str, target: str) -> dict[str, str]:
    return {"type": "volume", "source": name, "target": target}


def prometheus(box: Box) -> dict[str, Any]:
    """What is read: the gateway, every container of every engine that has metrics, Prometheus itself."""
    jobs = [
        {"job_name": "inhouse", "static_configs": [{"targets": [f"gateway:{HTTP_PORT}"]}]},
        {"job_name": "prometheus", "static_configs": [{"targets": [f"127.0.0.1:{_PROMETHEUS_PORT}"]}]},
    ]
    for lane in box.lanes:
        paths = engine_of(lane).metrics
        if paths:
            name = box.service(lane)
            jobs.append(
                {
                    "job_name": f"engine-{name}",
                    "metrics_path": paths[0].decode(),
                    "dns_sd_configs": [{"names": [name], "type": "A", "port": ENGINE_PORT}],
                    "relabel_configs": [{"target_label": "model", "replacement": lane.model.replace("$", "$$")}],
                }
            )
    every = f"{int(box.stack.deploy.observe.interval)}s"
    return {"global": {"scrape_interval": every, "scrape_timeout": every}, "scrape_configs": jobs}


def loki(box: Box) -> dict[str, Any]:
    """One process, its data in its volume."""
    return {
        "auth_enabled": why(False, "one tenant; only Grafana and the shipper reach it"),
        "server": {"http_listen_port": _LOKI_PORT, "log_level": "warn"},
        "common": {
            "path_prefix": "/loki",
            "replication_factor": 1,
            "ring": {"kvstore": {"store": "inmemory"}, "instance_addr": "127.0.0.1"},
            "storage": {"filesystem": {"chunks_directory": "/loki/chunks", "rules_directory": "/loki/rules"}},
        },
        "schema_config": {
            "configs": [
                {
                    "from": why("2025-01-01", "of the schema, not of the data"),
                    "store": "tsdb",
                    "object_store": "filesystem",
                    "schema": "v13",
                    "index": {"prefix": "index_", "period": "24h"},
                }
            ]
        },
        "compactor": {
            "working_directory": "/loki/compactor",
            "retention_enabled": True,
            "delete_request_store": "filesystem",
        },
        "limits_config": {
            "retention_period": f"{max(24, int(box.stack.deploy.compose.keep) // 3600)}h",
            "allow_structured_metadata": True,
        },
        "analytics": {"reporting_enabled": False},
    }


def datasources() -> dict[str, Any]:
    """Where Grafana looks."""
    found = [
        {"name": "Prometheus", "type": "prometheus", "uid": "prometheus", "access": "proxy"}
        | {"url": f"http://prometheus:{_PROMETHEUS_PORT}", "isDefault": True},
        {"name": "Loki", "type": "loki", "uid": "loki", "access": "proxy", "url": f"http://loki:{_LOKI_PORT}"},
    ]
    return {"apiVersion": 1, "datasources": found}


def alloy(box: Box) -> str:
    """Docker's lines of this installation's containers, each with the name of its service."""
    return f"""\
local.file_match "containers" {{
  path_targets = [{{ __path__ = "{_LOGS}/*/*-json.log" }}]
}}

loki.source.file "containers" {{
  targets    = local.file_match.containers.targets
  forward_to = [loki.process.lines.receiver]
}}

// a line of Docker's is a document: the line itself, when it was written, and the tag that compose.yaml gives
loki.process "lines" {{
  stage.json {{
    expressions = {{ line = "log", stream = "stream", at = "time", tag = "attrs.tag" }}
  }}
  stage.regex {{
    source     = "tag"
    expression = "^{box.name}/(?P<service>.+)$"
  }}
  stage.labels {{
    values = {{ service = "", stream = "" }}
  }}
  stage.match {{
    selector = "{{service=\\"\\"}}"
    action   = "drop"
  }}
  stage.label_drop {{
    values = ["filename"]
  }}
  stage.timestamp {{
    source = "at"
    format = "RFC3339Nano"
  }}
  stage.output {{
    source = "line"
  }}
  forward_to = [loki.write.loki.receiver]
}}

loki.write "loki" {{
  endpoint {{
    url = "http://loki:{_LOKI_PORT}/loki/api/v1/push"
  }}
}}
"""
