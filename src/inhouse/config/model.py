"""The section of the stack about one model: its weights or engines, its limits of size and time, its policies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from inhouse.config.cache import CacheSpec
from inhouse.config.deploy import ModelDeploySpec
from inhouse.config.failover import FailoverSpec
from inhouse.config.fields import (
    Count,
    Duration,
    MaybeCount,
    MaybeDuration,
    MaybeSize,
    Percent,
    Section,
    Size,
    setting,
)
from inhouse.config.fleet import EndpointText, EngineName, ProbeSpec, SecretReference
from inhouse.config.routing import RoutingSpec
from inhouse.config.sources import parse_source
from inhouse.config.tenants import LimitsSpec, PriceSpec
from inhouse.config.units import KIB, MIB


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
    cert_file: Path | None = setting(
        None, "The certificate that we show to https `endpoints`; read anew when it changes.", example="./tls.crt"
    )
    key_file: Path | None = setting(None, "The key of `cert_file`.", example="./tls.key")
    server_name: str | None = setting(
        None, "Whom the certificates of https `endpoints` name, where that is not the host of their address.",
        example="engines.internal", min_length=1, max_length=253,
    )  # fmt: skip
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
    gpus: Count = setting(
        1,
        "GPUs of one replica; the model is split over them, by llama.cpp over all that it sees.",
        unit="GPUs",
        ge=1,
        le=64,
    )
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
