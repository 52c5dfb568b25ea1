"""The stack: what `inhouse.yaml` describes, frozen. Each field has a unit, a default and a sentence.

Not here: where a value came from (`read.py`) and how a mistake is told (`explain.py`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from inhouse.config.batches import BatchesSpec
from inhouse.config.deploy import DeploySpec
from inhouse.config.fields import (
    Count,
    Duration,
    MaybeCount,
    ModelName,
    Section,
    Size,
    contradiction,
    setting,
)
from inhouse.config.fleet import KubernetesSpec, check_place
from inhouse.config.issuers import IssuerSpec
from inhouse.config.kept import KeptSpec
from inhouse.config.keys import KeyId, KeySpec, taken
from inhouse.config.memory import MemorySpec, check_residence
from inhouse.config.model import ModelSpec
from inhouse.config.queue import QueueSpec
from inhouse.config.records import AuditSpec, ExplainSpec
from inhouse.config.requests import RequestsSpec
from inhouse.config.routes import RouteSpec, check_routes
from inhouse.config.sockets import SocketsSpec
from inhouse.config.sources import SOURCE_FORMS, check_names
from inhouse.config.store import StoreSpec
from inhouse.config.tenants import Currency, TenantDefaults, TenantName, TenantSpec
from inhouse.config.units import KIB, MIB
from inhouse.config.weights import WeightsSpec


class GatewaySpec(Section):
    """The door: address and limits."""

    host: str = setting("127.0.0.1", "Address to listen on; `0.0.0.0` or `::` lets other machines in.", min_length=1)
    port: Count = setting(8080, "TCP port to listen on; 0 picks a free one.", ge=0, le=65535)
    request_bytes_max: Size = setting(
        8 * MIB, "Largest body of a request; a larger one is told 413.", unit="bytes", ge=KIB
    )
    headers_bytes_max: Size = setting(
        64 * KIB, "Largest head of a request, request line and headers together.", unit="bytes", ge=KIB
    )
    keep_alive: Duration = setting(75.0, "How long an idle connection stays open.", unit="seconds", gt=0)
    body_timeout: Duration = setting(30.0, "How long a client may take to send a body.", unit="seconds", gt=0)
    drain: Duration = setting(
        30.0, "How long running answers may go on once the gateway is told to stop.", unit="seconds"
    )
    connections_max: Count = setting(
        4096, "Open connections; one more is refused at once.", unit="connections", ge=1, le=1_000_000
    )
    health_port: MaybeCount = setting(
        None,
        "A port that answers only `GET /health/live`, on a thread of its own; 0 picks a free one.",
        example=8081,
        ge=0,
        le=65535,
    )
    tls_cert: Path | None = setting(
        None, "Certificate chain (PEM); needs `tls_key` and makes the API https.", example="./cert.pem"
    )
    tls_key: Path | None = setting(None, "Private key (PEM) of `tls_cert`.", example="./key.pem")
    cors_origins: list[str] = setting(
        [], "Web origins whose pages may call the API from a browser; `*` allows all.", example=["https://chat.example"]
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            given, absent = ("tls_key", "tls_cert") if self.tls_cert is None else ("tls_cert", "tls_key")
            raise contradiction(
                (given,),
                f"`gateway.{given}` is set, `gateway.{absent}` is not",
                f"TLS needs both: add `{absent}: ./file.pem`",
            )
        return self


class AuthSpec(Section):
    """Who may call."""

    enabled: bool = setting(True, "Whether every request must carry a key; can be off on a loopback address only.")


class LogSpec(Section):
    """What the gateway writes to standard error."""

    level: Literal["debug", "info", "warning", "error"] = setting("info", "The least severe event that is written.")
    format: Literal["auto", "json", "text"] = setting(
        "auto", "How a line is written; `auto` is text on a terminal and JSON elsewhere."
    )


def _demo() -> dict[str, ModelSpec]:
    return {"demo": ModelSpec(source="demo")}


class Stack(Section):
    """Everything that one `inhouse.yaml` describes."""

    models: dict[ModelName, ModelSpec] = Field(
        default_factory=_demo,
        description="Models by the name that clients send; without any, the one model `demo`.",
    )
    gateway: GatewaySpec = Field(default_factory=GatewaySpec, description="Address and limits of the API.")
    auth: AuthSpec = Field(default_factory=AuthSpec, description="Who may call the API.")
    log: LogSpec = Field(default_factory=LogSpec, description="What is written to standard error.")
    state_dir: Path | None = setting(
        None,
        "Folder for keys and history; without it, `$XDG_STATE_HOME/inhouse` or `~/.local/state/inhouse`.",
        example="/var/lib/inhouse",
    )
    tenants: dict[TenantName, TenantSpec] = Field(
        default_factory=dict, description="Tenants by name: their shares, models and limits."
    )
    tenant_defaults: TenantDefaults = Field(
        default_factory=TenantDefaults, description="What holds for a tenant that is not named."
    )
    keys: dict[KeyId, KeySpec] = Field(
        default_factory=dict, description="Keys that are declared, and limits of single keys by their id."
    )
    issuers: dict[str, IssuerSpec] = Field(
        default_factory=dict, description="Issuers of tokens (OIDC) that are accepted beside keys, by any name."
    )
    requests: RequestsSpec = Field(
        default_factory=RequestsSpec, description="The shape that a request may have, and what becomes of the rest."
    )
    audit: AuditSpec = Field(default_factory=AuditSpec, description="The record of who did what.")
    explain: ExplainSpec = Field(default_factory=ExplainSpec, description="What is remembered of the last requests.")
    memory: MemorySpec = Field(default_factory=MemorySpec, description="Memory that the models of this machine share.")
    routes: dict[ModelName, RouteSpec] = Field(
        default_factory=dict, description="Names that clients send and the models that answer to them."
    )
    kubernetes: KubernetesSpec = Field(
        default_factory=KubernetesSpec, description="The cluster that `k8s://` endpoints are in."
    )
    weights: WeightsSpec = Field(default_factory=WeightsSpec, description="How weights are fetched and kept.")
    store: StoreSpec = Field(
        default_factory=StoreSpec, description="Where state is, for more gateways than those of one machine."
    )
    deploy: DeploySpec = Field(default_factory=DeploySpec, description="The installation on a cluster.")
    queue: QueueSpec = Field(
        default_factory=QueueSpec, description="The Redis between gateways and workers, for models with `queued: true`."
    )
    kept: KeptSpec = Field(default_factory=KeptSpec, description="Answers that outlast their connection.")
    sockets: SocketsSpec = Field(default_factory=SocketsSpec, description="WebSockets.")
    batches: BatchesSpec = Field(default_factory=BatchesSpec, description="Files and batches: work that can wait.")
    currency: Currency = setting("EUR", "The currency of all prices and amounts, as a label.")

    @model_validator(mode="after")
    def _open_only_at_home(self) -> Self:
        if not self.auth.enabled and not is_loopback(self.gateway.host):
            raise contradiction(
                ("auth", "enabled"),
                f"auth is off while the gateway listens on {self.gateway.host}: other machines could call it freely",
                "leave auth on and hand out keys (`inhouse keys create`), or listen on `gateway.host: 127.0.0.1`",
            )
        return self

    @model_validator(mode="after")
    def _declared_keys_have_names_of_their_own(self) -> Self:
        for name, spec in self.keys.items():
            if spec.declared and taken(name):
                raise contradiction(
                    ("keys", name), f"no key can be declared as {name!r}", "callers of another kind are shown so"
                )
        return self

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> Self:
        check_routes(self.routes, self.models)
        return self

    @model_validator(mode="after")
    def _models_have_a_place(self) -> Self:
        for name, spec in self.models.items():
            if spec.queued and self.queue.url is None:
                raise contradiction(
                    ("models", name, "queued"),
                    f"`models.{name}` is queued, and there is no queue",
                    "name it with `queue: {url: redis://host:6379/0}`, or with --queue",
                )
            if spec.source is None and not spec.endpoints and not spec.queued:
                raise contradiction(
                    ("models", name),
                    f"`models.{name}` lacks `source`",
                    f"expected form: {SOURCE_FORMS}; or `endpoints: [http://host:port]` for engines that run already",
                )
            check_place(name, spec)
            check_residence(name, spec)
        check_names({name: spec.source for name, spec in self.models.items()}, self.weights.catalogue)
        return self

    @model_validator(mode="after")
    def _allowed_models_exist(self) -> Self:
        named: list[tuple[tuple[str, ...], list[str]]]
        named = [(("tenants", name, "models"), spec.models) for name, spec in self.tenants.items()]
        named += [(("keys", name, "models"), spec.models) for name, spec in self.keys.items()]
        named.append((("tenant_defaults", "models"), self.tenant_defaults.models))
        for place, models in named:
            for index, model in enumerate(models):
                if model not in self.models:
                    near = get_close_matches(model, self.models, n=1)
                    raise contradiction(
                        (*place, index),
                        f"`{'.'.join(place)}` names {model!r}, which is no model of this stack",
                        f"did you mean `{near[0]}`?" if near else f"its models: {', '.join(self.models)}",
                    )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`; a name other than localhost counts as reachable."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def base_url(stack: Stack) -> str:
    """The API's address for a program on this machine: `http://127.0.0.1:8080/v1`. Needs a port other than 0."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(stack.gateway.host, stack.gateway.host)  # noqa: S104
    scheme = "https" if stack.gateway.tls_cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{stack.gateway.port}/v1"


def state_folder(stack: Stack, environ: Mapping[str, str]) -> Path:
    """Where keys and history live. Not created here."""
    if stack.state_dir is not None:
        return stack.state_dir
    base = Path(environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():  # the XDG specification has relative values ignored
        base = Path(environ.get("HOME") or Path.home()) / ".local" / "state"
    return base / "inhouse"
