"""Which llama-server is built, with what, and where it lies."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inhouse.cli.engine import sentence
from inhouse.cli.engine_progress import BuildProgress
from inhouse.engines.cpu import Cpu
from inhouse.engines.devices import MIB, Device, parse, seen
from inhouse.engines.engine import Spec
from inhouse.engines.gpus import Gpu, MigSlice
from inhouse.engines.hardware import look
from inhouse.engines.http import Address
from inhouse.engines.llamacpp import argv
from inhouse.engines.native import (
    GLIBC,
    SystemTools,
    cache_folder,
    emulated,
    foreign_flags,
    gains,
    miscompiles_amx,
    recipe,
    steps,
    system_compiler,
    version_numbers,
    zig_wrapper,
)
from inhouse.engines.native_cuda import LIBRARIES, check_before, of_packages, of_system, stub_command, visible
from inhouse.engines.native_here import Built, built_here, recipe_here
from inhouse.errors import EngineBuildError

LINUX = "Linux x86_64"
OLD = Cpu("old", 2, 2, ("AVX2",))
NEW = Cpu("new", 2, 2, ("AVX2", "AVX-512", "AMX"))
VERSION = "2026.10.11549"


def test_the_same_recipe_is_the_same_folder_and_anything_else_is_another() -> None:
    """Version, kind and CPU tell builds apart; of a portable one the CPU does not."""
    native = recipe(VERSION, LINUX, NEW)
    assert native == recipe(VERSION, LINUX, NEW)
    others = [
        recipe("2026.11.11600", LINUX, NEW),
        recipe(VERSION, LINUX, OLD),
        recipe(VERSION, "Linux aarch64", NEW),
        recipe(VERSION, LINUX, NEW, portable=True),
    ]
    assert len({native.folder, *(one.folder for one in others)}) == 5
    assert recipe(VERSION, LINUX, NEW, portable=True) == recipe(VERSION, LINUX, OLD, portable=True)
    assert "-DLLAMA_BUILD_NUMBER=11549" in native.flags


def test_a_build_with_cuda_is_known_by_its_gpus() -> None:
    """Each order of the same is the same; it is portable besides; what is no compute capability is said."""
    made = recipe(VERSION, LINUX, NEW, cuda=["12.0", "8.9", "8.9"])
    assert made == recipe(VERSION, LINUX, OLD, cuda=["8.9", "12.0"])
    assert made.cuda == ("8.9", "12.0")
    assert "-DCMAKE_CUDA_ARCHITECTURES=89-real;120-real" in made.flags
    assert set(recipe(VERSION, LINUX, NEW, portable=True).flags) < set(made.flags)
    assert len({made.folder, recipe(VERSION, LINUX, NEW, cuda=["8.9"]).folder}) == 2
    with pytest.raises(EngineBuildError, match="sm_90"):
        recipe(VERSION, LINUX, NEW, cuda=["sm_90"])


def test_what_would_not_run_is_not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too old a GPU or driver for CUDA 13, and no g++: before anything is fetched, with the way out."""
    card = Gpu("nvidia", "a card", driver="580.65.06", capability="8.9")
    check_before(["8.9"], [card])
    with pytest.raises(EngineBuildError, match=r"6\.1"):
        check_before(["8.9", "6.1"], [])
    with pytest.raises(EngineBuildError, match=r"570\.86"):
        check_before(["8.9"], [replace(card, driver="570.86.10")])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineBuildError, match=r"g\+\+"):
        check_before(["8.9"], [card])


def test_a_toolkit_is_of_packages_of_packages(tmp_path: Path) -> None:
    """As cmake looks for it: lib64, libraries by their short names; a second time nothing changes."""
    lib = tmp_path / "nvidia" / "cu13" / "lib"
    lib.mkdir(parents=True)
    with pytest.raises(EngineBuildError, match="libcudart"):
        of_packages(tmp_path)
    for name in LIBRARIES:
        (lib / name).write_text(name)
    toolkit = of_packages(tmp_path)
    assert toolkit == of_packages(tmp_path)
    assert (lib.parent / "lib64" / "libcublas.so").read_text() == "libcublas.so.13"
    assert f"-DCUDAToolkit_ROOT={lib.parent}" in toolkit.flags
    licence = tmp_path / "nvidia_cublas-13.1.dist-info" / "licenses" / "License.txt"
    licence.parent.mkdir(parents=True)
    licence.touch()
    (tmp_path / "nvidia_cuda_nvcc-13.0.88.dist-info").mkdir()
    assert toolkit.packages == ("nvidia-cublas==13.1",)
    assert [path.name for path in toolkit.beside] == [*LIBRARIES, "License.txt"]
    stub = stub_command(lib.parent)
    subprocess.run(stub, check=True)
    assert b"libcuda.so.1" in (lib / "stubs" / "libcuda.so").read_bytes()


