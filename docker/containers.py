"""The container tools of this machine, as `build`, `push` and `smoke` use them: docker, podman or buildah."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
IMAGES = ("gateway", "engine-cpu", "engine-cuda", "engine-transformers")
TOOLS = ("docker", "podman", "buildah")
MADE = PROJECT / "build" / "images"
"""Where what is told of images is written."""


def version() -> str:
    found = re.search(r'__version__ = "([^"]+)"', (PROJECT / "src/inhouse/__init__.py").read_text())
    assert found is not None
    return found[1]


def tool(wanted: str | None, needs: tuple[str, ...] = TOOLS) -> str:
    """The first that is there and works, or the one that is asked for. Ends the program where there is none."""
    for name in (wanted,) if wanted else needs:
        if name in needs and shutil.which(name) and (name != "docker" or quiet("docker", "info")):
            return name
    raise SystemExit(
        f"none of these is here and works: {wanted or ', '.join(needs)} (apt-get install buildah, or docker.io)"
    )


def name_of(image: str, registry: str, tag: str) -> str:
    """As manifests name it."""
    return f"{registry}/{image}:{tag}"


def is_there(by: str, name: str) -> bool:
    return quiet(by, "inspect", "--type", "image", name) if by != "docker" else quiet(by, "image", "inspect", name)


def quiet(*argv: str) -> bool:
    """Whether it ends well; what it says is nobody's concern."""
    return subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def said(*argv: str) -> str:
    return subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def run(*argv: str, **environ: str) -> None:
    """Ends the program with its exit status where that is not 0."""
    done = subprocess.run(argv, env=os.environ | environ, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
