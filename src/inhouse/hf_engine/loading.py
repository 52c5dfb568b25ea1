"""A model's folder → the model in memory, with all that is to be known of it before the first request.

The one place that knows which classes of the library are used, and how quantisation, precision and device are said.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inhouse.errors import EngineStartError
from inhouse.hf_engine.asks import Sampling
from inhouse.hf_engine.settings import Settings

_CONTEXT_SETTINGS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_CONTEXT_DEFAULT = 4096
_CONTEXT_ABSURD = 10_000_000
"""Some tokenizers and configs say a number like 10**30 for `no limit`."""

Pooling = Literal["mean", "cls", "last"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that is ready. `forward` may be called from one thread only."""

    model: Any
    tokenizer: Any
    device: Any
    context_tokens: int
    embeds: bool
    pooling: Pooling
    ends: frozenset[int]
    """Tokens that end an answer."""
    pad: int
    defaults: Sampling
    cache_name: str
    """How the model's forward calls the cache: renamed in transformers 5."""
    takes: frozenset[str]
    """The names of forward's parameters."""


def load(settings: Settings) -> Loaded:
    """Reads tokenizer and weights; takes seconds to minutes. Raises EngineStartError with a reason for a person."""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = _device(settings, torch)
    common: dict[str, Any] = {"trust_remote_code": settings.trust_remote_code, "local_files_only": True}
    config = _read("config", lambda: transformers.AutoConfig.from_pretrained(settings.folder, **common))
    if getattr(config, "is_encoder_decoder", False):
        raise EngineStartError("models of an encoder and a decoder are not served; this engine runs decoders")
    embeds = _embeds(settings, config)
    tokenizer = _read("tokenizer", lambda: transformers.AutoTokenizer.from_pretrained(settings.folder, **common))
    kind = transformers.AutoModel if embeds else transformers.AutoModelForCausalLM
    how = {**common, "dtype": _dtype(settings, torch, device), **_quantized(settings, torch, transformers, device)}
    model = _read("weights", lambda: kind.from_pretrained(settings.folder, **how))
    if settings.quantize == "none":
        model = model.to(device)
    model.eval()
    takes = frozenset(inspect.signature(model.forward).parameters)
    return Loaded(
        model=model,
        tokenizer=tokenizer,
        device=device,
        context_tokens=_context(settings, config),
        embeds=embeds,
        pooling=_pooling(settings.folder),
        ends=_ends(model, tokenizer),
        pad=tokenizer.pad_token_id or 0,
        defaults=_defaults(model),
        cache_name="cache" if "cache" in takes else "past_key_values",
        takes=takes,
    )


def _read(what: str, read: Any) -> Any:
    try:
        return read()
    except Exception as error:  # noqa: BLE001 - whatever the library makes of such files, a person is to know
        told = " ".join(str(error).split())[:500]
        raise EngineStartError(f"its {what} cannot be loaded: {told or type(error).__name__}") from None


def _device(settings: Settings, torch: Any) -> Any:
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if settings.device != "auto":
        if not there[settings.device]:
            raise EngineStartError(f"this build of torch finds no {settings.device} here; leave --device out")
        return torch.device(settings.device)
    return torch.device(next(name for name in ("cuda", "mps", "cpu") if there[name]))


def _dtype(settings: Settings, torch: Any, device: Any) -> Any:
    """The precision of what is not quantised."""
    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)
    if settings.quantize != "none":
        return torch.bfloat16 if settings.quantize == "nf4" else torch.float16 if device.type == "cuda" else None
    return "auto"


def _quantized(settings: Settings, torch: Any, transformers: Any, device: Any) -> dict[str, Any]:
    if settings.quantize == "none":
        return {}
    if settings.quantize == "nf4":
        config = transformers.BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=_dtype(settings, torch, device),
        )
    else:
        config = transformers.BitsAndBytesConfig(load_in_8bit=True)
    return {"quantization_config": config, "device_map": {"": str(device)}}


def _embeds(settings: Settings, config: Any) -> bool:
    """Whether the folder's model makes vectors: sentence-transformers says so, and so does the kind of its head."""
    if settings.task != "auto":
        return settings.task == "embed"
    if (settings.folder / "modules.json").is_file():
        return True
    names = " ".join(config.architectures or ())
    return not any(word in names for word in ("CausalLM", "LMHead", "ConditionalGeneration"))


def _pooling(folder: Path) -> Pooling:
    """As sentence-transformers wrote it down; else the mean of all tokens."""
    try:
        told = json.loads((folder / "1_Pooling" / "config.json").read_text())
    except (OSError, ValueError):
        return "mean"
    return "cls" if told.get("pooling_mode_cls_token") else "last" if told.get("pooling_mode_lasttoken") else "mean"


def _context(settings: Settings, config: Any) -> int:
    decoder = config.get_text_config(decoder=True)
    told = [getattr(decoder, name, None) for name in _CONTEXT_SETTINGS]
    made_for = next((value for value in told if isinstance(value, int) and 0 < value < _CONTEXT_ABSURD), None)
    return min(settings.context_tokens or made_for or _CONTEXT_DEFAULT, made_for or _CONTEXT_ABSURD)


def _ends(model: Any, tokenizer: Any) -> frozenset[int]:
    generation = getattr(model, "generation_config", None)
    told = getattr(generation, "eos_token_id", None)
    ends = set(told if isinstance(told, list) else () if told is None else (told,))
    if tokenizer.eos_token_id is not None:
        ends.add(tokenizer.eos_token_id)
    return frozenset(ends)


def _defaults(model: Any) -> Sampling:
    """What the model's authors recommend, where they do; else OpenAI's defaults."""
    told = getattr(model, "generation_config", None)
    if told is None or not getattr(told, "do_sample", False):
        return Sampling()
    plain = Sampling()
    return Sampling(
        temperature=_number(told, "temperature", plain.temperature),
        top_p=_number(told, "top_p", plain.top_p),
        top_k=int(_number(told, "top_k", 0)),
        min_p=_number(told, "min_p", plain.min_p),
        repetition=_number(told, "repetition_penalty", plain.repetition),
    )


def _number(told: Any, name: str, default: float) -> float:
    value = getattr(told, name, None)
    return default if value is None else float(value)
