"""NVIDIA's compiler for a build with CUDA: by pip, as everything else, or the one that the system has.

pip's packages have what a toolkit has, laid out a little differently: `of_packages` makes a toolkit of them that cmake
knows. The host's part of CUDA's code is compiled by g++ in both cases: nvcc takes no compiler with another C++ library.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inhouse.engines.gpus import Gpu, MigSlice
from inhouse.errors import EngineBuildError

TOOLS = (
    "nvidia-cuda-nvcc==13.0.*",
    "nvidia-nvvm==13.0.*",
    "nvidia-cuda-crt==13.0.*",
    "nvidia-cuda-runtime==13.0.*",
    "nvidia-cuda-cccl==13.0.*",
    "nvidia-cublas>=13.0,<13.2",
)
"""Packages on PyPI that are a toolkit together: the oldest CUDA 13, whose programs every driver for 13 runs."""
LIBRARIES = ("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13")
"""Of the packages: what the engine needs when it runs."""
SPACE_BYTES = 6 << 30
DRIVER = 580
"""The oldest driver for CUDA 13."""
CAPABILITY = (7, 5)
"""The oldest GPUs that CUDA 13 makes code for: Turing."""
GLIBC_NEW = (2, 42)
"""From here on its header of mathematics and CUDA 13.0's declare the same functions otherwise."""
_KEPT = r"(nvidia_cublas|nvidia_cuda_runtime)-(.+)\.dist-info"
_LINKS = ("libcudart.so", "libcublas.so", "libcublasLt.so")


@dataclass(frozen=True, slots=True)
class Toolkit:
    nvcc: str
    root: Path | None = None
    """Of the packages; None for the system's, which cmake finds by its compiler."""

    @property
    def flags(self) -> tuple[str, ...]:
        """For cmake."""
        flags = (f"-DCMAKE_CUDA_COMPILER={self.nvcc}", "-DCMAKE_CUDA_HOST_COMPILER=g++")
        return flags if self.root is None else (*flags, f"-DCUDAToolkit_ROOT={self.root}")

    @property
    def packages(self) -> tuple[str, ...]:
        """Whose libraries are kept beside the engine, as in `nvidia-cublas==13.1.2`."""
        if self.root is None:
            return ()
        found = (re.fullmatch(_KEPT, folder.name) for folder in sorted(self.root.parents[1].glob("*.dist-info")))
        return tuple(f"{match[1].replace('_', '-')}=={match[2]}" for match in found if match)

    @property
    def beside(self) -> tuple[Path, ...]:
        """To be kept beside the engine, with NVIDIA's licence; the system's libraries are found where they lie."""
        if self.root is None:
            return ()
        licences = sorted(self.root.parents[1].glob("nvidia_cublas-*.dist-info/**/License.txt"))
        return (*(self.root / "lib" / name for name in LIBRARIES), *licences[:1])


def usable(gpus: Iterable[Gpu]) -> tuple[Gpu, ...]:
    """Those that a build with CUDA could run on."""
    return tuple(gpu for gpu in gpus if gpu.vendor == "nvidia" and gpu.capability and not gpu.note)


