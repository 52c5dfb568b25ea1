"""Trains the demo model from scratch on the CPU and leaves `model.pt` and `tokenizer.json` in the output folder.

    python train.py --steps 1500

Ctrl-C ends early and keeps what was learned so far. Seeded: the same machine and versions give the same model.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from dataclasses import asdict
from pathlib import Path

import torch
import vocabulary
from chatml import render
from corpus_files import load
from model import Llama, Shape
from samples import Sampler, counted
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from batches import Batch, batches

OUT = Path(__file__).parent / "out"
MICRO_BATCHES = 2
MICRO_TOKENS = 2_048
WARM_UP = 60
MATRIX_RATE = 6e-3
OTHER_RATE = 2e-3
KEEP_EVERY = 50
# Copying is learned late by itself, and tool calls need it: so there are many echoes at first.
ECHO_SHARE_FIRST = 0.25
ECHOES_UNTIL = 0.25


def main() -> None:
    arguments = argparse.ArgumentParser(description="Train the demo model.")
    arguments.add_argument("--steps", type=int, default=1500)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--out", type=Path, default=OUT)
    arguments.add_argument("--resume", type=Path, help="folder of an earlier run to start from")
    given = arguments.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    given.out.mkdir(parents=True, exist_ok=True)

    shape = Shape()
    model = Llama(shape)
    if given.resume:
        tokenizer = Tokenizer.from_file(str(given.resume / "tokenizer.json"))
        model.load_state_dict(torch.load(given.resume / "model.pt")["weights"])
    else:
        tokenizer = learn_tokenizer(shape.vocab, given.seed)
    tokenizer.save(str(given.out / "tokenizer.json"))
    print(f"{sum(weight.numel() for weight in model.parameters()) / 1e6:.2f} million parameters", flush=True)
    try:
        train(model, tokenizer, given.steps, given.seed, given.out)
    except KeyboardInterrupt:
        print("stopped early")
    keep(model, given.out)


def learn_tokenizer(size: int, seed: int) -> Tokenizer:
    """From 20,000 conversations, and enough counting for every number up to 200."""
    sampler = Sampler(load(), seed + 1000)
    texts = [render(sampler.conversation()).text for _ in range(20_000)]
    return vocabulary.learn([*texts, *(counted(200) for _ in range(300))], size)


def train(model: Llama, tokenizer: Tokenizer, steps: int, seed: int, out: Path) -> None:
    optimizers = make_optimizers(model)
    sampler = Sampler(load(), seed)
    stream = batches(sampler, tokenizer, MICRO_TOKENS, seed)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    begin, seen, smooth = time.monotonic(), 0, math.nan
    for step in range(1, steps + 1):
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate(step, steps)
        sampler.echo_share = ECHO_SHARE_FIRST if step < steps * ECHOES_UNTIL else Sampler.echo_share
        micro = list(itertools.islice(stream, MICRO_BATCHES))
        learned = sum(len(batch.targets) for batch in micro)
        total = sum(backward(model, batch, learned) for batch in micro)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        seen += sum(batch.ids.numel() for batch in micro)
        smooth = total if math.isnan(smooth) else 0.95 * smooth + 0.05 * total
        if step % 20 == 0 or step == steps:
            spent = time.monotonic() - begin
            left = spent / step * (steps - step)
            pace = f"{seen / spent:,.0f} tokens/s  {left / 60:.1f} min left"
            print(f"step {step}/{steps}  loss {smooth:.4f}  {pace}", flush=True)
        if step % KEEP_EVERY == 0:
            keep(model, out)


def make_optimizers(model: Llama) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for the embedding and the norms."""
    matrices = [weight for weight in model.blocks.parameters() if weight.dim() == 2]
    inside = {id(weight) for weight in matrices}
    others = [weight for weight in model.parameters() if id(weight) not in inside]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, momentum=0.95, weight_decay=0.02, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def backward(model: Llama, batch: Batch, learned: int) -> float:
    """Adds the batch's share of the gradient; gives its share of the loss per learned token."""
    with torch.autocast("cpu", torch.bfloat16):
        hidden: Tensor = model(batch.ids).flatten(0, 1)[batch.places]
        logits = model.logits(hidden)
    loss = functional.cross_entropy(logits.float(), batch.targets, reduction="sum") / learned
    loss.backward()
    return loss.item()


def rate(step: int, steps: int) -> float:
    """A linear warm-up, then flat, then down to nothing over the last three quarters."""
    return min(step / WARM_UP, 1.0) * min(1.0, (steps - step + 1) / (steps * 0.75))


def keep(model: Llama, out: Path) -> None:
    half_written = out / "model.pt.part"
    torch.save({"shape": asdict(model.shape), "weights": model.state_dict()}, half_written)
    half_written.replace(out / "model.pt")


if __name__ == "__main__":
    main()
