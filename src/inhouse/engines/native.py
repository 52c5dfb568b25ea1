"""A llama-server compiled for the CPU and GPUs that are here: which compiler, which flags, where it lies. Pure.

What is done with a recipe: `native_build`. The source is the one in the sdist of `xllamacpp`, of the very version that
is installed, so that the build and the engine in the package are the same llama.cpp. A build is known by its version,
its flags and, unless it is portable, by the CPU; one with CUDA by the GPUs' compute capabilities too. One for another
CPU or GPU is never found, so a cache on a shared volume does no harm.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from inhouse.engines.cpu import Cpu
from inhouse.engines.native_edits import STATIC
from inhouse.errors import EngineBuildError

PROGRAM = "llama-server"
PACKAGE = "xllamacpp"
SOURCE = "thirdparty/llama.cpp"
"""Inside the sdist."""
TOOLS = ("cmake>=3.28", "ninja>=1.11", "ziglang>=0.13")
"""Packages on PyPI that are all it takes to compile."""
GLIBC = "2.28"
"""The oldest that a portable build runs on: Debian 10, RHEL 8, Ubuntu 20.04."""
MACHINES = ("x86_64", "aarch64")
"""Kinds of machines that a portable build can be made for, wherever it is made."""
SPACE_BYTES = 2 << 30
"""What tools, source and objects take while it is compiled, and some to spare."""

_COMMON = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_OPENMP=OFF",  # a run-time library that not every system has
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_COMMIT=sdist",
    "-DCMAKE_EXE_LINKER_FLAGS=-s",  # 12 MB in place of 149
)
_NATIVE = ("-DBUILD_SHARED_LIBS=OFF", "-DGGML_NATIVE=ON")
_PORTABLE = (
    "-DBUILD_SHARED_LIBS=ON",
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    f"-D{STATIC}=ON",
    "-DCMAKE_SHARED_LINKER_FLAGS=-s -Wl,-Bsymbolic",  # templates of one library must not stand in for another's
    "-DCMAKE_MODULE_LINKER_FLAGS=-s -Wl,-Bsymbolic",
    "-DCMAKE_BUILD_RPATH_USE_ORIGIN=ON",  # its libraries lie beside it wherever it is moved
)
_CUDA = (
    "-DGGML_CUDA=ON",
    "-DGGML_CUDA_NCCL=OFF",  # a library that not every system has
    # the driver's library is linked to by its name alone: nothing in the one that stands in for it looks needed
    "-DCMAKE_MODULE_LINKER_FLAGS=-s -Wl,-Bsymbolic -Wl,--no-as-needed",
)
_CAPABILITY = re.compile(r"[1-9]\d?\.\d")
_STEP = re.compile(rb"\[(\d+)/(\d+)\] ")
_FASTER = ("AMX", "AVX-512", "AVX-512 VNNI", "SVE", "int8 matrices", "AVX-VNNI")
"""Instructions that the engine in the package, made for AVX2 or plain NEON, leaves unused."""

GPU = "NVIDIA's GPU"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is compiled: the same recipe is the same program."""

    version: str
    """Of xllamacpp, whose last number is that of llama.cpp's build."""
    flags: tuple[str, ...]
    portable: bool
    key: str
    cuda: tuple[str, ...] = ()
    """Compute capabilities of the GPUs that it is for, as in `9.0`."""

    @property
    def folder(self) -> str:
        """Its name in the cache."""
        kind = "cuda" if self.cuda else "portable" if self.portable else "native"
        return f"llama.cpp-{self.version}-{kind}-{self.key}"

    @property
    def number(self) -> int:
        """Of llama.cpp's build, as in b11549."""
        return int(self.version.rpartition(".")[2])


def recipe(version: str, system: str, cpu: Cpu, *, portable: bool = False, cuda: Iterable[str] = ()) -> Recipe:
    """`system` as in `Linux x86_64`. Raises EngineBuildError where there is nothing to be had by compiling.

    `cuda`: compute capabilities of NVIDIA's GPUs, as in `9.0`. Such a build is a portable one besides: where its
    library does not find driver or GPU, llama.cpp goes on with the CPU.
    """
    if not system.startswith("Linux "):
        raise EngineBuildError(
            f"an engine is built on Linux only, this is {system}",
            hint="on macOS the one in the package uses the GPU already; name one of your own as `engine_binary`",
        )
    if not re.fullmatch(r"\d+(\.\d+)+", version):
        raise EngineBuildError(
            f"{PACKAGE} {version} has no number that says which llama.cpp it is",
            hint=f"install a released one: pip install '{PACKAGE}>=2026.10'",
        )
    number = version.rpartition(".")[2]
    capabilities = tuple(sorted(set(cuda), key=lambda word: [int(part) for part in _numbers(word)]))
    portable = portable or bool(capabilities)
    flags = (*_COMMON, f"-DLLAMA_BUILD_NUMBER={number}", *(_PORTABLE if portable else _NATIVE))
    if capabilities:
        flags += (*_CUDA, f"-DCMAKE_CUDA_ARCHITECTURES={';'.join(map(_architecture, capabilities))}")
    whose = (system,) if portable else (system, cpu.name, *cpu.features)
    key = hashlib.sha256("\0".join((version, *flags, *whose)).encode()).hexdigest()[:12]
    return Recipe(version, flags, portable, key, capabilities)


