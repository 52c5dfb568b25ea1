"""Which files of a repository, a bucket's folder or a folder here make up the model. Pure: names in, names out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from inhouse.errors import WeightsError
from inhouse.weights.splits import parts

PREFERENCE = (
    "Q4_K_M", "Q4_0", "Q4_K_S", "IQ4_XS", "IQ4_NL", "MXFP4", "Q5_K_M", "Q5_K_S", "Q5_0", "Q6_K", "Q8_0", "Q3_K_M",
    "Q3_K_L", "Q3_K_S", "IQ3_M", "IQ3_S", "Q2_K", "BF16", "F16", "F32",
)  # fmt: skip
"""Without a wish, the first of these that there is: a good middle of quality and size before all else."""

INDEX = "model.safetensors.index.json"
PAPERS = re.compile(r"(LICEN[CS]E|NOTICE|USE_POLICY|README)([._-][^/]*)?", re.IGNORECASE)
_QUANT = re.compile(
    r"(?<![A-Za-z0-9])((?:IQ|TQ|Q)\d(?:_[A-Z0-9]+)*|BF16|F16|F32|FP16|MXFP4(?:_MOE)?|NVFP4)(?![A-Za-z0-9])"
)
_NOT_MODELS = re.compile(r"(^|[/._-])(mmproj|imatrix|draft|vocab|lora|adapter)([/._-]|$)", re.IGNORECASE)
_BESIDE = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|preprocessor_config|"
    r"processor_config|image_processor|video_preprocessor_config|chat_template|modules|config_sentence_transformers|"
    r"sentence_bert_config|quantize_config|quantization_config|hf_quant_config|params|tekken)\.json"
    r"|merges\.txt|vocab\.txt|chat_template\.jinja|[^/]+\.model|[^/]+\.tiktoken|[0-9]_[A-Za-z]+/[^/]+\.(json|safetensors)"
)
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")


def quant_of(name: str) -> str | None:
    """The quantisation that a file's name tells, such as `Q4_K_M`; the last, where folders name one too."""
    found = _QUANT.findall(name.upper())
    return found[-1] if found else None


def choose_gguf(place: str, names: Sequence[str], quant: str | None) -> list[str]:
    """The .gguf file to take, of a split one all parts, the first in front. Raises `WeightsError`."""
    models = [name for name in sorted(names) if name.endswith(".gguf") and not _NOT_MODELS.search(name)]
    if not models:
        raise WeightsError(f"{place} has no .gguf model", hint=_other_form(names))
    firsts = sorted({parts(name)[0] for name in models})
    by_quant: dict[str, list[str]] = {}
    for name in firsts:
        by_quant.setdefault(quant_of(name) or "", []).append(name)
    if quant is not None:
        fitting = by_quant.get(quant.upper(), [])
        if not fitting:
            near = difflib.get_close_matches(quant.upper(), by_quant, n=1)
            known = ", ".join(sorted(filter(None, by_quant))) or ", ".join(firsts[:5])
            raise WeightsError(
                f"{place} has no file of the quantisation {quant}",
                hint=(f"did you mean {near[0]}? " if near else "") + f"it has: {known}",
            )
    else:
        fitting = next((by_quant[known] for known in PREFERENCE if known in by_quant), firsts)
    if len(fitting) > 1:
        # the plain one among variants: fewest folders, then the shortest name
        fitting = sorted(fitting, key=lambda name: (name.count("/"), len(name), name))
        if quant is None and not any(quant_of(name) for name in fitting):
            raise WeightsError(
                f"{place} has several models and nothing tells which is wanted",
                hint=f"name one of them in the source: {', '.join(fitting[:5])}",
            )
    whole = parts(fitting[0])
    missing = [name for name in whole if name not in names]
    if missing:
        raise WeightsError(f"{place} has {fitting[0]}, but its part {missing[0]} is missing")
    return list(whole)


def choose_folder(place: str, names: Sequence[str], weight_map: Mapping[str, str] | None) -> list[str]:
    """Config, tokenizer and safetensors of a model; `weight_map` is that of its index, where it has one.

    Pickles are never taken: loading one runs what is in it. Raises `WeightsError`.
    """
    there = set(names)
    if "config.json" not in there:
        raise WeightsError(
            f"{place} has no config.json at its top, so it is not a model folder", hint=_other_form(names)
        )
    if weight_map is not None:
        shards = sorted(set(weight_map.values()))
        bad = next((name for name in shards if "/" in name or name not in there), None)
        if bad is not None:
            raise WeightsError(f"{place} has an index that names {bad!r}, which is not there")
        weights = [*shards, INDEX]
    else:
        weights = ["model.safetensors"] if "model.safetensors" in there else sorted(filter(_SHARD.fullmatch, names))
        weights = weights or sorted(
            name for name in names if name.endswith(".safetensors") and "/" not in name and not _NOT_MODELS.search(name)
        )
    if not weights:
        pickles = any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in names)
        raise WeightsError(
            f"{place} has no safetensors",
            hint="its weights are pickles, which run code when they are loaded; look for a safetensors version"
            if pickles
            else _other_form(names),
        )
    beside = sorted(name for name in names if _BESIDE.fullmatch(name) and name not in weights)
    return [*beside, *weights]


def choose_papers(names: Sequence[str]) -> list[str]:
    """Licence, notice and model card."""
    return sorted(name for name in names if PAPERS.fullmatch(name))


def has(form: Literal["gguf", "safetensors"], names: Sequence[str]) -> bool:
    """Whether there is a model of that form among them."""
    return any(name.endswith(f".{form}") and not _NOT_MODELS.search(name) for name in names)


def _other_form(names: Sequence[str]) -> str:
    if any(name.endswith(".safetensors") for name in names):
        return (
            "it has safetensors, for engines such as vllm or transformers; for llama.cpp look for a repository of the "
            "same model with GGUF in its name"
        )
    if any(name.endswith(".gguf") for name in names):
        return "it has .gguf files, which llama.cpp reads"
    shown = ", ".join(sorted(names)[:5])
    return f"it has: {shown}" if shown else "it is empty"
