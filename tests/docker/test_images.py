"""What the images are made of, beside what manifests and engines count on in them."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from inhouse import __version__
from inhouse.cli.commands import app_of
from inhouse.config.environment import RESERVED
from inhouse.deploy.inventory import Inventory, Object
from inhouse.deploy.site import (
    CONFIG_FOLDER,
    ENGINE_PORT,
    HEALTH_PORT,
    HTTP_PORT,
    MODELS_FOLDER,
    STATE_FOLDER,
    TLS_FOLDER,
    USER,
)
from inhouse.deploy.text import bare
from inhouse.deploy.tree import base
from inhouse.engines.native import PROGRAM
from inhouse.engines.table import ENGINES
from rendered import STACKS, site

PROJECT = Path(__file__).parents[2]
DOCKER = PROJECT / "docker"
_TEXT = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
STAGES = {
    name: (parent, text)
    for parent, name, text in re.findall(r"(?ms)^FROM (?:--platform=\S+ )?(\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", _TEXT)
}
"""What each stage is made from, and its lines."""
COMMANDS: Any = typer.main.get_command(app_of())
IMAGES = ("gateway", "engine-cpu", "engine-cuda", "engine-transformers")


def lines(stage: str) -> str:
    """Of a stage, after those of what it is made from."""
    parent, text = STAGES[stage]
    return (lines(parent) if parent in STAGES else "") + text


def value(stage: str, instruction: str) -> str:
    """The last one that counts."""
    found = re.findall(rf"(?m)^{instruction} +(.*?) *$", lines(stage))
    assert found, f"{stage} has no {instruction}"
    return str(found[-1])


@functools.cache
def containers() -> tuple[Object, ...]:
    """Of all stacks on file, those that run an image of ours; each with the security of its pod."""
    found = []
    for name in STACKS:
        objects = [bare(one) for _, several in base(site(name)) for one in several]
        for pod in Inventory(objects).pods:
            ours = (one for one in pod.containers if one["image"].startswith("inhouse/"))
            found.extend(one | {"pod": pod.spec["securityContext"]} for one in ours)
    return tuple(found)


def test_the_images_of_manifests_are_those_that_are_built() -> None:
    """Every image of ours in a manifest or a row of an engine has a stage and the tag of this version."""
    named = {one["image"] for one in containers()} | {
        engine.image.name for engine in ENGINES.values() if engine.image and engine.image.name.startswith("inhouse/")
    }
    assert named == {f"inhouse/{image}:{__version__}" for image in IMAGES if image != "engine-cuda"}
    assert set(IMAGES) <= set(STAGES)


@pytest.mark.parametrize("image", IMAGES)
def test_nobody_with_rights_runs(image: str) -> None:
    """The user is the number that manifests ask for: `runAsNonRoot` cannot tell who a name is."""
    assert value(image, "USER") == f"{USER}:{USER}"
    assert {one["pod"]["runAsUser"] for one in containers()} == {USER}


@pytest.mark.parametrize("image", IMAGES)
def test_the_last_layers_come_from_nothing(image: str) -> None:
    """No shell, no package manager: each is copied into an empty image, and nothing runs there."""
    stage = image
    while stage in STAGES:
        assert "RUN" not in STAGES[stage][1]
        stage = STAGES[stage][0]
    assert stage == "scratch"


def test_ports_and_paths_are_those_of_manifests() -> None:
    """What is mounted, called and probed by manifests is what images say and have."""
    for image in IMAGES:
        assert (
            f'CMD ["python", "-IS", "/app/healthy", "{ENGINE_PORT if image != "gateway" else HTTP_PORT}/health'
            in lines(image)
        )
    assert value("base", "EXPOSE") == f"{HTTP_PORT} {HEALTH_PORT}"
    assert value("engine-cpu", "EXPOSE") == str(ENGINE_PORT)
    assert value("gateway", "WORKDIR") == CONFIG_FOLDER
    assert f"INHOUSE_STATE_DIR={STATE_FOLDER}" in lines("gateway")
    made = (DOCKER / "parts" / "rootfs").read_text()
    assert f"user={USER}" in made
    for place in (STATE_FOLDER, MODELS_FOLDER, "/cache", CONFIG_FOLDER):
        assert f'"$root{place}"' in made
    mounts = {mount["mountPath"] for one in containers() for mount in one["volumeMounts"]}
    assert mounts <= {STATE_FOLDER, MODELS_FOLDER, "/cache", CONFIG_FOLDER, "/tmp", "/dev/shm", TLS_FOLDER}


def test_commands_of_manifests_are_there() -> None:
    """llama-server lies where its row says; a container without a command of its own calls inhouse."""
    llama, transformers = ENGINES["llamacpp"].image, ENGINES["transformers"].image
    assert llama is not None
    assert transformers is not None
    for image in ("engine-cpu", "engine-cuda"):
        told = image.replace("engine", "told")
        assert f"COPY --from={told} /engine /\n" in lines(image)
        assert f"ln -s llama.cpp/{PROGRAM} /engine{llama.program[0]} " in lines(told)
        assert "INHOUSE_ENGINE_FOLDER=/app/llama.cpp" in lines(image)
    assert "INHOUSE_ENGINE_FOLDER" in RESERVED
    assert value("base", "ENTRYPOINT") == '["inhouse"]'
    for one in containers():
        assert one.get("command", ["inhouse"])[0] in ("inhouse", *llama.program, *transformers.program)
        if "command" not in one:
            assert one["args"][0] in COMMANDS.commands


def test_the_context_has_the_source_and_nothing_else() -> None:
    """What is not named stays out: state, keys, virtual environments, the repository itself."""
    rows = [row for row in (PROJECT / ".dockerignore").read_text().splitlines() if row and not row.startswith("#")]
    assert rows[0] == "*"
    copied = {word for text in lines("app").splitlines() if text.startswith("COPY") for word in text.split()[1:-1]}
    taken = {row.removeprefix("!") for row in rows if row.startswith("!")}
    assert {word.removesuffix("/rootfs") for word in copied} == taken


def printed(*args: str, **environ: str) -> str:
    """The commands that `docker/build` would run."""
    done = subprocess.run(
        [sys.executable, str(DOCKER / "build"), "--print", *args],
        capture_output=True,
        text=True,
        env=os.environ | environ,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_where_pip_looks_is_no_argument_of_a_build() -> None:
    """Arguments stay in an image's history: an index with its password goes by a secret file."""
    said = printed("gateway", PIP_INDEX_URL="https://somebody:hush@index.example/simple", PIP_CERT=__file__)
    assert "hush" not in said
    assert "index.example" not in said
    assert "--secret id=pip,src=" in said
    assert f"--secret id=ca,src={__file__}" in said


