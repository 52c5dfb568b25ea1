"""What an engine is: how it is started, ready, read and spoken to, what it can do and what it needs. One row each.

The rows stand in the engines' own files and are listed in `table.ENGINES`. Not here: what a page of metrics means
(`figures`), and how a process is kept alive (`replica`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from inhouse.engines.counting import Counting
from inhouse.engines.gpu_memory import OnGpu
from inhouse.engines.http import Address
from inhouse.engines.llamacpp_gpu import Split
from inhouse.engines.llamacpp_memory import Model

Task = Literal["generate", "embed", "rerank"]
"""What a model was made for."""
Format = Literal["gguf", "safetensors"]
Quantization = Literal["awq", "gptq", "fp8", "bitsandbytes"]
Ability = Literal["chat", "tools", "json_schema", "logprobs", "embeddings", "rerank", "lora"]
Reading = Literal["", "props", "models", "info", "ps"]


@dataclass(frozen=True, slots=True)
class Names:
    """What an engine calls a figure on its page of metrics. Newest name first: the first that is there counts."""

    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    kv_used: tuple[str, ...] = ()
    """0 to 1, whatever the name says."""
    prefix_rate: tuple[str, ...] = ()
    """The share of hits as a gauge; without one, `prefix_hits` over `prefix_queries`, both counters of tokens."""
    prefix_hits: tuple[str, ...] = ()
    prefix_queries: tuple[str, ...] = ()
    ttft: tuple[tuple[str, str], ...] = ()
    """Counters of seconds and of what they are divided by."""
    tpot: tuple[tuple[str, str], ...] = ()
    started: tuple[str, ...] = ("process_start_time_seconds",)
    """The time at which the process began: another one is another life, with empty caches."""


@dataclass(frozen=True, slots=True)
class Spec:
    """One replica to be: the weights, and what it may use. The same for a child process and for a container."""

    model: str
    """The public name; the engine reports it in its answers, so that they need no rewriting."""
    weights: Path
    """A file, or the folder of a repository; as the engine will see it."""
    context_tokens: int
    """Of one request, prompt and answer together."""
    slots: int
    threads: int | None = None
    """CPU threads, where the engine lets itself be told."""
    batch_threads: int | None = None
    """For prompts; None for as many as `threads`."""
    batch_tokens: int = 2048
    """Of prompts that are computed at a time on CPUs."""
    embeddings: bool = True
    """Whether a model that generates gives embeddings too."""
    adapter_bytes: int = 0
    """Of adapters that its flags name, which it holds beside the weights."""
    prompt_cache_bytes: int = 256 << 20
    """For prompts whose slot others took, where the engine keeps such a cache in the machine's memory."""
    gpus: int = 1
    """The model is split over so many."""
    gpu_share: float = 0.9
    """Part of each GPU's memory that it may take, weights and caches together."""
    task: Task = "generate"
    quantization: Quantization | None = None
    """None: as the weights say of themselves."""
    pooling: str | None = None
    """How token vectors become one embedding; None where the weights say, or where the engine decides."""
    binary: Path | None = None
    native: Path | None = None
    """A llama-server that was compiled here for this CPU: it takes the place of the engine in the package, until it
    fails."""
    on_gpu: str = ""
    """What a llama-server computes on beside the CPU, as people call it."""
    devices: tuple[str, ...] = ()
    """By llama.cpp's names. Named, it does not start without them, where it would compute on the CPU otherwise."""
    gpu_layers: int | None = None
    """So many of its layers, where the GPUs' memory does not hold all of them."""
    extra_args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    """What starts an engine."""

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    then: tuple[tuple[str, ...], ...] = ()
    """Programs to run to their end, in this order and with the same environment, once it answers."""
    ends_with_stdin: bool = False
    """It needs no life line: it ends by itself when its standard input does."""


@dataclass(frozen=True, slots=True)
class Trap:
    """What goes wrong with an engine, and what to do."""

    what: str
    """One sentence, with the way out."""
    applies: Callable[[Spec], bool] | None = None
    """Whether a spec is in danger of it; None for what is so with this engine whatever the spec."""


@dataclass(frozen=True, slots=True)
class Image:
    """The container to run where it does not run from here."""

    name: str
    """With a tag that stays what it is."""
    program: tuple[str, ...]
    """What stands there for the program of `argv`: the entry point."""
    port: int = 8000


@dataclass(frozen=True, slots=True)
class Engine:
    """One program that does inference."""

    name: str
    title: str
    argv: Callable[[Spec, Address], Command] | None = None
    """None: it is only spoken to, never started."""
    program: str = ""
    """What it is called on PATH."""
    install: str = ""
    """The command that brings it."""
    image: Image | None = None
    sockets: bool = False
    """It can listen on a unix socket."""
    stop_s: float = 0.0
    """How long it may take to end in good order; 0: it is killed."""
    start_s: float = 600.0
    """How long it may take to become ready, where the stack does not say."""
    health: bytes = b"/health"
    warm_up: Callable[[Spec], tuple[bytes, bytes]] | None = None
    """Path and body of a request that makes it load the model, where it would wait for the first one."""
    reads: Reading = "models"
    """What tells its slots and context: llama-server's /props, `max_model_len` in /v1/models, TGI's /info, or
    Ollama's /api/ps."""
    calls_it: Callable[[Spec], str] | None = None
    """What it calls the model in its answers, where it cannot be told the public name."""
    metrics: tuple[bytes, ...] = (b"/metrics",)
    """Where its metrics may be; the first that has one of its names counts. Without any: it has none."""
    names: Names = field(default_factory=Names)
    slots: int = 64
    """Requests at once where neither the engine nor the stack says."""
    cpu: bool = False
    """It runs well on CPUs: where the stack does not say, the machine's threads decide how many requests at once."""
    llama: bool = False
    """It is a llama-server, with its ways: texts of unequal length do not share a batch, 503 means that it loads."""
    counting: Counting | None = None
    """How it counts tokens for others; None: it does not."""
    continuing: Literal["", "asked", "always"] = ""
    """Whether a chat that ends with the assistant goes on with that message: never, where `continue_final_message` asks
    for it, or in any case."""
    documents: bool = False
    """It notices a hang-up on a request that is not streamed as well: its whole answer can be asked for in one."""
    abilities: frozenset[Ability] = frozenset()
    """Beside `chat`: chat and text completions and their streams, which all of them have."""
    needs: tuple[tuple[Ability, str], ...] = ()
    """A flag without which it cannot do something, where it is started here."""
    embeds_all: bool = False
    """It embeds with models that generate as well."""
    formats: tuple[Format, ...] = ("safetensors",)
    quantizations: tuple[Quantization, ...] = ()
    on_gpu: OnGpu | None = None
    """How much of a GPU's memory it takes; None where it takes none, or is never started here."""
    memory: Callable[[Spec, Sequence[str], Model, Iterable[str]], Split] | None = None
    """Its memory model: what one replica takes, by its spec, its command, the header and the CPU's features."""
    traps: tuple[Trap, ...] = ()


def histogram(*names: str) -> tuple[tuple[str, str], ...]:
    """Sum and count of each histogram."""
    return tuple((f"{name}_sum", f"{name}_count") for name in names)


def listen(address: Address, host: str = "--host", port: str = "--port") -> tuple[str, ...]:
    """The flags for a host and a port."""
    return (host, address.host, port, str(address.port))
