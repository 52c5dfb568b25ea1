"""What a person does with the folder, in order."""

from __future__ import annotations

from inhouse.deploy.compose.box import FIRST_KEY, GRAFANA_PASSWORD, Box, secrets
from inhouse.deploy.launch import gpus_of
from inhouse.deploy.state import PASSWORD
from inhouse.deploy.steps import HEAD

_MADE = {FIRST_KEY, PASSWORD, GRAFANA_PASSWORD}
"""Secrets that are random and nobody's but this installation's."""


def steps(box: Box) -> str:
    """A page in Markdown."""
    one, host = box.stack.deploy.compose, box.stack.deploy.traffic.host
    given = [name for name in secrets(box) if name not in _MADE]
    made = [name for name in dict.fromkeys([*secrets(box), GRAFANA_PASSWORD]) if name in _MADE]
    url = f"https://{host}" if host else f"http://{_host(one.address)}:{one.port}"
    rows = [HEAD, f"# {box.name} on one machine", "", "The machine needs Docker 25 or newer with Compose 2.24 or newer"]
    if any(gpus_of(lane) for lane in box.lanes):
        rows[-1] += ", the GPUs' driver, and for NVIDIA's the container toolkit"
    rows[-1] += "."
    rows += ["Images come from a registry, or are built: `docker/build` in the source of inhouse.", ""]
    if host:
        rows += [f"`{host}` must lead to this machine, and ports 80 and 443 to it: Caddy gets the certificate.", ""]
    rows += [
        "Secrets are files, once; each container sees only its own, and `compose.yaml` holds none:",
        "",
        "```sh",
        "mkdir -p -m 700 secrets  # the folder is closed; the files are read by users of containers",
        f"for name in {' '.join(made)}; do",
        "  [ -e secrets/$name ] || openssl rand -hex 32 > secrets/$name",
        "done",
        *(f'printf %s "${name}" > secrets/{name}' for name in given),
        "chmod 444 secrets/*",
        "```",
        "",
        "Weights of gated places need a token, in the environment or in a file `.env`: `HF_TOKEN=…`, or the variables",
        "of S3. Then:",
        "",
        "```sh",
        "docker compose up --detach --wait            # serves; the first start fetches the weights",
        "docker compose --profile observe up --detach # with Prometheus, Loki and Grafana",
        f'curl -s {url}/v1/models -H "Authorization: Bearer $(cat secrets/{FIRST_KEY})"',
        "```",
        "",
        f"Keys are made by `docker compose exec gateway inhouse keys create`. Grafana is at"
        f" <http://127.0.0.1:{one.grafana_port}>, as `admin` with `secrets/{GRAFANA_PASSWORD}`.",
        "",
        "After a change of inhouse.yaml: render again, then `docker compose up --detach`. What must be kept is in",
        "volumes: `docker compose down` leaves them, `down --volumes` removes keys, use and weights.",
        "",
    ]
    return "\n".join(rows)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