def test_what_is_asked_of_a_build_is_said_to_the_tool() -> None:
    """Pinned bases, platforms, names; the same commit has the same times."""
    said = printed(
        *("gateway", "--registry", "r.example/x", "--tag", "9", "--base", "debian:13-slim@sha256:00"),
        *("--platform", "linux/arm64", "--with", "buildah", "--offline"),
        SOURCE_DATE_EPOCH="1790000000",
    )
    for part in (
        "--build-arg BASE=debian:13-slim@sha256:00",
        "--platform linux/arm64",
        "--pull-never",
        "--format docker",
        "--timestamp 1790000000",
        "CREATED=2026-09-21T14:13:20Z",
        "--tag r.example/x/gateway:9",
        "--target gateway",
    ):
        assert part in said
    assert printed().count("--target") == 3


def test_several_platforms_are_pushed_as_they_are_built() -> None:
    """With podman and buildah under one manifest."""
    said = printed("gateway", "--platform", "linux/amd64,linux/arm64", "--with", "podman")
    assert f"--manifest inhouse/gateway:{__version__}" in said


def test_a_push_names_what_it_does() -> None:
    """An image built under another name is named anew first."""
    args = ["gateway", "--from", "inhouse", "--registry", "r.example/x", "--tag", "9", "--print", "--with", "docker"]
    done = subprocess.run([sys.executable, str(DOCKER / "push"), *args], capture_output=True, text=True)
    assert done.stdout == "docker tag inhouse/gateway:9 r.example/x/gateway:9\ndocker push r.example/x/gateway:9\n"