def visible(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> tuple[Gpu, ...]:
    """Those that `CUDA_VISIBLE_DEVICES` leaves: by ids, also of slices, or by numbers, of which the newest has 0."""
    return tuple(gpu for gpu, _ in _left(gpus, environ))


def visible_bytes(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> list[int | None]:
    """Memory of each GPU that engines see: slices that `CUDA_VISIBLE_DEVICES` names count in place of their card.

    Where it is not set, or no GPU is NVIDIA's, each counts as a whole.
    """
    gpus = [gpu for gpu in gpus if not gpu.note]
    nvidia = [gpu for gpu in gpus if gpu.vendor == "nvidia"]
    if "CUDA_VISIBLE_DEVICES" not in environ or not nvidia:
        return [gpu.memory_bytes for gpu in gpus]
    found: list[int | None] = []
    for gpu, slices in _left(nvidia, environ):
        if slices:
            found += [gpu.memory_bytes if part.memory_bytes is None else part.memory_bytes for part in slices]
        else:
            found.append(gpu.memory_bytes)
    return found


def _left(gpus: Sequence[Gpu], environ: Mapping[str, str]) -> Iterator[tuple[Gpu, tuple[MigSlice, ...]]]:
    """Each GPU that is left, with those of its slices that are named."""
    told = environ.get("CUDA_VISIBLE_DEVICES")
    if told is None:
        yield from ((gpu, ()) for gpu in gpus)
        return
    ordered = list(gpus)
    if environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        ordered.sort(key=lambda gpu: _number(gpu.capability), reverse=True)
    names = tuple(name for part in told.split(",") if (name := part.strip()))
    for at, gpu in enumerate(ordered):
        slices = tuple(part for part in gpu.slices if part.id.startswith(names))
        if slices or str(at) in names or gpu.id.startswith(names):
            yield gpu, slices


def _number(capability: str) -> tuple[int, ...]:
    return tuple(int(part) for part in capability.split(".") if part)


def capabilities(gpus: Iterable[Gpu]) -> tuple[str, ...]:
    """Of all of them, each once."""
    return tuple(sorted({gpu.capability for gpu in gpus}))


def check_before(capabilities: Iterable[str], gpus: Iterable[Gpu]) -> None:
    """Raises EngineBuildError where what the packages make would not run."""
    way_out = "with a toolkit of your own on PATH, as old as they need it: `--system-tools`"
    if old := [word for word in capabilities if _number(word) < CAPABILITY]:
        raise EngineBuildError(
            f"CUDA 13 makes nothing for GPUs of compute capability {', '.join(old)}",
            hint=f"leave them out: CUDA_VISIBLE_DEVICES names the others, here and for the gateway; or build {way_out}",
        )
    for gpu in usable(gpus):
        major = gpu.driver.partition(".")[0]
        if major.isdecimal() and int(major) < DRIVER:
            raise EngineBuildError(
                f"the driver of {gpu.name} is {gpu.driver}: programs made with CUDA 13 need {DRIVER} or later",
                hint=f"update the driver; or build {way_out}",
            )
    library, version = platform.libc_ver()
    if library == "glibc" and _number(version) >= GLIBC_NEW:
        raise EngineBuildError(
            f"CUDA 13.0 of the package index does not know glibc {version}",
            hint=f"install a newer CUDA toolkit, and build {way_out.replace('old', 'new')}",
        )
    if shutil.which("g++") is None:
        raise EngineBuildError(
            "there is no g++ on PATH, which NVIDIA's compiler works with",
            hint="`apt-get install g++`, or `dnf install gcc-c++`; all else comes from the package index",
        )


def of_system(environ: Mapping[str, str]) -> Toolkit:
    """The one on PATH, or where the system says that it lies. Raises EngineBuildError."""
    homes = [environ.get("CUDA_HOME", ""), environ.get("CUDA_PATH", ""), "/usr/local/cuda"]
    nvcc = shutil.which("nvcc") or next(
        (str(file) for home in homes if home and os.access(file := Path(home, "bin", "nvcc"), os.X_OK)), None
    )
    if nvcc is None:
        raise EngineBuildError(
            "there is no nvcc on PATH, in CUDA_HOME or in /usr/local/cuda",
            hint="install the CUDA toolkit, or leave out `--system-tools`: then it comes from the package index",
        )
    return Toolkit(nvcc)


def root_of(tools: Path) -> Path:
    return tools / "nvidia" / "cu13"


def of_packages(tools: Path) -> Toolkit:
    """A toolkit of the packages that are installed in `tools`; as often as one likes."""
    root = root_of(tools)
    _link(root / "lib64", "lib")
    for name in _LINKS:
        library = next((root / "lib").glob(f"{name}.*"), None)
        if library is None:
            raise EngineBuildError(f"{root / 'lib'} has no {name}", hint="`--force` fetches the packages again")
        _link(root / "lib" / name, library.name)
    return Toolkit(str(root / "bin" / "nvcc"), root)


def stub_command(root: Path) -> tuple[str, ...]:
    """Makes what stands in for the driver's library while the engine is linked: its name is all that matters."""
    stub = root / "lib" / "stubs" / "libcuda.so"
    stub.parent.mkdir(exist_ok=True)
    return ("g++", "-shared", "-nostdlib", "-Wl,-soname,libcuda.so.1", "-o", str(stub), "-x", "c", os.devnull)


def _link(place: Path, target: str) -> None:
    if not place.is_symlink():
        place.symlink_to(target)
