"""What is seen of a machine: by what real ones show, in folders that look like their /proc and /sys."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import machines
import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import card, cpuinfo, put

from inhouse.engines import cgroups, gpus
from inhouse.engines.choices import Choice, budget, choose, gpu_budget, reserve_bytes
from inhouse.engines.cpu import NO_CPU, Cpu, of_cpuinfo, of_sysctl
from inhouse.engines.gpus import Gpu, MigSlice
from inhouse.engines.hardware import Hardware, look, resident_bytes, resident_tree_bytes, usable_cores
from inhouse.engines.native_cuda import visible_bytes

GIB = 1 << 30


def test_cpus_of_servers() -> None:
    """Names, threads, cores, and the instructions that llama.cpp has a faster way for."""
    assert of_cpuinfo(cpuinfo(machines.EPYC, 2)) == Cpu(
        "AMD EPYC", 2, 2, ("AVX2", "AVX-512", "AVX-512 VNNI", "AVX-512 BF16")
    )
    rapids = of_cpuinfo(cpuinfo(machines.SAPPHIRE_RAPIDS, 8, per_core=2))
    assert (rapids.threads, rapids.cores) == (8, 4)
    assert rapids.features == ("AVX2", "AVX-512", "AVX-512 VNNI", "AVX-512 BF16", "AVX-VNNI", "AMX")
    assert of_cpuinfo(machines.HASWELL).features == ("AVX2",)
    graviton = of_cpuinfo(cpuinfo(machines.GRAVITON_3, 4))
    assert graviton == Cpu("Neoverse-V1", 4, 4, ("NEON", "dot product", "int8 matrices", "SVE"))


def test_an_affinity_with_both_threads_of_a_core() -> None:
    """Two threads of one core are one core."""
    text = cpuinfo(machines.SAPPHIRE_RAPIDS, 8, per_core=2)
    assert of_cpuinfo(text, frozenset((0, 4))).cores == 1
    assert of_cpuinfo(text, frozenset((0, 1))).cores == 2


def test_a_mac() -> None:
    found = of_sysctl(machines.M2)
    assert found == Cpu("Apple M2", 8, 8, ("NEON", "dot product", "int8 matrices"), quick_cores=4)


@given(st.text())
def test_any_text_is_some_cpu(text: str) -> None:
    """Nothing that a kernel might show is an error."""
    assert of_cpuinfo(text).threads >= 1
    assert of_cpuinfo("processor: 0\n" + text).threads >= 1
    of_sysctl(text)
    gpus.of_nvidia_smi(text, text)
    gpus.named_by_rocm((Gpu("amd", ""),), text)


def test_nothing_to_be_seen(tmp_path: Path) -> None:
    """A machine without /proc and /sys is one on which an engine can still be started."""
    found = look(tmp_path)
    assert found.usable_cores >= 1
    assert (found.memory_bytes, found.usable_memory_bytes, found.gpus) == (None, None, ())
    assert budget(found) is None


def test_this_machine() -> None:
    found = look()
    assert found.usable_cores == usable_cores() <= len(os.sched_getaffinity(0))
    assert found.usable_memory_bytes is not None
    assert found.usable_memory_bytes > 64 << 20
    assert (resident_bytes(os.getpid()) or 0) > 1 << 20
    assert resident_bytes(2**22 + 1) is None


def test_memory_of_a_process_and_its_children() -> None:
    """What a life line runs counts as its own."""
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'b = bytes(1 << 26); print(1); input()'])"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.read(1)
        alone, together = resident_bytes(process.pid), resident_tree_bytes(process.pid)
        assert alone is not None
        assert together is not None
        assert together > alone + (1 << 22)
    finally:
        process.communicate(b"\n")
    assert resident_tree_bytes(2**22 + 1) is None


def group_2(root: Path, path: str) -> None:
    put(root, proc__self__cgroup=f"0::{path}\n")
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/cgroup.controllers").write_text("cpuset cpu io memory pids\n")


def test_limits_of_version_2(tmp_path: Path) -> None:
    """The least of all groups from ours up; what a file of another kind says does not count."""
    group_2(tmp_path, "/system.slice/docker-1.scope")
    base = tmp_path / "sys/fs/cgroup"
    inner = base / "system.slice/docker-1.scope"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    (base / "system.slice/cpu.max").write_text("150000 100000\n")
    (inner / "memory.max").write_text("8589934592\n")
    (inner / "memory.current").write_text("3000000000\n")
    (inner / "memory.stat").write_text("anon 900000000\ninactive_file 2000000000\n")
    (base / "system.slice/memory.max").write_text("max\n")
    assert cgroups.limits(tmp_path) == cgroups.Limits(2, 1.5, 8589934592, 1000000000)


def test_limits_inside_a_container(tmp_path: Path) -> None:
    """The mount shows our own group as its root, whatever path the kernel names."""
    group_2(tmp_path, "/../../kubepods/pod7/abc")
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("1073741824\n")
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("50000 100000\n")
    assert cgroups.limits(tmp_path) == cgroups.Limits(2, 0.5, 1073741824, None)


def test_limits_of_version_1(tmp_path: Path) -> None:
    put(tmp_path, proc__self__cgroup="9:name=systemd:/\n4:memory:/job/7\n2:cpu,cpuacct:/job\n0::/\n")
    base = tmp_path / "sys/fs/cgroup"
    for name, text in (
        ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory/job/memory.limit_in_bytes", "4294967296\n"),
        ("memory/job/memory.usage_in_bytes", "1000\n"),
        ("memory/job/7/memory.limit_in_bytes", "9223372036854771712\n"),
        ("cpu,cpuacct/job/cpu.cfs_quota_us", "300000\n"),
        ("cpu,cpuacct/job/cpu.cfs_period_us", "100000\n"),
        ("cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
        ("cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
    ):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_text(text)
    assert cgroups.limits(tmp_path) == cgroups.Limits(1, 3.0, 4294967296, 1000)


def test_a_limit_cuts_what_is_free(tmp_path: Path) -> None:
    group_2(tmp_path, "/")
    put(tmp_path, proc__meminfo="MemTotal:       24684096 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\n")
    put(tmp_path, proc__cpuinfo=cpuinfo(machines.EPYC, 2))
    base = tmp_path / "sys/fs/cgroup"
    (base / "memory.max").write_text(f"{2 * GIB}\n")
    (base / "memory.current").write_text(f"{GIB // 2}\n")
    (base / "cpu.max").write_text("100000 100000\n")
    found = look(tmp_path)
    assert (found.memory_bytes, found.memory_limit_bytes) == (24684096 * 1024, 2 * GIB)
    assert found.memory_free_bytes == 3 * GIB // 2
    assert (found.usable_cores, found.usable_memory_bytes) == (1, 2 * GIB)


def test_nvidia_by_its_command() -> None:
    """Memory that is not told is unknown; slices belong to the card above them."""
    first, second = gpus.of_nvidia_smi(machines.SMI, machines.SMI_LIST)
    assert (first.name, first.capability, first.driver) == ("NVIDIA H100 80GB HBM3", "9.0", "550.90.07")
    assert (first.memory_bytes, first.memory_used_bytes, first.slices) == (81559 << 20, 1234 << 20, ())
    assert second.memory_bytes is None
    assert second.slices == (
        MigSlice("3g.40gb", "MIG-c7384736-a75d-5afc-978f-d2f1294409fd", 40 * 10**9),
        MigSlice("1c.2g.20gb", "MIG-41b3359c-e721-56e5-8009-12e5797ed514", 20 * 10**9),
    )
    assert gpus.of_nvidia_smi(machines.NO_DRIVER, machines.NO_DRIVER) == ()


H100 = 81559 << 20
FIRST, SECOND, THIRD = "MIG-c7384736-a75d-5afc-978f-d2f1294409fd", "MIG-41b3359c-e721-56e5-8009-12e5797ed514", "MIG-7"


@pytest.mark.parametrize(
    ("told", "sizes"),
    [
        (None, [H100, 2 * H100, None]),
        ("", []),
        ("0", [H100]),
        ("1", [2 * H100]),
        ("GPU-63feeb45", [2 * H100]),
        (FIRST, [40 * 10**9]),
        (f"{SECOND}, GPU-2f8bd5a1", [H100, 20 * 10**9]),
        (f"{FIRST},{SECOND}", [40 * 10**9, 20 * 10**9]),
        (THIRD, [2 * H100]),
        ("MIG-none", []),
    ],
)
def test_memory_that_engines_see(told: str | None, sizes: list[int | None]) -> None:
    """All cards that work; else those that are left, a slice in place of its card where its memory is known."""
    whole, cut = gpus.of_nvidia_smi(machines.SMI, machines.SMI_LIST)
    cut = replace(cut, memory_bytes=2 * H100, slices=(*cut.slices, MigSlice("odd", THIRD)))
    cards = [whole, cut, Gpu("intel", "an Intel GPU"), Gpu("amd", "an AMD GPU", 5, note="no driver is loaded")]
    assert visible_bytes(cards, {} if told is None else {"CUDA_VISIBLE_DEVICES": told}) == sizes


def test_memory_of_cards_that_are_not_cudas() -> None:
    """The variable is CUDA's."""
    assert visible_bytes([Gpu("amd", "an AMD GPU", 5)], {"CUDA_VISIBLE_DEVICES": "3"}) == [5]


