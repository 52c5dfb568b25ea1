"""llama.cpp: the server inside the `xllamacpp` wheel, or a `llama-server` binary of the user's own.

Both take the same flags, written once in `argv`; `llamacpp_child.py` reads them for the wheel. An own build that uses
all of the CPU's instructions takes the place of the wheel by being named as `engine_binary`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

CHILD = Path(__file__).with_name("llamacpp_child.py")
LIFELINE = Path(__file__).with_name("lifeline.py")
_UBATCH_TOKENS = 512


@dataclass(frozen=True, slots=True)
class LlamaCpp:
    """One replica to be: a model file and what it may use."""

    model: str
    """The public name; the engine reports it in its answers, so that they need no rewriting."""
    file: Path
    context_tokens: int
    slots: int
    threads: int
    batch_threads: int | None = None
    """For prompts; None for as many as `threads`."""
    batch_tokens: int = 2048
    """Of prompts that are computed at a time; raised where one pass takes more."""
    pooling: str | None = "mean"
    """How token vectors become one embedding; None where the file itself says."""
    binary: Path | None = None
    extra_args: tuple[str, ...] = ()


def argv(spec: LlamaCpp, socket: str) -> list[str]:
    """The command that serves `spec` on a unix socket and ends when its standard input does."""
    flags = [
        "--model", str(spec.file),
        "--alias", spec.model,
        "--host", socket,
        "--ctx-size", str(spec.context_tokens * spec.slots),
        "--parallel", str(spec.slots),
        "--batch-size", str(max(spec.batch_tokens, _ubatch_given(spec) or ubatch_tokens(spec.slots))),
        "--ubatch-size", str(ubatch_tokens(spec.slots)),
        "--threads", str(spec.threads),
        "--threads-batch", str(spec.batch_threads or spec.threads),
        "--metrics",
        "--slots",
        "--jinja",
        "--embeddings",
        *(["--pooling", spec.pooling] if spec.pooling else []),
        *spec.extra_args,
    ]  # fmt: skip
    # -P keeps this folder, whose modules have common names, out of the child's import path
    if spec.binary is None:
        return [sys.executable, "-P", str(CHILD), *flags]
    return [sys.executable, "-P", str(LIFELINE), str(spec.binary), *flags]


def _ubatch_given(spec: LlamaCpp) -> int:
    """A pass is never larger than a batch: whoever raises one with a flag of llama-server means both."""
    for flag, value in pairwise(spec.extra_args):
        if flag in ("-ub", "--ubatch-size") and value.isdecimal():
            return int(value)
    return 0


def ubatch_tokens(slots: int) -> int:
    """Tokens of one pass: llama.cpp's own 512, rounded up to a multiple of the slots.

    With pooling it fails an assertion (`ggml_can_mul_mat`, seen in b11549) where the slots do not divide it.
    """
    return -(-_UBATCH_TOKENS // slots) * slots
