"""What one engine process is told when it starts. Not here: what a request may ask for (`asks`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from inhouse.hf_engine.batching import Rules

Quantize = Literal["none", "nf4", "int8"]
Dtype = Literal["auto", "float32", "float16", "bfloat16"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Task = Literal["auto", "generate", "embed"]


@dataclass(frozen=True, slots=True)
class Settings:
    """A model's folder, how it is loaded, and the limits of what is asked of it."""

    folder: Path
    name: str
    quantize: Quantize = "none"
    dtype: Dtype = "auto"
    device: Device = "auto"
    task: Task = "auto"
    context_tokens: int | None = None
    """Prompt and answer together; without a number, what the model was made for."""
    threads: int | None = None
    queue_max: int = 64
    """Requests that may wait beside those that are computed."""
    body_bytes_max: int = 16 * 1024 * 1024
    trust_remote_code: bool = False
    rules: Rules = field(default_factory=Rules)
