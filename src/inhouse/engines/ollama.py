"""Ollama: `ollama serve`, which is told by its environment, and `ollama create`, which makes it know the weights.

The model is made from the file that is here, under its public name, so nothing is fetched by Ollama itself. It is
loaded before the first request comes and stays loaded.
"""

from __future__ import annotations

import json

from inhouse.engines.engine import Command, Engine, Image, Spec, Trap
from inhouse.engines.http import Address
from inhouse.engines.traps import LOOPBACK

_CREATE = 'printf "FROM %s\\n" "$2" | "$1" create "$3" -f /dev/stdin'


def argv(spec: Spec, address: Address) -> Command:
    """The command that serves, and the one that makes the model known to it."""
    program = str(spec.binary or OLLAMA.program)
    environment = (
        ("OLLAMA_HOST", address.host_header),
        ("OLLAMA_CONTEXT_LENGTH", str(spec.context_tokens)),
        ("OLLAMA_NUM_PARALLEL", str(spec.slots)),
        ("OLLAMA_MAX_LOADED_MODELS", "1"),
        ("OLLAMA_KEEP_ALIVE", "-1"),
    )
    create = ("sh", "-c", _CREATE, "sh", program, str(spec.weights), spec.model)
    return Command((program, "serve", *spec.extra_args), environment, then=(create,))


def warm_up(spec: Spec) -> tuple[bytes, bytes]:
    """An empty request, which loads the model."""
    if spec.task == "embed":
        return b"/api/embed", json.dumps({"model": spec.model, "input": ""}).encode()
    return b"/api/generate", json.dumps({"model": spec.model}).encode()


OLLAMA = Engine(
    name="ollama",
    title="Ollama",
    argv=argv,
    program="ollama",
    install="curl -fsSL https://ollama.com/install.sh | sh",
    image=Image("ollama/ollama:0.35.1", ("/bin/ollama",), port=11434),
    stop_s=2.0,
    health=b"/api/tags",
    warm_up=warm_up,
    reads="ps",
    metrics=(),
    slots=4,
    cpu=True,
    abilities=frozenset({"tools", "json_schema", "embeddings"}),
    embeds_all=True,
    formats=("gguf", "safetensors"),
    traps=(
        LOOPBACK,
        Trap("it has no page of metrics: what it is busy with is known only from our own requests"),
        Trap("it drops the beginning of a prompt that is too long, without a word: keep `context` at what is needed"),
        Trap(
            "it copies the weights into a store of its own, `~/.ollama/models` or $OLLAMA_MODELS: they lie there twice"
        ),
        Trap("without a GPU of its own it takes every core: it cannot be told how many threads to use"),
    ),
)