def _numbers(capability: str) -> list[str]:
    if not _CAPABILITY.fullmatch(capability):
        raise EngineBuildError(
            f"`{capability}` is no compute capability", hint="as in 8.6 or 9.0; `inhouse doctor hardware` shows it"
        )
    return capability.split(".")


def _architecture(capability: str) -> str:
    """Machine code for this GPU alone: its instructions are not translated at the start."""
    return f"{capability.replace('.', '')}-real"


def cache_folder(environ: Mapping[str, str], home: Path) -> Path:
    """Where builds lie: in `INHOUSE_CACHE`, else by XDG."""
    given = environ.get("INHOUSE_CACHE", "")
    if given:
        return Path(given).expanduser().absolute() / "engines"
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else home / ".cache") / "inhouse" / "engines"


@dataclass(frozen=True, slots=True)
class SystemTools:
    """What is on PATH; `gcc` is its version, as in (12, 2, 0)."""

    cmake: str | None
    ninja: str | None
    clang: str | None
    gcc: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Compiler:
    c: str
    cxx: str


def system_compiler(tools: SystemTools, cpu: Cpu) -> Compiler:
    """Of what the system has, one that compiles llama.cpp rightly. Raises EngineBuildError where there is none."""
    absent = [name for name, found in (("cmake", tools.cmake), ("ninja", tools.ninja)) if found is None]
    if absent:
        raise EngineBuildError(
            f"there is no {' and no '.join(absent)} on PATH",
            hint="install it, or leave out `--system-tools`: then all tools come from the package index",
        )
    if tools.clang is not None:
        return Compiler("clang", "clang++")
    if tools.gcc is None:
        raise EngineBuildError(
            "there is no clang and no gcc on PATH", hint="install one, or leave out `--system-tools`"
        )
    if "AMX" in cpu.features and miscompiles_amx(tools.gcc):
        raise EngineBuildError(
            f"gcc {'.'.join(map(str, tools.gcc))} compiles AMX wrongly: the engine would die at its first batch",
            hint="gcc 12.4, 13.3 and later are right, so is clang; or leave out `--system-tools`",
        )
    return Compiler("gcc", "g++")


def miscompiles_amx(gcc: tuple[int, ...]) -> bool:
    """`_tile_loadconfig` without its memory operand (llama.cpp 20824): mended in 12.4, 13.3 and 14."""
    return gcc < (12, 4) or (13,) <= gcc < (13, 3)


def version_numbers(text: str) -> tuple[int, ...] | None:
    """The first version in what a program says of itself, as in `12.2.0`."""
    found = re.search(r"(?<![\d.])(\d+(?:\.\d+)+)", text)
    return tuple(int(part) for part in found[1].split(".")) if found else None


def zig_wrapper(zig: Path, word: str, machine: str | None) -> str:
    """A script that is a compiler to cmake. `machine`: of a portable build its kind, as in `x86_64`.

    Without a target zig takes the CPU that is here for every file, which a portable build must not. Of Arm's variants
    it knows the names of its own alone, where gcc and clang say `-march=armv8.2-a+dotprod+fp16`.
    """
    compiles = word in ("cc", "c++")
    target = f" -target {machine}-linux-gnu.{GLIBC}" if machine is not None and compiles else ""
    renamed = _ARM_VARIANTS if compiles and machine == "aarch64" else ""
    return f'#!/bin/sh\n{renamed}exec {shlex.quote(str(zig))} {word}{target} "$@"\n'


_ARM_VARIANTS = """for word do
  shift
  case $word in -march=armv*)
    word=-mcpu=generic+v$(printf %s "${word#-march=armv}" | sed 's/\\./_/; s/-a/a/; s/+fp16/+fullfp16/');;
  esac
  set -- "$@" "$word"
done
"""


def foreign_flags(machine: str, here: str) -> tuple[str, ...]:
    """What cmake is told besides where the machine that it is for, as `uname -m` has it, is of another kind."""
    return () if machine == here else ("-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={machine}")


def emulated(emulator: Path, machine: str, program: Path) -> str:
    """A script that runs a program of another kind of machine, with the libraries of Debian's cross compilers."""
    words = (str(emulator), "-L", f"/usr/{machine}-linux-gnu", str(program))
    return f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'


def steps(data: bytes) -> tuple[int, int] | None:
    """The last `[n/m]` of what ninja wrote."""
    found = _STEP.findall(data)
    return (int(found[-1][0]), int(found[-1][1])) if found else None


def gains(cpu: Cpu, *, gpu: bool = False) -> tuple[str, ...]:
    """What of this machine only a build for it would use; `gpu`: whether NVIDIA's driver is here."""
    return (*([GPU] if gpu else []), *(name for name in _FASTER if name in cpu.features))


def command(gains: tuple[str, ...]) -> str:
    """That builds the engine which would bring these."""
    return "inhouse engine build --gpu" if GPU in gains else "inhouse engine build"
