"""A disk that is full, and one that may only be read: refused with a reason, never passed over in silence.

That the disk is full is brought about by a limit on the size of files (RLIMIT_FSIZE) of the running gateway: from then
on every write of its fails, and it can be taken back.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.gateway.keys_at_the_door import ask, made, seconds_until

from inhouse.store.sqlite import FILE_NAME, SqliteStore
from serving import KEY, Gateway, serving

STACK = """
tenants: {acme: {limits: {tokens_per_day: 100000}}}
"""
_PR_CAPBSET_DROP = 24
_CAPABILITIES = (1, 2)
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: with them root is bound by no permission."""


@contextmanager
def full_disk(gateway: Gateway) -> Iterator[None]:
    """The gateway can write no byte to any file."""
    pid = gateway.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


def bound_by_permissions() -> None:
    """In the child, before it becomes another program."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None)
        for capability in _CAPABILITIES:
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def run(state_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("INHOUSE_")}
    return subprocess.run(
        [sys.executable, "-m", "inhouse", *words, "--state-dir", str(state_dir)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env=environ,
        cwd=state_dir.parent,
        preexec_fn=bound_by_permissions,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("disk")


@pytest.fixture(scope="module")
def door(folder: Path) -> Iterator[Gateway]:
    with serving(folder, STACK) as running:
        yield running


def test_a_disk_that_fills_up_refuses_what_cannot_be_counted(door: Gateway, folder: Path) -> None:
    """Who has limits is told 503 with a time to come back, the log says why, and afterwards all goes on.

    Who has none is answered; what was used meanwhile is counted once it can be written.
    """
    limited, free = made(folder, "--tenant", "acme")["key"], made(folder, "--tenant", "free")["key"]
    boss = made(folder, "--role", "admin")["key"]
    assert [ask(door, key)[0] for key in (limited, free)] == [200, 200]
    used = sum_of_requests(door, boss, wanted=2)
    with full_disk(door):
        status, told = ask(door, limited)
        assert (status, told["error"]["code"]) == (503, "state_unavailable")
        assert "limits cannot be checked now" in told["error"]["message"]
        assert str(folder) not in told["error"]["message"]
        assert ask(door, free)[0] == 200
        status, told = ask(door, boss, "/admin/keys", {"note": "one more"})
        assert (status, told["error"]["code"]) == (503, "state_unavailable")
        assert str(folder) not in told["error"]["message"]
        seconds_until(lambda: any('"event":"state folder"' in line for line in door.log))
    reasons = [line for line in door.log if '"event":"state folder"' in line]
    assert all(FILE_NAME in line for line in reasons)
    assert len(reasons) < 6, "a fault that lasts is told once in a while, not for every request"
    assert ask(door, limited)[0] == 200
    assert ask(door, boss, "/admin/keys", {"note": "one more"})[0] == 200
    assert sum_of_requests(door, boss, wanted=used + 2) == used + 2


def sum_of_requests(door: Gateway, boss: str, *, wanted: int) -> int:
    """Of the two tenants, once there are as many as that."""

    def counted() -> int:
        rows = ask(door, boss, "/admin/usage?by=tenant", None)[1]["usage"]
        return sum(row["requests"] for row in rows if row["tenant"] in ("acme", "free"))

    seconds_until(lambda: counted() >= wanted)
    return counted()


def test_a_key_cannot_be_revoked_on_a_full_disk_in_silence(door: Gateway, folder: Path) -> None:
    """The answer says that nothing was changed, and it is so: the key opens until the revocation is written."""
    key, boss = made(folder), made(folder, "--role", "admin")["key"]
    assert ask(door, boss, "/v1/models", None)[0] == 200
    with full_disk(door):
        status, told = ask(door, boss, f"/admin/keys/{key['id']}", None, "DELETE")
        assert status == 503
        assert "nothing was changed" in told["error"]["message"]
        assert ask(door, key["key"], "/v1/models", None)[0] == 200
    assert ask(door, boss, f"/admin/keys/{key['id']}", None, "DELETE")[0] == 200
    assert ask(door, key["key"], "/v1/models", None)[0] == 401
    assert ask(door, KEY, "/v1/models", None)[0] == 200


@pytest.mark.parametrize("words", [("serve", "--port", "0"), ("keys", "create"), ("tenants", "list")])
def test_a_folder_that_may_not_be_written(tmp_path: Path, words: tuple[str, ...]) -> None:
    """A gateway does not start there and no key is made; the message names the folder and the way out."""
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    state_dir.chmod(0o500)
    done = run(state_dir, *words)
    assert done.returncode == 1
    assert f"error: the state at {state_dir}" in done.stderr
    assert "no permission; choose another folder with --state-dir" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("keys", "create"), ("keys", "revoke")])
def test_a_file_that_may_only_be_read(tmp_path: Path, command: tuple[str, ...]) -> None:
    """A gateway that could count nothing does not start; a key is neither made nor revoked, and that is said."""
    state_dir = tmp_path / "state"
    made_before = run(state_dir, "keys", "create").stdout.strip()
    (state_dir / FILE_NAME).chmod(0o400)
    done = run(state_dir, *command, *([made_before] if command[-1] == "revoke" else []))
    assert done.returncode == 1
    assert f"error: the state file {state_dir / FILE_NAME} is read-only; make file and folder writable" in done.stderr
    assert "Traceback" not in done.stderr
    (state_dir / FILE_NAME).chmod(0o600)
    with SqliteStore(state_dir) as store:
        (key,) = store.list()
    assert key.revoked_at is None
