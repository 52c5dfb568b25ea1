"""The part of a model that says where its replicas are: other machines, containers, or child processes of our own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator

from inhouse.config.fields import Count, Duration, Section, contradiction, setting

if TYPE_CHECKING:
    from inhouse.config.model import ModelSpec

LOCAL_SLOTS_MAX = 256
"""llama.cpp takes no more."""

EngineName = Literal[
    "llamacpp", "llama-server", "vllm", "sglang", "tgi", "ollama", "tensorrt-llm", "transformers", "openai"
]
"""Of each there is a row in `engines/table.ENGINES`."""

_OF_A_SOURCE = (
    "replicas", "batch", "embeddings", "prompt_cache", "engine_binary", "engine_build", "engine_args",
    "gpus", "gpu_memory", "quantization", "load", "pinned", "sleep_after", "memory", "crashes_max", "crash_pause",
)  # fmt: skip
_ENDPOINT = re.compile(
    r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?(?:/[A-Za-z0-9._~/-]*)?"
    r"|unix:/[^\s?#]+"
    r"|dns(?:\+https)?://[A-Za-z0-9._-]+:\d{1,5}"
    r"|k8s(?:\+https)?://[a-z0-9-]+/[a-z0-9-]+:[a-z0-9-]+"
)
_SECRET = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:/[^\0]+")


def _endpoint(text: str) -> str:
    if not _ENDPOINT.fullmatch(text):
        raise ValueError(
            "not an endpoint such as http://10.0.0.7:8000, unix:/run/engine.sock, dns://engines.internal:8000 "
            "or k8s://namespace/service:port"
        )
    if text.startswith(("http", "dns")):
        try:
            port = urlsplit(text).port
        except ValueError:
            port = 0
        if port == 0:
            raise ValueError("a port is a number from 1 to 65535")
    return text


def _secret(text: str | None) -> str | None:
    if text is not None and not _SECRET.fullmatch(text):
        # the value is not shown: it may be the secret itself
        raise ValueError("not a reference: a key is never written into the file")
    return text


def _api(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}/?", text):
        raise ValueError("not an address such as https://10.0.0.1:6443")
    return text


KubernetesApi = Annotated[str | None, AfterValidator(_api)]
EndpointText = Annotated[str, AfterValidator(_endpoint)]
SecretReference = Annotated[str | None, AfterValidator(_secret)]


class ProbeSpec(Section):
    """How the replicas of a model are watched."""

    interval: Duration = setting(
        2.0, "Pause between two looks at an endpoint's health and metrics.", unit="seconds", ge=0.05, le=300
    )
    timeout: Duration = setting(
        2.0, "How long an endpoint may take to answer when it is asked for its health.", unit="seconds", gt=0, le=60
    )
    failures: Count = setting(
        2, "Looks in a row that must fail before an endpoint counts as unreachable.", unit="looks", ge=1, le=100
    )
    connect_timeout: Duration = setting(
        3.0, "How long an endpoint may take to accept a connection.", unit="seconds", gt=0, le=60
    )
    resolve_interval: Duration = setting(
        5.0, "Pause between two look-ups of a `dns://` name.", unit="seconds", ge=0.1, le=3600
    )


class KubernetesSpec(Section):
    """The cluster that `k8s://` endpoints are in; in a pod, nothing of it needs to be set."""

    api: KubernetesApi = setting(
        None, "Its API server; without it, that of the cluster this runs in.", example="https://10.0.0.1:6443"
    )
    token_file: Path = setting(
        Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
        "Token of a service account that may list and watch EndpointSlices; read anew each time.",
    )
    ca_file: Path = setting(
        Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"), "Authorities that vouch for the API server."
    )


def check_place(name: str, spec: ModelSpec) -> None:
    """Raises a contradiction for settings of a model that do not go together."""
    given = spec.model_fields_set
    _check_certificate(name, spec)
    if spec.source is None:
        only = next((key for key in _OF_A_SOURCE if key in given), None)
        if only is not None:
            raise contradiction(
                ("models", name, only),
                f"`models.{name}.{only}` is set, but its engines run elsewhere",
                f"leave `{only}` out, or give the model a `source` in place of `endpoints`",
            )
        return
    if spec.slots is not None and spec.slots > LOCAL_SLOTS_MAX:
        raise contradiction(
            ("models", name, "slots"),
            f"`models.{name}.slots` is {spec.slots}: too large for an engine that is started here",
            f"expected form: a whole number from 1 to {LOCAL_SLOTS_MAX}; more need `replicas`",
        )
    if spec.endpoints:
        raise contradiction(
            ("models", name, "endpoints"),
            f"`models.{name}` has both `source` and `endpoints`",
            "keep one: `source` starts engines here, `endpoints` names engines that run already",
        )
    if spec.engine == "openai":
        raise contradiction(
            ("models", name, "engine"),
            f"`models.{name}.engine` is {spec.engine!r}, which is not started from here",
            "name its address with `endpoints: [http://host:port]`, or leave `engine` out",
        )


def _check_certificate(name: str, spec: ModelSpec) -> None:
    if (spec.cert_file is None) != (spec.key_file is None):
        said, absent = ("key_file", "cert_file") if spec.cert_file is None else ("cert_file", "key_file")
        raise contradiction(
            ("models", name, said), f"`models.{name}.{said}` is set, and `{absent}` is not", f"add `{absent}`"
        )
    said = "cert_file" if spec.cert_file is not None else "server_name" if spec.server_name is not None else ""
    plain = [place for place in spec.endpoints if "https://" not in place]
    if said and (plain or not spec.endpoints):
        what = f"{plain[0]} speaks no TLS" if plain else "the model has no `endpoints`"
        raise contradiction(
            ("models", name, said),
            f"`models.{name}.{said}` is set, and {what}",
            "name its engines by https://, dns+https:// or k8s+https://, or leave it out",
        )
