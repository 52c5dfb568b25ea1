"""The ledger in a file: exact between processes, whoever dies; clear when it cannot be written."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from inhouse.errors import StateError
from inhouse.store import schema
from inhouse.store.ledger import Demand, Limits, Now, Refusal, Reservation, UsageFilter, UsageRow, Use
from inhouse.store.ledger_sqlite import SqliteLedger
from inhouse.store.moment import now
from inhouse.store.sqlite import FILE_NAME, SqliteStore

START = Now(wall_us=20_000 * 86_400_000_000, steady_us=1_000_000_000)
NOBODY = 65534

PREPARE = """
import pathlib, random, sys
from inhouse.store.ledger import Demand, Limits, Reservation
from inhouse.store.moment import now
from inhouse.store.ledger_sqlite import SqliteLedger
ledger = SqliteLedger(pathlib.Path(sys.argv[1]))
demands = (Demand("tenant:acme", Limits(tokens_per_month=5000)), Demand("key:k", Limits(money_per_month=10**9)))
"""
SPEND = """
print("ready", flush=True); sys.stdin.readline()
used, pick = 0, random.Random(int(sys.argv[2]))
while True:
    asked = pick.randint(1, 20)
    held = ledger.reserve(demands, asked, asked, now())
    if isinstance(held, Reservation):
        spent = pick.randint(1, asked)
        ledger.settle(held, spent, spent, now())
        used += spent
    elif asked == 1:
        break
ledger.close()
print(used)
"""
HOLD = """
first = ledger.reserve(demands, 300, 5, now())
second = ledger.reserve(demands, 200, 5, now())
ledger.settle(second, 50, 1, now())
print("holding", flush=True); sys.stdin.readline()
"""


def child(state_dir: Path, code: str, argument: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE + code, str(state_dir), argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def acme(**limits: int) -> tuple[Demand, ...]:
    return (Demand("tenant:acme", Limits(**limits)),)


@contextmanager
def unprivileged_folder() -> Iterator[Path]:
    """A folder of one's own, seen as a user whom permissions bind (root is bound by none)."""
    folder = Path(tempfile.mkdtemp())
    was_root = os.geteuid() == 0
    if was_root:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield folder
    finally:
        if was_root:
            os.seteuid(0)
        with suppress(OSError):
            folder.chmod(0o700)
        shutil.rmtree(folder)


def test_four_processes_together_spend_exactly_the_quota(tmp_path: Path) -> None:
    """Thousands of reservations at once: what they used is the quota to the token, and nothing stays held."""
    children = [child(tmp_path, SPEND, str(number)) for number in range(4)]
    for each in children:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in children:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    used = [int(each.communicate(timeout=60)[0]) for each in children]
    assert sum(used) == 5000
    assert max(used) < 5000, "several of them had a part in it"
    ledger = SqliteLedger(tmp_path)
    assert ledger.live("tenant:acme", now())["tokens_per_month"] == Use(used=5000, held=0)
    assert ledger.live("key:k", now())["money_per_month"] == Use(used=5000, held=0)
    assert ledger.sweep(now()) == 0
    ledger.close()


def test_what_a_killed_process_held_is_charged_in_full_by_the_next_sweep(tmp_path: Path) -> None:
    """Not while it lives, however long; at once when it is dead; and only once."""
    ledger = SqliteLedger(tmp_path)
    holder = child(tmp_path, HOLD)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holding\n"
    assert ledger.sweep(now()) == 0
    assert ledger.live("tenant:acme", now())["tokens_per_month"] == Use(used=50, held=300)
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert ledger.sweep(now()) == 1
    assert ledger.sweep(now()) == 0
    assert ledger.live("tenant:acme", now())["tokens_per_month"] == Use(used=350, held=0)
    assert ledger.live("tenant:acme", now())["concurrent_requests"] == Use(used=0, held=0)
    ledger.close()
    assert list((tmp_path / "owners").iterdir()) == [], "and no lock is left behind"


def test_a_lock_that_somebody_removed_is_made_again(tmp_path: Path) -> None:
    """What was held until then is charged, since its owner looked dead; what comes later is safe."""
    one, other, demands = SqliteLedger(tmp_path), SqliteLedger(tmp_path), acme(tokens_per_day=100)
    before = one.reserve(demands, 10, 0, START)
    for lock in (tmp_path / "owners").iterdir():
        lock.unlink()
    assert other.sweep(START) == 1
    assert one.sweep(START) == 0
    after = one.reserve(demands, 20, 0, START)
    assert other.sweep(START) == 0
    for held in (before, after):
        assert isinstance(held, Reservation)
        one.settle(held, 5, 0, START)
    assert one.live("tenant:acme", START)["tokens_per_day"] == Use(used=15, held=0)
    one.close()
    other.close()


def test_use_outlives_the_process(tmp_path: Path) -> None:
    demands = acme(tokens_per_day=10)
    ledger = SqliteLedger(tmp_path)
    held = ledger.reserve(demands, 10, 0, START)
    assert isinstance(held, Reservation)
    ledger.settle(held, 7, 0, START)
    ledger.close()
    ledger = SqliteLedger(tmp_path)
    assert isinstance(ledger.reserve(demands, 4, 0, START), Refusal)
    assert isinstance(ledger.reserve(demands, 3, 0, START), Reservation)
    ledger.close()


def test_two_ledgers_see_each_others_changes_at_once(tmp_path: Path) -> None:
    """What one remembers is forgotten when another has written."""
    one, other, demands = SqliteLedger(tmp_path), SqliteLedger(tmp_path), acme(concurrent_requests=1)
    for first, second in ((one, other), (other, one)) * 2:
        held = first.reserve(demands, 1, 0, START)
        assert isinstance(held, Reservation)
        assert isinstance(second.reserve(demands, 1, 0, START), Refusal)
        first.settle(held, 1, 0, START)
    one.close()
    other.close()


