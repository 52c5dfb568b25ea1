"""The folder of the engines' sockets, whichever way its process ends."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from inhouse.runtime_sockets import socket_folder

HOLDER = """
import sys
from inhouse.runtime_sockets import socket_folder
with socket_folder() as folder:
    (folder / "engine.sock").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files, with a name that is short enough to be used."""
    with tempfile.TemporaryDirectory(prefix="sockets-", dir="/tmp") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)


@pytest.fixture
def holder(base: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process, and its folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield process, Path(process.stdout.readline().strip())
        finally:
            process.kill()


def test_it_is_gone_afterwards(base: Path) -> None:
    with socket_folder() as folder:
        assert folder.parent == base
        assert folder.stat().st_mode & 0o77 == 0
    assert list(base.iterdir()) == []


def test_another_one_that_runs(holder: tuple[subprocess.Popen[str], Path]) -> None:
    _, theirs = holder
    with socket_folder() as folder:
        assert folder != theirs
        assert (theirs / "engine.sock").exists()


def test_another_one_that_was_killed(holder: tuple[subprocess.Popen[str], Path]) -> None:
    """What it left goes when the next one starts."""
    process, theirs = holder
    process.kill()
    process.wait()
    assert (theirs / "engine.sock").exists()
    with socket_folder() as folder:
        assert not theirs.exists()
        assert folder.exists()


def test_what_is_not_ours(base: Path) -> None:
    """Folders without our file, those of another machine, a link to a folder that has one, and a file that is a link:
    all stay."""
    name = f"in-use.{socket.gethostname()}"
    elsewhere = base / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / name).touch()
    (base / "inhouse-theirs").mkdir()
    (base / "inhouse-theirs" / f"{name}-2").touch()
    (base / "inhouse-other").mkdir()
    (base / "inhouse-link").symlink_to(elsewhere)
    (base / "inhouse-odd").mkdir()
    (base / "inhouse-odd" / name).symlink_to(elsewhere / name)
    (base / "inhouse-file").touch()
    before = sorted(base.rglob("*"))
    with socket_folder():
        pass
    assert sorted(base.rglob("*")) == before
