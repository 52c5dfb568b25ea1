"""`inhouse doctor`: what this machine is, and what becomes of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from inhouse.cli.engine import sentence
from inhouse.cli.options import AsJson, examples

if TYPE_CHECKING:
    from inhouse.engines.choices import Choice, Choices
    from inhouse.engines.gpus import Gpu
    from inhouse.engines.hardware import Hardware

EXAMPLES = examples("inhouse doctor hardware", "inhouse doctor hardware --json")

app = typer.Typer(name="doctor", help="Look at what the gateway runs on.", no_args_is_help=True, epilog=EXAMPLES)


@app.callback()
def doctor() -> None:
    """Look at what the gateway runs on."""


@app.command(epilog=EXAMPLES)
def hardware(as_json: AsJson = False) -> None:
    """Show CPU, memory and GPUs as an engine here would see them, and what it would be given.

    Limits of a container and the affinity of this process count. What is chosen can be set for each model
    (`threads`, `batch`, `slots`) and for all of them (`memory.budget`).
    """
    from inhouse.engines.choices import budget, choose, gpu_budget
    from inhouse.engines.devices import seen
    from inhouse.engines.hardware import look
    from inhouse.engines.native import gains
    from inhouse.engines.native_cuda import usable
    from inhouse.engines.native_here import built_here

    found = look()
    choices, room = choose(found), budget(found)
    built = built_here(found, os.environ)
    cards = () if built is None else seen(built.program)
    on_gpus = gpu_budget(sum(card.memory_bytes for card in cards)) if cards else None
    which = sentence(built, gains(found.cpu, gpu=bool(usable(found.gpus))), found.system)
    if as_json:
        import json

        may = {"usable_cores": found.usable_cores, "usable_memory_bytes": found.usable_memory_bytes}
        engine = {"program": None if built is None else str(built.program), "why": which}
        budgets = {"memory_budget_bytes": room and asdict(room), "gpu_budget_bytes": on_gpus and asdict(on_gpus)}
        chosen = {**asdict(choices), **budgets, "engine": engine}
        typer.echo(json.dumps({**asdict(found), **may, "chosen": chosen}, indent=2, ensure_ascii=False))
        return
    for label, text in (*told(found, choices, room, on_gpus), ("", ""), ("engine", which)):
        typer.echo(f"{label:<14}{text}".rstrip())


def told(
    found: Hardware, choices: Choices, room: Choice | None, on_gpus: Choice | None = None
) -> Iterator[tuple[str, str]]:
    """The rows for people: a label and what stands beside it. Pure."""
    from inhouse.engines.residence import size

    cpu = found.cpu
    yield "system", found.system
    name = cpu.name or "unknown"
    yield "CPU", f"{name}: {cpu.threads} of {found.machine_threads} threads, on {_cores(cpu.cores, cpu.quick_cores)}"
    yield "instructions", ", ".join(cpu.features) or "none that llama.cpp has a faster way for"
    if found.quota_cores is not None:
        yield "CPU limit", f"{found.quota_cores:g} cores, by the cgroup"
    memory = "unknown" if found.memory_bytes is None else size(found.memory_bytes)
    free = "" if found.memory_free_bytes is None else f", {size(found.memory_free_bytes)} of it free now"
    yield "memory", memory + free
    if found.memory_limit_bytes is not None:
        yield "memory limit", f"{size(found.memory_limit_bytes)}, by the cgroup"
    for gpu in found.gpus:
        yield from _gpu(gpu)
    if not found.gpus:
        yield "GPU", "none"
    yield "", ""
    yield "An engine that is started here gets, where inhouse.yaml does not say:", ""
    for label, choice in (("threads", choices.threads), ("", choices.batch_threads)):
        what = "to generate" if label else "to read prompts"
        yield label, f"{choice.value} {what}: {choice.why}"
    yield "batch", f"{choices.batch.value} tokens of prompts at a time: {choices.batch.why}"
    yield "slots", f"{choices.slots.value}: {choices.slots.why}"
    models = "no limit: the memory of this system is not known" if room is None else f"{size(room.value)}: {room.why}"
    yield "memory", f"for all models {models}"
    if on_gpus is not None:
        yield "GPU memory", f"for all models {size(on_gpus.value)}: {on_gpus.why}"
    if any(gpu.vendor != "nvidia" and not gpu.note for gpu in found.gpus):
        yield "", ""
        yield "The engine in the package computes on the CPU; `engine_binary` names a build that uses the GPU.", ""


def _cores(cores: int, quick: int | None) -> str:
    kinds = "" if quick is None or quick == cores else f", {quick} of them quick"
    return f"{cores} core{'s' * (cores != 1)}{kinds}"


def _gpu(gpu: Gpu) -> Iterator[tuple[str, str]]:
    from inhouse.engines.residence import size

    facts = [gpu.name]
    if gpu.memory_bytes is not None:
        used = "" if gpu.memory_used_bytes is None else f", {size(gpu.memory_used_bytes)} of it in use"
        facts.append(size(gpu.memory_bytes) + used)
    if gpu.capability:
        facts.append(f"compute capability {gpu.capability}")
    facts.append(f"driver {gpu.driver}" if gpu.driver else "")
    facts.append(gpu.note)
    yield "GPU", "; ".join(fact for fact in facts if fact)
    for part in gpu.slices:
        memory = "" if part.memory_bytes is None else f", {size(part.memory_bytes)}"
        yield "", f"MIG slice {part.profile}{memory}: {part.id}"
