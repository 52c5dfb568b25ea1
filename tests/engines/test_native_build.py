"""An engine is compiled for real: a project of a few lines stands in for llama.cpp, its program for llama-server.

pip, cmake, ninja and the compiler are real; pip's index is a folder with one sdist.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from inhouse.engines.cpu import Cpu
from inhouse.engines.devices import MIB
from inhouse.engines.hardware import look
from inhouse.engines.llamacpp import CHILD
from inhouse.engines.native import SOURCE, Recipe
from inhouse.engines.native_build import Job, build, unpack
from inhouse.engines.native_edits import digest
from inhouse.engines.native_here import Built, found, recipe_here
from inhouse.errors import EngineBuildError
from serving import Gateway, serving, started

DEMO = Path(str(files("inhouse.weights") / "demo.gguf"))
DEMO_STACK = "models: {demo: {source: demo}}"
CPU = Cpu("a plain one", 2, 2, ("AVX2",))
CMAKE = """cmake_minimum_required(VERSION 3.20)
project(stand_in C)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
add_executable(llama-server main.c)
target_compile_definitions(llama-server PRIVATE NUMBER="${LLAMA_BUILD_NUMBER}")
"""
# --version, or the engine in the package with the flags that are llama-server's alone left out
MAIN = """#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int n, char **given) {
    char *words[64] = {"%(python)s", "-P", "%(child)s"};
    int count = 3, line[2];
    if (n > 1 && !strcmp(given[1], "--version")) { puts("version: " NUMBER); return 0; }
    if (n > 1 && !strcmp(given[1], "--list-devices")) { puts("Available devices:\\n  %(sees)s"); return 0; }
    for (int i = 1; i < n && count < 60; i++) {
        if (!strcmp(given[i], "--no-ui")) continue;
        if (!strcmp(given[i], "--fit") || !strcmp(given[i], "--threads-http") || !strcmp(given[i], "--poll")
            || !strcmp(given[i], "--device")) {
            i++;
            continue;
        }
        words[count++] = given[i];
    }
    if (pipe(line) || dup2(line[0], 0)) return 1;
    %(before)s
    return execv(words[0], words);
}
"""
BACKEND = """
import os
def prepare_metadata_for_build_wheel(folder, settings=None):
    name = "xllamacpp-%(version)s.dist-info"
    os.mkdir(os.path.join(folder, name))
    with open(os.path.join(folder, name, "METADATA"), "w") as file:
        file.write("Metadata-Version: 2.1\\nName: xllamacpp\\nVersion: %(version)s\\n")
    return name
"""


def sdist(folder: Path, version: str, *, main: str | None = None, before: str = "", sees: str = "(none)") -> None:
    """What a package index would have."""
    names = {"python": sys.executable, "child": str(CHILD), "before": before, "sees": sees}
    texts = {
        "PKG-INFO": f"Metadata-Version: 2.1\nName: xllamacpp\nVersion: {version}\n",
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND % {"version": version},
        f"{SOURCE}/CMakeLists.txt": CMAKE,
        f"{SOURCE}/LICENSE": "MIT\n",
        f"{SOURCE}/main.c": MAIN % names if main is None else main,
    }
    folder.mkdir(exist_ok=True)
    with tarfile.open(folder / f"xllamacpp-{version}.tar.gz", "w:gz") as tar:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"xllamacpp-{version}/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def job_of(tmp_path: Path, recipe: Recipe, **more: int) -> Job:
    cache = tmp_path / "cache" / "inhouse" / "engines"
    return Job(recipe, CPU, "x86_64", cache, jobs=2, demo=DEMO, system_tools=True, **more)


_POOL = ("inhouse_memory_gpu_budget_bytes", "inhouse_memory_gpu_planned_bytes{")
CARD = "CUDA0: NVIDIA H100 80GB HBM3 (81089 MiB, 80563 MiB free)"


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with one of NVIDIA's GPUs and its toolkit, as far as their programs tell; the folder of these."""
    folder = tmp_path / "nvidia"
    folder.mkdir()
    told = "0, NVIDIA H100 80GB HBM3, GPU-1, 81559, 0, 580.159.04, 9.0"
    for name, does in (("nvidia-smi", f'case "$1" in --query*) echo "{told}";; esac'), ("nvcc", "exit 1")):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def built(tmp_path: Path, index: Path, **source: str) -> Built:
    recipe = recipe_here(look(with_gpus=False))
    sdist(index, recipe.version, **source)
    return build(job_of(tmp_path, recipe), lambda doing, done, total: None)


