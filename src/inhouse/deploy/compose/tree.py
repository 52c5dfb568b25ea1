"""Everything that `docker compose up` needs, as files: compose.yaml, what its services read, and the steps."""

from __future__ import annotations

from typing import Any

from inhouse.deploy.compose import door, services, watch
from inhouse.deploy.compose.box import FIRST_KEY, GRAFANA_PASSWORD, Box, checked, secrets, text
from inhouse.deploy.compose.steps import steps
from inhouse.deploy.site import Site
from inhouse.deploy.text import bare, render, why
from inhouse.deploy.tree import HEAD, File


def compose(site: Site) -> tuple[File, ...]:
    """All files, in order; the same stack makes the same bytes. Raises StackError."""
    box = Box(site.stack)
    document = whole(box)
    files = [
        File("README.md", steps(box)),
        File("compose.yaml", HEAD + render([document])),
        File("config/inhouse.yaml", HEAD + text(box)),
        File("config/prometheus.yml", HEAD + render([watch.prometheus(box)])),
        File("config/loki.yaml", HEAD + render([watch.loki(box)])),
        File("config/config.alloy", watch.ALLOY_HEAD + watch.alloy(box)),
        File("config/datasources.yaml", HEAD + render([watch.datasources()])),
    ]
    if box.stack.deploy.traffic.host:
        files.append(File("config/Caddyfile", HEAD + door.caddyfile(box)))
    return tuple(files)


def plain(site: Site) -> dict[str, Any]:
    """compose.yaml as Compose reads it. Raises StackError."""
    found: dict[str, Any] = bare(whole(Box(site.stack)))
    return found


def whole(box: Box) -> dict[str, Any]:
    """compose.yaml with its reasons."""
    checked(box)
    named = [*services.serving(box), *door.door(box), *watch.watching(box)]
    kept = [*services.volumes(box), *door.volumes(box), *watch.volumes()]
    configs = {"inhouse": "inhouse.yaml", "prometheus": "prometheus.yml", "loki": "loki.yaml"}
    configs |= {"alloy": "config.alloy", "grafana": "datasources.yaml"}
    if box.stack.deploy.traffic.host:
        configs["caddy"] = "Caddyfile"
    return {
        "name": box.name,
        "services": dict(named),
        "networks": {
            "outside": {},
            "inside": why({"internal": True}, "no way out: engines and stores answer the gateway and reach nothing"),
        },
        "volumes": {name: why({}, sentence) for name, sentence in kept},
        "configs": {name: {"file": f"./config/{file}"} for name, file in configs.items()},
        "secrets": {name: {"file": f"./secrets/{name}"} for name in needed(box)},
    }


def needed(box: Box) -> tuple[str, ...]:
    """The files of secrets that somebody has to make."""
    return tuple(dict.fromkeys([FIRST_KEY, *secrets(box), GRAFANA_PASSWORD]))