class NvmlError(Exception):
    pass


def nvml(**more: Any) -> SimpleNamespace:
    """The module `pynvml` of a machine with one A100 in MIG mode, of whose seven places one is taken."""

    def part(_: object, index: int) -> str:
        if index != 2:
            raise NvmlError("not found")
        return "slice"

    def unsupported(*_: object) -> tuple[int, int]:
        raise NvmlError("not supported")

    memory = {"card": SimpleNamespace(total=40 * GIB, used=GIB), "slice": SimpleNamespace(total=20 * GIB, used=0)}
    module = SimpleNamespace(
        NVMLError=NvmlError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: b"535.104",
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: "card",
        nvmlDeviceGetName=lambda handle: {"card": "NVIDIA A100-SXM4-40GB", "slice": "NVIDIA A100 MIG 3g.20gb"}[handle],
        nvmlDeviceGetUUID=lambda handle: {"card": "GPU-1", "slice": "MIG-1"}[handle],
        nvmlDeviceGetMemoryInfo=lambda handle: memory[handle],
        nvmlDeviceGetCudaComputeCapability=lambda handle: (8, 0),
        nvmlDeviceGetMigMode=lambda handle: (1, 1),
        nvmlDeviceGetMaxMigDeviceCount=lambda handle: 7,
        nvmlDeviceGetMigDeviceHandleByIndex=part,
    )
    module.unsupported = unsupported
    for name, value in more.items():
        setattr(module, name, getattr(module, value) if isinstance(value, str) else value)
    return module