def test_which_gpus_are_left_to_programs() -> None:
    """By id or by number; CUDA counts the newest first unless it is told otherwise."""
    old, new = Gpu("nvidia", "old", id="GPU-aa", capability="6.1"), Gpu("nvidia", "new", id="GPU-bb", capability="8.6")
    assert visible([old, new], {}) == (old, new)
    assert visible([old, new], {"CUDA_VISIBLE_DEVICES": ""}) == ()
    assert visible([old, new], {"CUDA_VISIBLE_DEVICES": "0"}) == (new,)
    assert visible([old, new], {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}) == (old,)
    assert visible([old, new], {"CUDA_VISIBLE_DEVICES": " GPU-b"}) == (new,)
    cut = replace(old, slices=(MigSlice("1g.5gb", "MIG-cc"), MigSlice("1g.5gb", "MIG-dd")))
    assert visible([cut, new], {"CUDA_VISIBLE_DEVICES": "MIG-d"}) == (cut,)
    assert visible([cut, new], {"CUDA_VISIBLE_DEVICES": "MIG-ee,"}) == ()


def test_a_build_for_more_gpus_than_are_here_is_found(tmp_path: Path) -> None:
    """One that lacks code for a card that is to be used is not; nor one for another kind of machine."""
    cards = tuple(Gpu("nvidia", name, id=name, driver="580.1", capability=name) for name in ("8.6", "8.9"))
    hardware = replace(look(with_gpus=False), gpus=cards)
    environ = {"INHOUSE_CACHE": str(tmp_path)}

    def made(*cuda: str, machine: str = hardware.system.split()[1]) -> Path:
        folder = tmp_path / "engines" / recipe_here(hardware, cuda=cuda).folder
        folder.mkdir(parents=True)
        (folder / "llama-server").touch(0o755)
        told = {"cuda": cuda, "machine": machine, "edits": None}
        (folder / "build.json").write_text(json.dumps(told))
        return folder / "llama-server"

    made("9.0", "8.6", "8.9", machine="riscv64")
    one = made("8.6")
    assert built_here(hardware, environ) is None
    assert getattr(built_here(hardware, environ | {"CUDA_VISIBLE_DEVICES": "8.6"}), "program", None) == one
    more = made("8.9", "8.6", "12.0")
    assert getattr(built_here(hardware, environ), "program", None) == more
    assert built_here(replace(hardware, gpus=(replace(cards[0], note="no driver"),)), environ) is None