def test_a_store_of_keys_of_the_previous_version_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keys stay, and the ledger begins empty."""
    monkeypatch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
    monkeypatch.setattr(schema, "KNOWN_VERSION", 1)
    SqliteStore(tmp_path).close()
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute("INSERT INTO keys VALUES ('aaaaaaaaaa', zeroblob(32), 'n', 'default', '[]', 1.0, NULL, NULL)")
    database.commit()
    database.close()
    monkeypatch.undo()
    ledger = SqliteLedger(tmp_path)
    assert ledger.usage(UsageFilter()) == ()
    ledger.close()
    with SqliteStore(tmp_path) as store:
        assert [key.id for key in store.list()] == ["aaaaaaaaaa"]


def test_a_full_disk_refuses_and_changes_nothing(tmp_path: Path) -> None:
    """No reservation, no half of one; once there is room again the ledger goes on from where it was."""
    SqliteLedger(tmp_path).close()
    room = (tmp_path / FILE_NAME).stat().st_size
    ledger = SqliteLedger(tmp_path, bytes_max=room + 16 * 1024)
    ledger.sweep(START)
    reserved = []

    def fill() -> None:
        for number in range(100_000):
            demands = (Demand("tenant:acme", Limits()), Demand(f"key:{number:0200}", Limits(tokens_per_day=9)))
            reserved.append(ledger.reserve(demands, 1, 0, START))

    with pytest.raises(StateError, match=r"cannot grow.*free some space"):
        fill()
    assert ledger.live("tenant:acme", START)["tokens_per_day"] == Use(used=0, held=len(reserved))
    with pytest.raises(StateError, match="cannot grow"):
        ledger.count([UsageRow(1, "t" * 100, f"{number}", "m" * 4000) for number in range(50)])
    assert ledger.usage(UsageFilter()) == ()
    ledger.close()
    ledger = SqliteLedger(tmp_path)
    assert ledger.sweep(START) == len(reserved)
    assert ledger.live("tenant:acme", START)["tokens_per_day"] == Use(used=len(reserved), held=0)
    ledger.close()


def test_a_read_only_file_stops_the_start() -> None:
    """Reading goes on, as for `inhouse usage`; a gateway that sweeps first does not start."""
    with unprivileged_folder() as folder:
        SqliteLedger(folder).close()
        (folder / FILE_NAME).chmod(0o400)
        ledger = SqliteLedger(folder)
        assert ledger.usage(UsageFilter()) == ()
        with pytest.raises(StateError, match="is read-only"):
            ledger.sweep(START)
        with pytest.raises(StateError, match="is read-only"):
            ledger.reserve(acme(tokens_per_day=1), 1, 0, START)
        ledger.close()


def test_a_locked_file_is_told_after_the_wait(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path, busy_s=0.01)
    ledger.sweep(START)
    other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StateError, match="locked by another process"):
        ledger.reserve(acme(tokens_per_day=1), 1, 0, START)
    other.execute("ROLLBACK")
    other.close()
    assert isinstance(ledger.reserve(acme(tokens_per_day=1), 1, 0, START), Reservation)
    ledger.close()


def test_a_damaged_account_is_told(tmp_path: Path) -> None:
    """It is never taken for an empty one."""
    ledger = SqliteLedger(tmp_path)
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute("INSERT INTO ledger_accounts VALUES ('tenant:acme', X'93')")
    database.commit()
    database.close()
    with pytest.raises(StateError, match=r"'tenant:acme'.*is damaged.*backup"):
        ledger.reserve(acme(tokens_per_day=1), 1, 0, START)
    ledger.close()


def test_a_file_put_in_place_of_another_is_taken_up_by_the_next_sweep(tmp_path: Path) -> None:
    """After a restore under a running gateway, quotas are those of the restored file."""
    demands = acme(tokens_per_day=10)
    for name, tokens in (("live", 1), ("backup", 9)):
        ledger = SqliteLedger(tmp_path / name)
        held = ledger.reserve(demands, tokens, 0, START)
        assert isinstance(held, Reservation)
        ledger.settle(held, tokens, 0, START)
        ledger.close()
    ledger = SqliteLedger(tmp_path / "live")
    before = ledger.reserve(demands, 5, 0, START)
    assert isinstance(before, Reservation)
    os.replace(tmp_path / "backup" / FILE_NAME, tmp_path / "live" / FILE_NAME)
    for suffix in ("-wal", "-shm"):
        (tmp_path / "live" / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
    assert ledger.sweep(START) == 0
    ledger.settle(before, 5, 0, START)
    assert ledger.live("tenant:acme", START)["tokens_per_day"] == Use(used=9, held=0)
    assert isinstance(ledger.reserve(demands, 2, 0, START), Refusal)
    ledger.close()


def test_a_checkpoint_moves_the_log_into_the_file(tmp_path: Path) -> None:
    """From another connection, so that requests go on beside it."""
    ledger = SqliteLedger(tmp_path)
    held = ledger.reserve(acme(tokens_per_day=10), 3, 0, START)
    ledger.checkpoint()
    copy = sqlite3.connect(f"{(tmp_path / FILE_NAME).as_uri()}?immutable=1", uri=True)  # sees the file without its log
    assert copy.execute("SELECT count(*) FROM ledger_reservations").fetchone() == (1,)
    copy.close()
    assert isinstance(held, Reservation)
    ledger.settle(held, 3, 0, START)
    ledger.close()