@pytest.fixture
def parts(tmp_path: Path) -> tuple[Path, Path]:
    """A root and an application as the build leaves them."""
    root, app = tmp_path / "root", tmp_path / "app"
    known = root / "var/lib/dpkg/status.d"
    known.mkdir(parents=True)
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/os-release").write_text('ID=debian\nVERSION_ID="13"\n')
    (known / "libc6").write_text(
        "Package: libc6\nVersion: 2.41-12+deb13u1\nArchitecture: amd64\nDescription: C\n more\n"
    )
    packages = app / "venv/lib/python3.13/site-packages"
    for name, told in (
        ("uvloop", "Name: uvloop\nVersion: 0.23.0\nLicense-Expression: MIT AND Apache-2.0\n\nText: no field\n"),
        ("typing_x", "Name: Typing_X\nVersion: 1\nLicense: PSF\n"),
    ):
        (packages / f"{name}-1.dist-info").mkdir(parents=True)
        (packages / f"{name}-1.dist-info" / "METADATA").write_text(told)
    (app / "llama.cpp").mkdir()
    (app / "llama.cpp/build.json").write_text('{"version": "2026.10.11549", "packages": ["nvidia-cublas==13.1.2.11"]}')
    return root, app


def bill(root: Path, app: Path, epoch: str = "1790000000") -> str:
    done = subprocess.run(
        [
            sys.executable,
            str(DOCKER / "parts" / "sbom"),
            "--name",
            "engine-cpu",
            "--version",
            "1.0",
            str(root),
            str(app),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"SOURCE_DATE_EPOCH": epoch},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_bill_of_materials_names_every_part(parts: tuple[Path, Path]) -> None:
    """Packages of Debian and Python and the engine, by addresses that scanners know, in the form that CycloneDX has."""
    text = bill(*parts)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    told: dict[str, Any] = json.loads(text)
    assert [one["purl"] for one in told["components"]] == [
        "pkg:deb/debian/libc6@2.41-12%2Bdeb13u1?arch=amd64&distro=debian-13",
        "pkg:github/ggml-org/llama.cpp@b11549",
        "pkg:pypi/nvidia-cublas@13.1.2.11",
        "pkg:pypi/typing-x@1",
        "pkg:pypi/uvloop@0.23.0",
    ]
    assert told["components"][4]["licenses"] == [{"expression": "MIT AND Apache-2.0"}]
    assert told["metadata"]["timestamp"] == "2026-09-21T14:13:20Z"


def test_the_same_parts_make_the_same_bill(parts: tuple[Path, Path]) -> None:
    """Its number changes with what is in it, and with nothing else."""
    first = bill(*parts)
    assert bill(*parts) == first
    (parts[1] / "llama.cpp/build.json").unlink()
    assert json.loads(bill(*parts))["serialNumber"] != json.loads(first)["serialNumber"]


def test_a_health_check_looks_at_every_address_that_is_named() -> None:
    """One that answers 200 is enough; an error, or nothing, is not."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 503)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]

    def status(*where: str) -> int:
        return subprocess.run([sys.executable, "-IS", str(DOCKER / "parts" / "healthy"), *where]).returncode

    assert status(f"{port}/health") == 0
    assert status("1/health", f"{port}/health") == 0
    assert status(f"{port}/other") == 1
    server.shutdown()
    server.server_close()
    assert status(f"{port}/health") == 1
