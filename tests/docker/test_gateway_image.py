"""The gateway's image, built and started where there is no registry and no container engine.

buildah builds it in a chroot, on a Debian that mmdebstrap made of packages. What starts it is `docker/smoke`, by chroot
into the image's tree: its user, its variables, a read-only root, no capabilities; network and processes are the host's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse import __version__
from inhouse.engines.engine import Spec
from inhouse.engines.http import Address
from inhouse.engines.llamacpp import argv
from services import free_port

PROJECT = Path(__file__).parents[2]
DOCKER = PROJECT / "docker"
NAME = f"inhouse/gateway:{__version__}"
MARK = "nobody-serves-here.invalid"
"""A word of pip's configuration, to look for afterwards."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables for a store of images of its own: in memory, where there is room for it."""
    needs = [name for name in ("buildah", "mmdebstrap", "unshare", "nsenter", "setpriv") if shutil.which(name) is None]
    if needs or os.geteuid() != 0:
        told = f"images are built by root with buildah and mmdebstrap; not here: {', '.join(needs) or 'root'}"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30
    folder = memory / f"inhouse-images-{os.getpid()}" if roomy else tmp_path / "images"
    folder.mkdir()
    config = folder / "storage.conf"
    config.write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n')
    yield os.environ | {"CONTAINERS_STORAGE_CONF": str(config), "TMPDIR": str(folder)}
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    """The engine of the package with the demo model, as a process beside the image."""
    port, demo = free_port(), PROJECT / "src/inhouse/weights/demo.gguf"
    command = argv(Spec("demo", demo, context_tokens=512, slots=2, threads=1), Address(host="127.0.0.1", port=port))
    with (tmp_path / "engine.log").open("wb") as log:
        process = subprocess.Popen(command.argv, stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.communicate(timeout=20)  # it ends with its standard input


def done(environ: dict[str, str], *command: str) -> str:
    """What it says; it must end well."""
    made = subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert made.returncode == 0, f"{command}: {made.stdout[-3000:]}{made.stderr[-3000:]}"
    return made.stdout


def test_the_image_is_built_and_serves_and_keeps_no_secret(store: dict[str, str], engine: str) -> None:
    """Its user, root, health, keys, answer and end are right, and nothing of the machine that built it is in it."""
    done(store, str(DOCKER / "base"), "--with", "buildah", "--keep", str(PROJECT / "build/tools/base.tar"))
    marked = store | {"PIP_TRUSTED_HOST": MARK}
    build = (sys.executable, str(DOCKER / "build"), "gateway", "--with", "buildah", "--offline")
    done(marked, *build)

    said = done(store, sys.executable, str(DOCKER / "smoke"), "gateway", "--with", "buildah", "--engine", engine)
    rows = [row for row in said.splitlines() if NAME in row]
    assert all(row.startswith("ok") for row in rows)
    assert any("answered, by llama.cpp" in row for row in rows)
    assert len(rows) == 10

    about = json.loads(done(store, "buildah", "inspect", "--type", "image", NAME))
    assert about["Docker"]["config"]["Healthcheck"]["Test"][0] == "CMD"
    labels = about["OCIv1"]["config"]["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.base.name"] == "docker.io/library/debian:13-slim"
    assert MARK not in json.dumps(about)

    box = done(store, "buildah", "from", "--pull-never", NAME).strip()
    tree = Path(done(store, "buildah", "mount", box).strip())
    found = [path for path in tree.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(found) > 1000
    assert [path for path in found if MARK.encode() in path.read_bytes()] == []
    names = {str(path.relative_to(tree)) for path in found}
    assert [name for name in names if re.search(r"(^|/)(pip|\.git|\.cache|\.env)(/|$)|pip\.conf|build-ca", name)] == []
    assert any(re.search(r"/inhouse/pipeline_straight\.\S+\.so$", name) for name in names), "compiled"
    assert not {"usr/bin/sh", "usr/bin/dash", "usr/bin/apt-get", "usr/bin/dpkg"} & names
    writable = [path for path in tree.rglob("*") if not path.is_symlink() and path.stat().st_uid != 0]
    assert {str(path.relative_to(tree)) for path in writable} == {"cache", "models", "var/lib/inhouse"}
    assert sum(path.stat().st_size for path in found) < 190e6