def test_a_toolkit_of_the_system_is_looked_for_where_it_may_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PATH, then what the variables say; else the way out."""
    monkeypatch.setenv("PATH", "/nowhere")
    if not Path("/usr/local/cuda/bin/nvcc").exists():
        with pytest.raises(EngineBuildError, match="no nvcc"):
            of_system({})
    nvcc = tmp_path / "bin" / "nvcc"
    nvcc.parent.mkdir()
    nvcc.touch(0o755)
    assert of_system({"CUDA_HOME": str(tmp_path)}).nvcc == str(nvcc)
    assert of_system({"CUDA_HOME": str(tmp_path)}).beside == ()


def test_what_a_server_says_of_its_devices() -> None:
    """With brackets in their names; none where it has none."""
    cards = (
        "  CUDA0: NVIDIA H100 (PCIe) (81089 MiB, 80563 MiB free)\n"
        "  Vulkan1: AMD (9 MiB, 8 MiB free)\n"
        "  BLAS: OpenBLAS (0 MiB, 0 MiB free)\n"
    )
    assert parse(f"Available devices:\n{cards}") == (
        Device("CUDA0", "NVIDIA H100 (PCIe)", 81089 * MIB),
        Device("Vulkan1", "AMD", 9 * MIB),
    )
    assert parse("Available devices:\n  (none)\n") == ()
    assert seen(Path("/nowhere/llama-server")) == ()


def test_a_native_build_has_this_cpu_and_a_portable_one_every_variant() -> None:
    """The two never mix: llama.cpp refuses both at once."""
    native, portable = recipe(VERSION, LINUX, NEW).flags, recipe(VERSION, LINUX, NEW, portable=True).flags
    assert "-DGGML_NATIVE=ON" in native
    assert "-DGGML_CPU_ALL_VARIANTS=ON" not in native
    assert {"-DGGML_NATIVE=OFF", "-DGGML_CPU_ALL_VARIANTS=ON", "-DGGML_BACKEND_DL=ON"} <= set(portable)


@pytest.mark.parametrize(("version", "system"), [(VERSION, "Darwin arm64"), ("0+unknown", LINUX)])
def test_what_cannot_be_built_is_refused_with_the_way_out(version: str, system: str) -> None:
    """macOS has a faster engine already; a version without number names no source."""
    with pytest.raises(EngineBuildError) as caught:
        recipe(version, system, NEW)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("gcc", "wrong"),
    [((12, 2, 0), True), ((12, 4), False), ((13, 2, 0), True), ((13, 3, 0), False), ((14, 1), False), ((11,), True)],
)
def test_which_gcc_compiles_amx_wrongly(gcc: tuple[int, ...], wrong: bool) -> None:
    """As the bug was mended in each branch."""
    assert miscompiles_amx(gcc) is wrong


def test_the_system_compiler_is_one_that_is_right_for_this_cpu() -> None:
    """Clang first; an old GCC only where there is no AMX; nothing half right."""
    gcc = SystemTools("cmake", "ninja", None, (12, 2, 0))
    assert system_compiler(SystemTools("cmake", "ninja", "clang", (12, 2, 0)), NEW).c == "clang"
    assert system_compiler(gcc, OLD).c == "gcc"
    with pytest.raises(EngineBuildError, match="AMX"):
        system_compiler(gcc, NEW)
    with pytest.raises(EngineBuildError, match="cmake and no ninja"):
        system_compiler(SystemTools(None, None, None, (14, 1)), OLD)
    with pytest.raises(EngineBuildError, match="no clang and no gcc"):
        system_compiler(SystemTools("cmake", "ninja", None, None), OLD)


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({}, "/home/me/.cache/inhouse/engines"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/inhouse/engines"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/inhouse/engines"),
        ({"INHOUSE_CACHE": "/mine", "XDG_CACHE_HOME": "/xdg"}, "/mine/engines"),
    ],
)
def test_where_builds_lie(environ: dict[str, str], place: str) -> None:
    """Ours before XDG's, whose relative values are ignored as its specification says."""
    assert cache_folder(environ, Path("/home/me")) == Path(place)


@given(st.lists(st.tuples(st.integers(0, 9999), st.integers(1, 9999)), min_size=1))
def test_progress_is_the_last_step_that_ninja_tells(told: list[tuple[int, int]]) -> None:
    """Whatever stands around the steps."""
    data = b"".join(b"[%d/%d] Building C object a.o\nwarning: b[1] is [old]\n" % one for one in told)
    assert steps(data) == told[-1]
    assert steps(b"-- Configuring done") is None