def ready(gateway: Gateway) -> dict[str, Any]:
    """The event of the replica that has become ready."""
    return next(event for event in gateway.events if event.get("state") == "ready")


def test_a_build_is_fetched_compiled_checked_and_then_serves(tmp_path: Path, index: Path) -> None:
    """From the sdist to an answer at the door; nothing but the engine and what is known of it stays behind."""
    heard: list[tuple[str, int, int]] = []
    recipe = recipe_here(look(with_gpus=False))
    sdist(index, recipe.version)
    job = job_of(tmp_path, recipe)
    assert found(job.cache, recipe) is None
    one = build(job, lambda *words: heard.append(words))
    assert [doing for doing, _, _ in dict.fromkeys((word, 0, 0) for word, _, _ in heard)] == [
        "fetching the source",
        "configuring",
        "compiling",
        "checking",
    ]
    assert ("compiling", 2, 2) in heard
    assert one.told["checked"]
    assert sorted(path.name for path in one.program.parent.iterdir()) == ["LICENSE", "build.json", "llama-server"]
    assert found(job.cache, recipe) == one
    assert [path.name for path in job.cache.iterdir() if path.is_dir()] == [recipe.folder]

    with serving(tmp_path, DEMO_STACK) as gateway:
        assert ready(gateway)["native"] is True
    with serving(tmp_path, "models: {demo: {source: demo, engine_build: package}}") as gateway:
        assert ready(gateway)["native"] is False


def test_a_build_with_cuda_serves_where_its_gpu_is(tmp_path: Path, index: Path, card: Path) -> None:
    """Made by the command, for the GPU that is here, and not found when that is gone."""
    sdist(index, recipe_here(look(with_gpus=False)).version, sees=CARD)
    command = [sys.executable, "-m", "inhouse", "engine", "build", "--gpu", "--system-tools", "--json"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    told = json.loads(said[-1])
    assert told["cuda"] == ["9.0"]
    assert {"-DGGML_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=90-real"} <= set(told["flags"])
    show = [sys.executable, "-m", "inhouse", "engine", "show"]
    assert "built here for NVIDIA's GPUs" in subprocess.run(show, capture_output=True, text=True, check=True).stdout
    with serving(tmp_path, DEMO_STACK) as gateway:
        assert ready(gateway)["gpu"] == "NVIDIA H100 80GB HBM3"
        with urllib.request.urlopen(gateway.url + "/metrics", timeout=10) as page:
            told = [line.split() for line in page.read().decode().splitlines()]
        budget, planned = (next(float(words[-1]) for words in told if words[0].startswith(name)) for name in _POOL)
        assert budget == 81089 * MIB - 81089 * MIB // 10
        assert 600 * MIB < planned < 700 * MIB
    with serving(tmp_path, "models: {demo: {source: demo, engine_build: package}}") as gateway:
        assert ready(gateway)["gpu"] == ""
    (card / "nvidia-smi").write_text("#!/bin/sh\nexit 9\n")
    assert "of the package" in subprocess.run(show, capture_output=True, text=True, check=True).stdout


def test_a_build_that_sees_no_gpu_is_not_taken_into_use(tmp_path: Path, index: Path, card: Path) -> None:
    """With CUDA it would compute on the CPU, and nobody would know why it is slow."""
    sdist(index, recipe_here(look(with_gpus=False)).version)
    command = [sys.executable, "-m", "inhouse", "engine", "build", "--gpu", "--system-tools"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "sees no GPU" in said.stderr


def test_a_build_with_other_changes_to_the_source_is_none(tmp_path: Path, index: Path) -> None:
    """What is changed in llama.cpp may differ in another version of this program, which then builds its own."""
    one = built(tmp_path, index)
    assert one.told["edits"] is None  # the stand-in has nothing to change
    facts = one.program.with_name("build.json")
    facts.write_text(json.dumps({**one.told, "edits": "of another version"}))
    cache = tmp_path / "cache" / "inhouse" / "engines"
    assert found(cache, recipe_here(look(with_gpus=False))) is None
    facts.write_text(json.dumps({**one.told, "edits": digest()}))
    assert found(cache, recipe_here(look(with_gpus=False))) is not None


def test_a_build_that_does_not_start_any_more_gives_way_to_the_package(tmp_path: Path, index: Path) -> None:
    """Requests are served, and the log says why not by the build."""
    one = built(tmp_path, index)
    one.program.write_text("#!/bin/sh\necho 'error: illegal instruction' >&2\nexit 132\n")
    with serving(tmp_path, DEMO_STACK) as gateway:
        why = [event["reason"] for event in gateway.events if event.get("state") == "restarting"]
        assert len(why) == 1
        assert "illegal instruction" in why[0]
        assert ready(gateway)["native"] is False


def test_a_model_that_wants_a_build_says_when_there_is_none(tmp_path: Path, index: Path) -> None:
    """`engine_build: native` is never quietly something else."""
    gateway = started(tmp_path, "models: {demo: {source: demo, engine_build: native}}")
    try:
        assert "inhouse engine build" in gateway.wait_for(event="replica", state="failed")["reason"]
    finally:
        gateway.stop()


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"main": "int main(void) { return nonsense; }\n"}, "nonsense"),
        ({"main": "int main(void) { return 0; }\n"}, "does not say that it is build"),
        ({"before": "return 3;"}, "did not start: .*exit status 3"),
    ],
    ids=["it does not compile", "another version", "it does not run"],
)
def test_what_is_not_right_is_not_taken_into_use(
    tmp_path: Path, index: Path, source: dict[str, str], words: str
) -> None:
    """The error says what was wrong, and nothing is found afterwards."""
    with pytest.raises(EngineBuildError, match=words):
        built(tmp_path, index, **source)
    assert found(tmp_path / "cache" / "inhouse" / "engines", recipe_here(look(with_gpus=False))) is None