def test_nvidia_by_its_library(tmp_path: Path) -> None:
    (found,) = gpus.look(tmp_path, run=lambda command: "", nvml=nvml())
    assert found == Gpu(
        "nvidia", "NVIDIA A100-SXM4-40GB", 40 * GIB, GIB, "GPU-1", "535.104", "8.0",
        (MigSlice("3g.20gb", "MIG-1", 20 * GIB),),
    )  # fmt: skip


def test_a_library_that_cannot_do_everything(tmp_path: Path) -> None:
    """A card without MIG and with memory of the CPU is still a card; without a driver there is none."""
    shy = nvml(nvmlDeviceGetMigMode="unsupported", nvmlDeviceGetMemoryInfo="unsupported")
    (found,) = gpus.look(tmp_path, run=lambda command: "", nvml=shy)
    assert (found.slices, found.memory_bytes) == ((), None)
    absent = nvml(nvmlInit="unsupported")
    assert gpus.look(tmp_path, run=lambda command: "", nvml=absent) == ()


def test_cards_by_what_the_kernel_shows(tmp_path: Path) -> None:
    """AMD with its memory and, by rocm-smi, its name; Intel's own cards and those in the CPU; NVIDIA without a driver;
    what is no display is passed over."""
    place = "0000:0{}:00.0"
    card(tmp_path, place.format(1), "amdgpu", vendor="0x1002", **{"class": "0x030000"},
         mem_info_vram_total="206141652992\n", mem_info_vram_used="300000000\n")  # fmt: skip
    card(tmp_path, place.format(2), "i915", vendor="0x8086", **{"class": "0x030000"})
    arc = card(tmp_path, place.format(3), "xe", vendor="0x8086", **{"class": "0x038000"})
    (arc / "resource").write_text(
        "0x00000000e0000000 0x00000000e0ffffff 0x0000000000140204\n0x0 0x0 0x0\n"
        "0x0000004000000000 0x00000043ffffffff 0x000000000014220c\n"
    )
    card(tmp_path, place.format(4), vendor="0x10de", **{"class": "0x030200"})
    card(tmp_path, place.format(5), "nvme", vendor="0x8086", **{"class": "0x010802"})
    answers = {"rocm-smi": machines.ROCM}
    amd, inside, own, nvidia = gpus.look(
        tmp_path, run=lambda command: answers.get(command[0], ""), nvml=nvml(nvmlInit="unsupported")
    )
    assert (amd.name, amd.memory_bytes, amd.memory_used_bytes) == ("AMD Instinct MI300X", 206141652992, 300000000)
    assert (inside.name, inside.memory_bytes, inside.driver) == ("an Intel GPU", None, "i915")
    assert (own.memory_bytes, own.note) == (16 * GIB, "")
    assert (nvidia.vendor, nvidia.note) == ("nvidia", "no driver is loaded")