def test_a_portable_compiler_is_bound_to_an_old_glibc_and_to_no_cpu() -> None:
    """zig without a target takes the CPU that is here; the archiver takes none at all."""
    assert "-target x86_64-linux-gnu.2.28" in zig_wrapper(Path("/t/zig"), "c++", "x86_64")
    assert "-target" not in zig_wrapper(Path("/t/zig"), "c++", None)
    assert "-target" not in zig_wrapper(Path("/t/zig"), "ar", "x86_64")
    assert version_numbers("gcc (Debian 12.2.0-14+deb12u1) 12.2.0") == (12, 2, 0)


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("-march=armv8-a", "-mcpu=generic+v8a"),
        ("-march=armv8.2-a+dotprod+fp16+sve", "-mcpu=generic+v8_2a+dotprod+fullfp16+sve"),
        ("-march=armv9.2-a+dotprod+sme", "-mcpu=generic+v9_2a+dotprod+sme"),
        ("-DWHAT=a b", "-DWHAT=a b"),
    ],
)
def test_variants_of_arm_are_named_as_zig_names_them(tmp_path: Path, variant: str, words: str) -> None:
    """What llama.cpp's build says for gcc and clang, zig would refuse; nothing else is touched."""
    wrapper = tmp_path / "cc"
    wrapper.write_text(zig_wrapper(Path("printf"), "cc", "aarch64").replace(" cc -target", " '%s\\n' -target"))
    said = subprocess.run(["sh", str(wrapper), "-O3", variant, "a.c"], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == ["-target", f"aarch64-linux-gnu.{GLIBC}", "-O3", words, "a.c"]


def test_a_build_for_another_kind_of_machine(tmp_path: Path) -> None:
    """cmake is told of it, and only of it; what a machine of that kind looks for is what was made for it elsewhere."""
    assert foreign_flags("x86_64", "x86_64") == ()
    assert foreign_flags("aarch64", "x86_64") == ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64")
    made = recipe(VERSION, "Linux aarch64", NEW, portable=True)
    assert made == recipe(VERSION, "Linux aarch64", OLD, portable=True)
    assert made != recipe(VERSION, LINUX, NEW, portable=True)
    echo = tmp_path / "it's"
    echo.write_text(emulated(Path("echo"), "aarch64", Path("/b/llama-server")))
    said = subprocess.run(["sh", str(echo), "--port", "1"], capture_output=True, text=True, check=True).stdout
    assert said == "-L /usr/aarch64-linux-gnu /b/llama-server --port 1\n"


def test_a_build_is_started_with_what_the_engine_in_the_package_sets_itself() -> None:
    """No page, no flags of its own making; and no flag of the user is overruled: theirs come last."""
    spec = Spec("m", Path("m.gguf"), 512, 3, native=Path("/b/llama-server"), extra_args=("--cache-ram", "0"))
    words = argv(spec, Address(socket="/s")).argv
    assert words[0] == "/b/llama-server"
    assert words[words.index("--fit") + 1] == "off"
    assert words[words.index("--threads-http") + 1] == "22"
    assert words[words.index("--poll") + 1] == "4"
    assert words[-2:] == ("--cache-ram", "0")


def test_what_is_said_of_the_engine() -> None:
    """A build that is there is named; one that would bring nothing is not offered; a GPU is worth one in any case."""
    gpu = Built(Path("/b/llama-server"), {"version": VERSION, "portable": True, "cuda": ["9.0"]})
    assert "--gpu" in sentence(None, gains(OLD, gpu=True), LINUX)
    assert sentence(gpu, gains(NEW, gpu=True), LINUX).endswith("built here for NVIDIA's GPUs: /b/llama-server")
    assert "AVX-512" in sentence(None, gains(NEW), LINUX)
    assert sentence(None, gains(OLD), LINUX) == "llama.cpp of the package"
    assert sentence(None, gains(NEW), "Darwin arm64") == "llama.cpp of the package"
    built = Built(Path("/b/llama-server"), {"version": VERSION, "portable": False})
    assert sentence(built, gains(NEW, gpu=True), LINUX).endswith("`inhouse engine build --gpu` makes one that does not")
    assert sentence(built, gains(NEW), LINUX) == f"llama.cpp {VERSION}, built here for this CPU: /b/llama-server"


def test_the_time_left_follows_from_the_steps_done_since_it_was_begun() -> None:
    """What was compiled in an earlier run says nothing of the pace of this one."""
    now, shown = [0.0], list[str]()
    progress = BuildProgress(shown.append, lambda: now[0], kind="lines", every_s=5.0)
    progress("compiling", 100, 200)
    now[0] = 10.0
    progress("compiling", 120, 200)
    now[0] = 11.0
    progress("compiling", 121, 200)  # too soon to be shown
    progress("checking", 0, 0)
    assert shown == ["compiling 100 of 200", "compiling 120 of 200, 40 s left", "checking …"]
