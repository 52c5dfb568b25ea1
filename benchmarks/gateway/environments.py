"""Peers that come from PyPI: each in a virtual environment of its own, made only when that is asked for."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from benchmarks.rig.errors import FailedError, SkippedError
from benchmarks.rig.machine import python
from benchmarks.rig.processes import clean_env

REQUIREMENTS = {
    "vllm-router": ("vllm-router==0.1.17",),
    "fastapi": ("fastapi==0.165.0", "httpx==0.28.1", "uvicorn==0.54.0", "uvloop==0.23.0", "httptools==0.9.0"),
    "transformers": ("torch==2.13.0", "transformers[serving]==5.24.0", "accelerate==1.15.0"),
    "llama-cpp-python": ("llama-cpp-python[server]==0.3.36",),
    "litellm": ("litellm[proxy]==1.108.7",),
}
_INSTALL_S_MAX = 3600.0  # one of them is compiled
_MARK = "installed.txt"


def install(peers: Iterable[str], cache: Path) -> None:
    """Makes what is not there yet, in these versions. Raises FailedError with the installer's last words."""
    for peer in peers:
        if peer not in REQUIREMENTS or _is_there(peer, cache):
            continue
        print(f"installing {', '.join(REQUIREMENTS[peer])} into {cache / peer}", flush=True)
        cache.mkdir(parents=True, exist_ok=True)
        _do([python(), "-m", "venv", "--clear", str(cache / peer)])
        _do([str(cache / peer / "bin/python"), "-m", "pip", "install", "--quiet", *REQUIREMENTS[peer]])
        (cache / peer / _MARK).write_text(_wanted(peer))


def program(peer: str, name: str, cache: Path) -> str:
    """A program of a peer's environment. Raises SkippedError where that was not made, or for other versions."""
    if not _is_there(peer, cache):
        raise SkippedError(
            f"{peer} is not installed in {cache} ({', '.join(REQUIREMENTS[peer])}); --install-peers does that"
        )
    return str(cache / peer / "bin" / name)


def _is_there(peer: str, cache: Path) -> bool:
    mark = cache / peer / _MARK
    return mark.is_file() and mark.read_text() == _wanted(peer)


def _wanted(peer: str) -> str:
    return "\n".join(REQUIREMENTS[peer]) + "\n"


def _do(command: list[str]) -> None:
    done = subprocess.run(command, env=clean_env(), capture_output=True, text=True, timeout=_INSTALL_S_MAX, check=False)
    if done.returncode:
        raise FailedError(f"{' '.join(command[:4])} failed: {(done.stderr or done.stdout).strip()[-600:]}")