def machine(
    threads: int = 2, cores: int | None = None, *, quota: float | None = None, quick: int | None = None, memory: int = 8
) -> Hardware:
    cpu = Cpu("some CPU", threads, cores or threads, quick_cores=quick)
    return Hardware("Linux x86_64", cpu, threads, quota, memory * GIB, None, None)


@pytest.mark.parametrize(
    ("hardware", "replicas", "threads", "batch_threads"),
    [
        (machine(1), 1, 1, 1),
        (machine(2, 1), 1, 2, 2),
        (machine(16, 8), 1, 8, 16),
        (machine(16, 8), 2, 4, 8),
        (machine(16, 8, quota=6.5), 1, 6, 6),
        (machine(64, 32, quota=0.5), 1, 1, 1),
        (machine(8, quick=4), 1, 4, 8),
        (machine(2), 8, 1, 1),
    ],
)
def test_threads(hardware: Hardware, replicas: int, threads: int, batch_threads: int) -> None:
    """One for each core, once there are four of them; quick cores only; within the quota; shared by the replicas."""
    chosen = choose(hardware, replicas=replicas)
    assert (chosen.threads.value, chosen.batch_threads.value) == (threads, batch_threads)
    assert chosen.threads.why


def test_what_is_set_holds() -> None:
    chosen = choose(machine(64), threads=3, batch=1024, slots=7)
    values = (chosen.threads.value, chosen.batch_threads.value, chosen.batch.value, chosen.slots.value)
    assert values == (3, 3, 1024, 7)
    assert choose(machine(64)).slots.value == 16
    assert choose(machine(2)).slots.value == 4
    assert choose(machine(2)).batch.value == 512
    assert choose(machine(16)).batch.value == 2048


def room(hardware: Hardware, *, budget_bytes: int | None = None, reserve: int | None = None) -> int:
    found = budget(hardware, budget_bytes=budget_bytes, reserve=reserve)
    assert found is not None
    return found.value


def test_the_budget() -> None:
    """What is set; else the memory that may be used, less a tenth, and less 512 MiB at least."""
    eight = machine(memory=8)
    assert room(eight, budget_bytes=GIB) == GIB
    assert room(eight) == 8 * GIB - reserve_bytes(8 * GIB)
    assert room(eight, reserve=GIB) == 7 * GIB
    assert reserve_bytes(GIB) == GIB // 2
    assert room(machine(memory=0)) == 0
    limited = Hardware("Linux x86_64", NO_CPU, 1, None, 8 * GIB, 2 * GIB, None)
    assert room(limited) == 2 * GIB - GIB // 2
    assert "cgroup" in (budget(limited) or pytest.fail("no budget")).why


def test_the_budget_of_gpus() -> None:
    """What is set; else all of their memory less a tenth, and less 512 MiB at least."""
    assert gpu_budget(80 * GIB) == Choice(72 * GIB, "the GPUs' memory of 80.0 GiB, less a reserve of 8.0 GiB")
    assert gpu_budget(2 * GIB).value == 2 * GIB - GIB // 2
    assert gpu_budget(0).value == 0
    assert gpu_budget(80 * GIB, budget_bytes=20 * GIB) == Choice(20 * GIB, "as `memory.gpu_budget` says")
