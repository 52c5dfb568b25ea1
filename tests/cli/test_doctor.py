"""`inhouse doctor hardware`: what is seen of this machine, and what an engine would be given."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

from inhouse.cli.doctor import told
from inhouse.engines.choices import budget, choose, gpu_budget
from inhouse.engines.cpu import Cpu
from inhouse.engines.gpus import Gpu, MigSlice
from inhouse.engines.hardware import Hardware

GIB = 1 << 30


def test_this_machine(inhouse: Any) -> None:
    """The same facts for people and for scripts, each choice with its reason."""
    done = inhouse("doctor", "hardware")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line[:14].strip(): line[14:] for line in done.stdout.splitlines()}
    told = json.loads(inhouse("doctor", "hardware", "--json").stdout)
    assert told["usable_cores"] <= len(os.sched_getaffinity(0))
    assert rows["slots"].startswith(f"{told['chosen']['slots']['value']}: ")
    assert told["chosen"]["memory_budget_bytes"]["value"] < told["usable_memory_bytes"]
    assert told["chosen"]["threads"]["why"]


def test_a_machine_with_everything() -> None:
    cpu = Cpu("Intel(R) Xeon(R) Platinum 8481C", 16, 8, ("AVX2", "AMX"))
    card = Gpu(
        "nvidia", "NVIDIA H100", 80 * GIB, GIB, "GPU-1", "550.90", "9.0", (MigSlice("3g.40gb", "MIG-1", 40 * GIB),)
    )
    found = Hardware(
        "Linux x86_64", cpu, 32, 6.5, 64 * GIB, 16 * GIB, 8 * GIB, (card, Gpu("amd", "MI300X", note="no driver"))
    )
    lines = [f"{label:<14}{text}".rstrip() for label, text in told(found, choose(found), budget(found))]
    assert lines == [
        "system        Linux x86_64",
        "CPU           Intel(R) Xeon(R) Platinum 8481C: 16 of 32 threads, on 8 cores",
        "instructions  AVX2, AMX",
        "CPU limit     6.5 cores, by the cgroup",
        "memory        64.0 GiB, 8.0 GiB of it free now",
        "memory limit  16.0 GiB, by the cgroup",
        "GPU           NVIDIA H100; 80.0 GiB, 1.0 GiB of it in use; compute capability 9.0; driver 550.90",
        "              MIG slice 3g.40gb, 40.0 GiB: MIG-1",
        "GPU           MI300X; no driver",
        "",
        "An engine that is started here gets, where inhouse.yaml does not say:",
        "threads       6 to generate: every thread that may be used, within the cgroup's 6.5 cores",
        "              6 to read prompts: every thread that may be used, within the cgroup's 6.5 cores",
        "batch         512 tokens of prompts at a time: with 6 threads, more would keep those who stream waiting while "
        "a prompt is read",
        "slots         4: with 6 threads; fewer where their context does not fit in memory",
        "memory        for all models 14.4 GiB: the cgroup's limit of 16.0 GiB, less a reserve of 1.6 GiB",
    ]


def test_what_models_may_take_of_gpus() -> None:
    """With a build that sees them; where none is made for them, which way leads there."""
    found = Hardware("Linux x86_64", Cpu("any", 2, 2), 2, None, GIB, None, None, (Gpu("amd", "MI300X"),))
    *_, last = told(found, choose(found), None, gpu_budget(80 * GIB))
    assert last[0] == "The engine in the package computes on the CPU; `engine_binary` names a build that uses the GPU."
    found = replace(found, gpus=())
    *_, last = told(found, choose(found), None, gpu_budget(80 * GIB))
    assert last == ("GPU memory", "for all models 72.0 GiB: the GPUs' memory of 80.0 GiB, less a reserve of 8.0 GiB")