def test_what_cannot_begin_says_why(tmp_path: Path, index: Path) -> None:
    """No source, and no room."""
    recipe = recipe_here(look(with_gpus=False))
    with pytest.raises(EngineBuildError, match="pip failed"):
        build(job_of(tmp_path, recipe), lambda *words: None)
    with pytest.raises(EngineBuildError, match="MiB are free"):
        build(job_of(tmp_path, recipe, space_bytes=1 << 60), lambda *words: None)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_a_build_that_is_ended_from_outside_leaves_no_compiler(
    tmp_path: Path, index: Path, how: signal.Signals
) -> None:
    """Nobody goes on compiling for a build that is gone."""
    interrupted(tmp_path, index, how)


def test_an_interrupted_build_goes_on_later(tmp_path: Path, index: Path) -> None:
    """Ctrl-C while it compiles: no compiler stays, and the source is not fetched again."""
    command, environ, words = interrupted(tmp_path, index, signal.SIGINT)
    assert "run the same command to go on" in words
    next(index.iterdir()).unlink()
    again = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=True)
    last = json.loads(again.stdout.splitlines()[-1])
    assert last["event"] == "built"
    assert Path(last["program"]).exists()
    told = subprocess.run(
        [sys.executable, "-m", "inhouse", "engine", "show", "--json"], capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout)["build"]["program"] == last["program"]


def interrupted(tmp_path: Path, index: Path, how: signal.Signals) -> tuple[list[str], dict[str, str], str]:
    """A build that got a signal while its compiler ran; the command and the environment to go on with, what it said."""
    sdist(index, recipe_here(look(with_gpus=False)).version)
    command = [sys.executable, "-m", "inhouse", "engine", "build", "--system-tools", "--json"]
    slow = tmp_path / "bin"
    slow.mkdir()
    for name in ("clang", "clang++"):  # before any gcc, whatever CPU this is
        (slow / name).write_text(
            '#!/bin/sh\nif test -e "$HOLD"; then case "$*" in *main.c*) echo $$ >"$HOLD"; exec sleep 60;; esac; fi\n'
            'exec gcc "$@"\n'
        )
        (slow / name).chmod(0o755)
    hold = tmp_path / "hold"
    hold.touch()
    environ = os.environ | {"PATH": f"{slow}:{os.environ['PATH']}", "HOLD": str(hold)}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        until(lambda: hold.read_text().endswith("\n"))
        compiler = int(hold.read_text())
        first.send_signal(how)
        _, words = first.communicate(timeout=30)
        assert first.returncode == (130 if how == signal.SIGINT else -how)
    until(lambda: not Path(f"/proc/{compiler}").exists())
    assert next((tmp_path / "cache" / "inhouse" / "engines").glob("work-*/source")).exists()
    hold.unlink()
    return command, environ, words.decode()


def until(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    """Looks often until it holds."""
    ends_s = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


def test_an_archive_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    """No file is written outside the folder, and links are left out."""
    archive = tmp_path / "bad.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        link = tarfile.TarInfo(f"x/{SOURCE}/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo(f"x/{SOURCE}/../../../../out"), io.BytesIO())
    with pytest.raises(ValueError, match="leads out"):
        unpack(archive, tmp_path / "here")
    assert not (tmp_path / "here").exists()
