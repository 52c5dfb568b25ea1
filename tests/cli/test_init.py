"""`inhouse init`: what it writes works as it is, and nothing of anybody's is lost."""

from __future__ import annotations

import os
import pty
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inhouse.config import load
from inhouse.deploy.profiles import PROFILES, text

STACKS = Path(__file__).parents[1] / "deploy" / "stacks"


@pytest.mark.parametrize("profile", PROFILES)
def test_the_stacks_on_file_are_what_init_writes(profile: str) -> None:
    """So whatever the trees are tested for holds for a first file. Else: make golden"""
    assert (STACKS / f"init-{profile}.yaml").read_text() == text(profile)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_is_written_checked_and_rendered(profile: str, inhouse: Any, tmp_path: Path) -> None:
    """Through the commands, as the printed next step says."""
    file = tmp_path / "inhouse.yaml"
    done = inhouse("init", profile, "--out", str(file))
    assert (done.returncode, done.stdout) == (0, f"wrote {file}\n")
    assert ("inhouse serve" if profile == "laptop" else "inhouse render") in done.stderr
    assert file.read_text() == text(profile)
    assert stat.S_IMODE(file.stat().st_mode) & 0o600 == 0o600
    assert list(tmp_path.iterdir()) == [file]
    done = inhouse("config", "check", "-c", str(file))
    assert done.returncode == 0
    assert "does not read" not in done.stdout
    done = inhouse("render", "--check", "-c", str(file))
    assert (done.returncode, done.stdout) == (0, "ok: nothing found that would not work\n")


def test_a_model_and_a_host_are_written_as_given(inhouse: Any, tmp_path: Path) -> None:
    """And everything else is the profile's."""
    file = tmp_path / "inhouse.yaml"
    done = inhouse("init", "gpu-team", "--model", "hf://org/repo@v1", "--host", "ai.example.org", "--out", str(file))
    assert done.returncode == 0, done.stderr
    stack = load(file, environ={}, flags={})
    assert stack.models["chat"].source == "hf://org/repo@v1"
    assert stack.deploy.traffic.host == "ai.example.org"


def test_a_file_that_is_there_stays(inhouse: Any, tmp_path: Path) -> None:
    """Unless --force says otherwise."""
    file = tmp_path / "inhouse.yaml"
    file.write_text("mine")
    done = inhouse("init", "laptop", "--out", str(file))
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert file.read_text() == "mine"
    assert inhouse("init", "laptop", "--out", str(file), "--force").returncode == 0
    assert file.read_text() == text("laptop")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "laptop, free-tier, gpu-team"),
        (["gpu-taem"], "did you mean `gpu-team`?"),
        (["laptop", "--host", "a.example.org"], "no door of its own"),
        (["free-tier", "--model", "hf://org/repo"], "names no file"),
        (["gpu-team", "--model", "./model.gguf"], "no pod can read"),
        (["laptop", "--model", "a: b"], "not a source"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_written(
    arguments: list[str], words: str, inhouse: Any, tmp_path: Path
) -> None:
    """A script is asked nothing; a model that the profile cannot have is refused before there is a file."""
    done = inhouse("init", *arguments, "--out", str(tmp_path / "inhouse.yaml"))
    assert done.returncode == 2
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_it_asks_for_what_was_not_given(environment: dict[str, str], tmp_path: Path) -> None:
    """The profile, asked again after a slip, the model, the name; an empty line takes what is offered."""
    ours, theirs = pty.openpty()
    file = tmp_path / "inhouse.yaml"
    child = subprocess.Popen(
        [sys.executable, "-m", "inhouse", "init", "--out", str(file)],
        stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, b"gpu-tem\ngpu-team\n\nchat.example.org\n")
    said = b""
    try:
        while piece := os.read(ours, 4096):
            said += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert child.wait(timeout=20) == 0, said
    assert b"did you mean `gpu-team`?" in said
    assert file.read_text() == text("gpu-team", host="chat.example.org")
