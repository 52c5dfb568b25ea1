"""The way in from outside: Caddy with a certificate, where `deploy.traffic.host` says by what name."""

from __future__ import annotations

from collections.abc import Iterator

from inhouse.deploy.compose.box import Box
from inhouse.deploy.compose.services import Services, check_by, common
from inhouse.deploy.site import HTTP_PORT
from inhouse.deploy.text import why

CADDY = "caddy:2.10.2-alpine"


def door(box: Box) -> Iterator[tuple[str, Services]]:
    """The only service with ports that the network reaches."""
    if not box.stack.deploy.traffic.host:
        return
    root = why("0:0", "its volumes are root's; of root's rights it keeps one: to listen on ports 80 and 443")
    found = common(box, "caddy", CADDY, memory_bytes=256 << 20, user=root, networks=["outside"])
    yield (
        "caddy",
        found
        | {
            "cap_add": ["NET_BIND_SERVICE"],
            "ports": ["80:80", "443:443", "443:443/udp"],
            "configs": [{"source": "caddy", "target": "/etc/caddy/Caddyfile"}],
            "volumes": [
                {"type": "volume", "source": "caddy-data", "target": "/data"},
                {"type": "volume", "source": "caddy-config", "target": "/config"},
            ],
            "tmpfs": ["/tmp:size=64m,mode=1777"],  # noqa: S108
            "depends_on": {"gateway": {"condition": "service_started"}},
            "healthcheck": check_by(["wget", "-q", "--spider", "http://127.0.0.1:2019/config/"]),
            "stop_grace_period": why(f"{int(box.drain_s) + 20}s", "streams go through it: it outlasts the gateway"),
        },
    )


def volumes(box: Box) -> Iterator[tuple[str, str]]:
    """Names of volumes, and what is in each."""
    if box.stack.deploy.traffic.host:
        yield "caddy-data", "certificates and their keys"
        yield "caddy-config", "Caddy's last configuration"


def caddyfile(box: Box) -> str:
    """TLS ends here. Names that no public authority knows get a certificate of Caddy's own."""
    return f"""\
{{
  grace_period {int(box.drain_s) + 10}s
}}

{box.stack.deploy.traffic.host} {{
  # tokens leave as they come
  reverse_proxy gateway:{HTTP_PORT} {{
    flush_interval -1
  }}
  header Strict-Transport-Security "max-age=31536000"
}}
"""
