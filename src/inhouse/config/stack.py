"""The stack: what `inhouse.yaml` describes, frozen. Each field has a unit, a default and a sentence.

Not here: where a value came from (`read.py`) and how a mistake is told (`explain.py`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from inhouse.config.batches import BatchesSpec
from inhouse.config.cache import CacheSpec
from inhouse.config.deploy import DeploySpec, ModelDeploySpec
from inhouse.config.failover import FailoverSpec
from inhouse.config.fields import (
    Count,
    Duration,
    MaybeCount,
    MaybeDuration,
    MaybeSize,
    ModelName,
    Percent,
    Section,
    Size,
    contradiction,
    setting,
)
from inhouse.config.fleet import EndpointText, EngineName, KubernetesSpec, ProbeSpec, SecretReference, check_place
from inhouse.config.issuers import IssuerSpec
from inhouse.config.kept import KeptSpec
from inhouse.config.keys import KeyId, KeySpec, taken
from inhouse.config.memory import MemorySpec, check_residence
from inhouse.config.queue import QueueSpec
from inhouse.config.records import AuditSpec, ExplainSpec
from inhouse.config.requests import RequestsSpec
from inhouse.config.routes import RouteSpec, check_routes
from inhouse.config.routing import RoutingSpec
from inhouse.config.sockets import SocketsSpec
from inhouse.config.sources import SOURCE_FORMS, check_names, parse_source
from inhouse.config.store import StoreSpec
from inhouse.config.tenants import Currency, LimitsSpec, PriceSpec, TenantDefaults, TenantName, TenantSpec
from inhouse.config.units import KIB, MIB
from inhouse.config.weights import WeightsSpec


def _source(source: str | None) -> str | None:
    if source is not None:
        parse_source(source)
    return source


def _sha256(text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise ValueError("not a SHA-256: it has 64 hexadecimal digits")
    return text


Source = Annotated[str | None, AfterValidator(_source)]
Sha256 = Annotated[str | None, AfterValidator(_sha256)]


class ModelSpec(Section):
    """One model that clients can name."""

    source: Source = setting(
        None,
        "Where the weights are: `demo`, a path, or an address that begins with hf://, s3://, oci:// or https://.",
        example="hf://ggml-org/gemma-3-1b-it-GGUF/gemma-3-1b-it-Q4_K_M.gguf",
    )
    quant: str | None = setting(
        None, "Which quantisation, where the `source` has several; without it Q4_K_M, or what comes near.",
        example="Q8_0", min_length=1, max_length=32,
    )  # fmt: skip
    sha256: Sha256 = setting(
        None,
        "What the weights must hash to; of several files, the SHA-256 of what `sha256sum` prints for them.",
        example="9b1c0f6e3d5a7c2b4f8e1d0a6c3b5e7f9a2d4c6e8b0f1a3c5d7e9b2f4a6c8e0d",
    )
    endpoints: list[EndpointText] = setting(
        [], "Engines that run already, in place of `source`; `dns://` and `k8s://` stand for all behind a name.",
        example=["http://10.0.0.7:8000", "unix:/run/engine.sock", "dns://engines:8000", "k8s://prod/engines:http"],
    )  # fmt: skip
    queued: bool = setting(
        False,
        "Whether its requests go through `queue` to workers (`inhouse worker`), who run it, not this gateway.",
    )
    engine: EngineName = setting(
        "llamacpp", "The program that does the inference; `openai` is any other that speaks OpenAI's API."
    )
    replicas: Count = setting(1, "Copies of the engine on this machine, for a `source`.", unit="copies", ge=1, le=64)
    upstream_model: str | None = setting(
        None, "What the engines at `endpoints` call the model; without it, its name here.", example="Qwen/Qwen3-8B",
        min_length=1, max_length=512,
    )  # fmt: skip
    api_key: SecretReference = setting(
        None,
        "Where the key for the `endpoints` is: `env:` and a variable, or `file:` and a path.",
        example="env:UPSTREAM_KEY",
    )
    ca_file: Path | None = setting(
        None, "Authorities that vouch for https `endpoints`, in place of the system's.", example="./ca.pem"
    )
    probe: ProbeSpec = Field(default_factory=ProbeSpec, description="How its replicas are watched.")
    context: Count = setting(4096, "Tokens of one request, prompt and answer together.", unit="tokens", ge=256)
    context_fit: Literal["reject", "trim", "middle-out"] = setting(
        "reject", "What becomes of a prompt that is too long: refused, or its oldest messages, or its middle, left out."
    )
    answer_room: Count = setting(
        256, "Tokens kept free for an answer without a length of its own, when a prompt is cut.", unit="tokens", ge=1
    )
    answer_tokens_max: MaybeCount = setting(
        None, "Longest answer; without a number, as long as the context.", unit="tokens", example=1024, ge=1
    )
    answer_tokens_policy: Literal["clamp", "refuse"] = setting(
        "clamp", "What a client is told that asks for longer answers: a header with the limit, or 400."
    )
    slots: MaybeCount = setting(
        None, "Requests that run at once on one replica; the others wait; without a number 4, on large machines more.",
        unit="requests", example=8, ge=1, le=4096,
    )  # fmt: skip
    threads: MaybeCount = setting(
        None, "CPU threads of the engine; without a number, as `inhouse doctor hardware` says.", unit="threads",
        example=8, ge=1, le=4096,
    )  # fmt: skip
    batch: MaybeCount = setting(
        None, "Tokens of prompts that are read at a time, between the tokens of those who stream; 512 or 2048.",
        unit="tokens", example=1024, ge=512, le=65_536,
    )  # fmt: skip
    embeddings: bool = setting(
        True, "Whether a model that generates answers `/v1/embeddings` too, for which llama.cpp sets memory aside."
    )
    prompt_cache: Size = setting(
        256 * MIB, "Memory of one replica of llama.cpp for prompts whose slot others took.", unit="bytes"
    )
    load: Literal["at_start", "on_first_use"] = setting(
        "at_start", "When it is loaded; at the start only while there is room, and else on first use as well."
    )
    pinned: bool = setting(False, "Whether it is loaded at the start and stays, whatever other models need.")
    sleep_after: MaybeDuration = setting(
        None, "How long it may idle before it is put to sleep; without a time it stays until another needs the room.",
        unit="seconds", example="10 min", gt=0,
    )  # fmt: skip
    memory: MaybeSize = setting(
        None, "What it is planned with, all replicas together, in place of what its header says.", unit="bytes",
        example="3 GiB",
    )  # fmt: skip
    crashes_max: Count = setting(
        5, "Ends of an engine in a row, each within a minute, after which it is left alone.", unit="ends", ge=1, le=1000
    )
    crash_pause: Duration = setting(
        30.0,
        "How long it is then left alone, at first; each time twice as long, up to ten times.",
        unit="seconds",
        gt=0,
    )
    load_wait: Duration = setting(
        0.0, "How long a request may wait for a model that loads; for one that slept, `start_timeout` if not set.",
        unit="seconds",
    )  # fmt: skip
    queue_requests_max: Count = setting(
        256, "Requests that may wait for a slot; one more is told 429.", unit="requests", ge=0, le=1_000_000
    )
    queue_tokens_max: Count = setting(
        1_000_000, "Tokens, prompts and longest answers, that may wait; beyond it 429.", unit="tokens", ge=1
    )
    queue_bytes_max: Size = setting(64 * MIB, "Bytes of bodies that may wait; beyond it 429.", unit="bytes", ge=KIB)
    queue_tenant_percent: Count = setting(
        100, "Part of each limit of the queue that one tenant alone may fill.", unit="percent", ge=1, le=100
    )
    prefill_long: Count = setting(
        2048, "A prompt above this is long, and long ones share a part of the slots.", unit="tokens", ge=1
    )
    prefill_long_percent: Count = setting(
        50, "Part of the slots that long prompts may hold, at least one slot.", unit="percent", ge=1, le=100
    )
    queue_wait_max: Duration = setting(
        60.0, "How long a request may wait for a slot before it is told 504.", unit="seconds", gt=0
    )
    queue_notice_every: Duration = setting(
        5.0, "How often a stream that waits hears its place by a comment; 0 is never.", unit="seconds"
    )
    first_token_timeout: Duration = setting(
        600.0, "How long the first token may take once the engine has the request.", unit="seconds", gt=0
    )
    token_gap_timeout: Duration = setting(
        300.0, "How long the next token of an answer may take; above `idle_timeout`.", unit="seconds", gt=0
    )
    total_timeout: Duration = setting(
        3600.0, "How long a request may take in all, from its arrival, waiting included.", unit="seconds", gt=0
    )
    idle_timeout: Duration = setting(
        120.0, "Silence of the engine during an answer after which it counts as dead.", unit="seconds", gt=0
    )
    start_timeout: Duration = setting(
        600.0, "How long the engine may take to load the weights and become ready.", unit="seconds", gt=0
    )
    engine_binary: Path | None = setting(
        None,
        "The engine's program, as a path or as a name on PATH; without it, its usual name or the one in the package.",
        example="/usr/local/bin/llama-server",
    )
    engine_build: Literal["auto", "package", "native"] = setting(
        "auto",
        "Which llama.cpp, where no `engine_binary` is named: `native` is the one that `inhouse engine build` made, "
        "`auto` the same where there is one.",
    )
    engine_args: list[str] = setting(
        [], "More flags for the engine, handed on as they are.", example=["--flash-attn", "on"]
    )
    task: Literal["auto", "generate", "embed", "rerank"] = setting(
        "auto", "What the model was made for; `auto` is what its weights say."
    )
    quantization: Literal["awq", "gptq", "fp8", "bitsandbytes"] | None = setting(
        None, "How the engine is to take the weights; without it, as they say of themselves.", example="fp8"
    )
    gpus: Count = setting(1, "GPUs of one replica; the model is split over them.", unit="GPUs", ge=1, le=64)
    gpu_memory: Percent = setting(
        90.0, "Part of each GPU's memory that an engine on GPUs may take.", unit="percent", gt=0, le=100
    )
    external: bool = setting(
        False, "Whether somebody else runs it, so that what is sent there leaves: only tenants that allow it reach it."
    )
    routing: RoutingSpec = Field(default_factory=RoutingSpec, description="Which of its replicas a request goes to.")
    failover: FailoverSpec = Field(
        default_factory=FailoverSpec, description="What becomes of an answer whose replica dies in the middle."
    )
    cache: CacheSpec = Field(default_factory=CacheSpec, description="Whether answers are given again.")
    price: PriceSpec = Field(default_factory=PriceSpec, description="What its tokens cost.")
    limits: LimitsSpec = Field(default_factory=LimitsSpec, description="How much all tenants may use of it together.")
    deploy: ModelDeploySpec = Field(default_factory=ModelDeploySpec, description="Its engine's pods on a cluster.")


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
