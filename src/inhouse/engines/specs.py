"""From what the stack says of a model and what its weights say of themselves to the spec of an engine. Pure.

Both who starts a child process and who writes a manifest come by here, so that the two cannot differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inhouse.config import ModelSpec
from inhouse.engines.choices import Choices
from inhouse.engines.engine import Engine, Format, Spec, Task
from inhouse.engines.table import ENGINES
from inhouse.errors import WeightsError


@dataclass(frozen=True, slots=True)
class Known:
    """What a header says that decides how an engine is started; None where it says nothing."""

    context_tokens: int | None = None
    """What the model was trained for."""
    task: Task = "generate"
    pools: bool = False
    """It says itself how its token vectors become one."""


UNKNOWN = Known()


def known_of(context_tokens: int | None, pooling: str | None) -> Known:
    """Of what a model's header says."""
    task: Task = "generate" if pooling is None else "rerank" if pooling == "rank" else "embed"
    return Known(context_tokens, task, pools=pooling is not None)


def spec_of(model: str, said: ModelSpec, weights: Path, known: Known, chosen: Choices) -> Spec:
    """The spec of one replica. `weights` is as the engine will see it, `chosen` for the machine where it will run.

    Raises WeightsError for weights that the engine does not read.
    """
    engine = ENGINES[said.engine]
    check_format(engine, weights)
    check_quantization(engine, said)
    task = said.task if said.task != "auto" else known.task
    return Spec(
        model=model,
        weights=weights,
        context_tokens=min(said.context, known.context_tokens or said.context),
        slots=said.slots or (chosen.slots.value if engine.cpu else engine.slots),
        threads=chosen.threads.value,
        batch_threads=chosen.batch_threads.value,
        batch_tokens=chosen.batch.value,
        embeddings=said.embeddings,
        prompt_cache_bytes=said.prompt_cache,
        gpus=said.gpus,
        gpu_share=said.gpu_memory / 100,
        task=task,
        quantization=said.quantization,
        pooling=None if known.pools else "mean",
        binary=said.engine_binary,
        extra_args=tuple(said.engine_args),
    )


def check_format(engine: Engine, weights: Path) -> None:
    """Raises WeightsError where the engine does not read such weights."""
    form: Format = "gguf" if weights.suffix == ".gguf" else "safetensors"
    if form not in engine.formats:
        able = ", ".join(f"`{one.name}`" for one in ENGINES.values() if one.argv is not None and form in one.formats)
        raise WeightsError(
            f"{engine.title} does not read {_FORMS[form]}, which {weights.name} is",
            hint=f"engines that do: {able}; or name weights as {' or '.join(_FORMS[one] for one in engine.formats)}",
        )


def check_quantization(engine: Engine, said: ModelSpec) -> None:
    """Raises WeightsError where the engine cannot take weights so."""
    if said.quantization is not None and said.quantization not in engine.quantizations:
        known = f"it takes {', '.join(engine.quantizations)}" if engine.quantizations else "it takes them as they are"
        raise WeightsError(f"{engine.title} does not know `quantization: {said.quantization}`", hint=known)


_FORMS: dict[Format, str] = {"gguf": "GGUF", "safetensors": "a folder of safetensors"}
