"""The store on one machine: private, migrated, shared between processes, and clear when it cannot be used."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from inhouse.errors import StateError
from inhouse.store.contract import Key
from inhouse.store.ledger import UsageRow
from inhouse.store.ledger_sqlite import SqliteLedger
from inhouse.store.moment import now
from inhouse.store.schema import KNOWN_VERSION, MIGRATIONS
from inhouse.store.sqlite import FILE_NAME, SqliteStore

NOBODY = 65534


def key(key_id: str = "aaaaaaaaaa", *, note: str = "", created_at: float = 1.0, expires_at: float | None = None) -> Key:
    return Key(key_id, b"h" * 32, note, "default", frozenset({"admin", "auditor"}), created_at, expires_at)


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


def test_folder_and_files_are_for_the_owner_only(tmp_path: Path) -> None:
    """A new folder has mode 0700 and every file in it 0600, also those that SQLite makes, whatever the umask."""
    before = os.umask(0o000)
    try:
        with SqliteStore(tmp_path / "deep" / "state") as store:
            store.add(key())
            files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "deep" / "state").iterdir()}
    finally:
        os.umask(before)
    assert (tmp_path / "deep" / "state").stat().st_mode & 0o777 == 0o700
    assert {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm"} <= files.keys()
    assert set(files.values()) == {0o600}


def test_a_file_that_others_could_read_is_made_private(tmp_path: Path) -> None:
    """Opening a store whose file was left readable for others takes that away."""
    SqliteStore(tmp_path).close()
    (tmp_path / FILE_NAME).chmod(0o644)
    SqliteStore(tmp_path).close()
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600


def test_an_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    """A folder that the person named themselves, perhaps a shared volume, is not closed to others."""
    tmp_path.chmod(0o755)
    SqliteStore(tmp_path).close()
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_an_empty_store_of_version_0_is_migrated_once(tmp_path: Path) -> None:
    """Opening brings the schema to the known version; opening again changes nothing."""
    sqlite3.connect(tmp_path / FILE_NAME).close()
    for _ in range(2):
        SqliteStore(tmp_path).close()
    database = sqlite3.connect(tmp_path / FILE_NAME)
    versions = [(version,) for version in range(1, KNOWN_VERSION + 1)]
    assert database.execute("SELECT version FROM migrations").fetchall() == versions
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


def test_a_newer_schema_is_refused_and_untouched(tmp_path: Path) -> None:
    """An older inhouse does not guess at a store that a newer one wrote."""
    SqliteStore(tmp_path).close()
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute("INSERT INTO migrations VALUES (999, 0)")
    database.commit()
    database.close()
    with pytest.raises(StateError, match=rf"version 999.*up to {KNOWN_VERSION}.*newer inhouse"):
        SqliteStore(tmp_path)


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version is there whole or not at all."""
    from inhouse.store import schema

    SqliteStore(tmp_path).close()
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE half (x)", "NOT SQL")))
    monkeypatch.setattr(schema, "KNOWN_VERSION", KNOWN_VERSION + 1)
    with pytest.raises(StateError):
        SqliteStore(tmp_path)
    monkeypatch.undo()
    SqliteStore(tmp_path).close()
    database = sqlite3.connect(tmp_path / FILE_NAME)
    assert database.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'half'").fetchone() == (0,)
    database.close()


def test_a_path_that_is_a_file_is_named(tmp_path: Path) -> None:
    """A state folder that is a file, or lies in one, is told with the path and the way out."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StateError, match=rf"{path}.*folder.*--state-dir"):
            SqliteStore(path)


def test_a_database_name_that_is_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StateError, match=r"not a file"):
        SqliteStore(tmp_path)


def test_a_corrupt_file_is_told_and_kept(tmp_path: Path) -> None:
    """Garbage in place of the database is reported with its path; it is never overwritten."""
    garbage = b"this is no database" * 500
    (tmp_path / FILE_NAME).write_bytes(garbage)
    with pytest.raises(StateError, match=rf"{FILE_NAME} is not a database; restore"):
        SqliteStore(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == garbage


def test_damaged_pages_are_told(tmp_path: Path) -> None:
    """Damage behind an intact header comes out as a StateError when it is read."""
    with SqliteStore(tmp_path) as store:
        for number in range(20):
            store.add(key(f"aaaaaaa{number:03}", note="x" * 4000))
    raw = bytearray((tmp_path / FILE_NAME).read_bytes())
    raw[8192:] = b"\xff" * (len(raw) - 8192)
    (tmp_path / FILE_NAME).write_bytes(raw)
    with pytest.raises(StateError, match="damaged"), SqliteStore(tmp_path) as store:
        store.list()


def test_a_folder_without_permission_is_told() -> None:
    """A folder in which this user may not write stops the start with the path."""
    with unprivileged_folder() as folder:
        folder.chmod(0o500)
        with pytest.raises(StateError, match=rf"{folder}.*no permission.*--state-dir"):
            SqliteStore(folder)


def test_a_read_only_file_refuses_writes_clearly() -> None:
    """A key cannot be added to, nor revoked in, a file that this user may only read; both say so."""
    with unprivileged_folder() as folder:
        with SqliteStore(folder) as store:
            store.add(key())
        (folder / FILE_NAME).chmod(0o400)
        with SqliteStore(folder) as store:
            with pytest.raises(StateError, match="is read-only; make file and folder writable"):
                store.add(key("bbbbbbbbbb"))
            with pytest.raises(StateError, match="is read-only"):
                store.revoke("aaaaaaaaaa", at=2.0)


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    """When the file cannot grow the key is refused, with the room that is left, and earlier keys stay readable."""
    with SqliteStore(tmp_path, bytes_max=48 * 1024) as store:
        added = itertools.count()

        def add_for_ever() -> None:
            while True:
                store.add(key(f"{next(added):010}", note="x" * 200))

        with pytest.raises(StateError, match=rf"{FILE_NAME} cannot grow.*MiB free there.*free some space"):
            add_for_ever()
        assert len(store.list()) == next(added) - 1 > 0


def test_a_locked_file_is_told_after_the_wait(tmp_path: Path) -> None:
    """A write that another process blocks ends with an error after the busy time, not never."""
    with SqliteStore(tmp_path, busy_s=0.01) as store:
        other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match="locked by another process"):
            store.add(key())
        other.execute("ROLLBACK")
        other.close()
        store.add(key())


def test_a_damaged_record_is_told(tmp_path: Path) -> None:
    """A row that does not parse names the key and how to be rid of it; revoking it is still possible."""
    with SqliteStore(tmp_path) as store:
        store.add(key())
        other = sqlite3.connect(tmp_path / FILE_NAME)
        other.execute("UPDATE keys SET roles = 'not json'")
        other.commit()
        other.close()
        with pytest.raises(StateError, match=r"'aaaaaaaaaa'.*damaged"):
            store.by_id("aaaaaaaaaa")
        with pytest.raises(StateError, match="damaged"):
            store.revoke("aaaaaaaaaa", at=2.0)
        other = sqlite3.connect(tmp_path / FILE_NAME)
        assert other.execute("SELECT revoked_at FROM keys").fetchall() == [(2.0,)]
        other.close()


def test_keys_from_before_rights_keep_what_they_could_do(tmp_path: Path) -> None:
    """A store of version 2 is migrated with its keys: all models, no limits, never rotated."""
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute("CREATE TABLE migrations (version INTEGER PRIMARY KEY, applied_at REAL NOT NULL)")
    for version in (1, 2):
        for statement in MIGRATIONS[version - 1]:
            database.execute(statement)
        database.execute("INSERT INTO migrations VALUES (?, 0)", (version,))
    roles = '["admin", "auditor"]'
    database.execute("INSERT INTO keys VALUES ('aaaaaaaaaa', ?, '', 'default', ?, 1.0, NULL, NULL)", (b"h" * 32, roles))
    database.commit()
    database.close()
    with SqliteStore(tmp_path) as store:
        assert store.list() == (key(),)


def test_what_is_used_does_not_count_as_a_change_of_a_key(tmp_path: Path) -> None:
    """A gateway under load writes its ledger all the time and need not prove every key again for it."""
    with SqliteStore(tmp_path) as store:
        store.add(key())
        before = store.version()
        ledger = SqliteLedger(tmp_path)
        ledger.sweep(now())
        ledger.count([UsageRow(1, "acme", "aaaaaaaaaa", "chat", 1)])
        ledger.close()
        assert store.version() == before
        store.revoke("aaaaaaaaaa", at=1.0)
        revoked = store.version()
        assert revoked != before
        store.revoke("aaaaaaaaaa", at=2.0)
        assert store.version() == revoked


def test_whoever_changes_a_key_is_noticed(tmp_path: Path) -> None:
    """Also a person with a database tool: every way to write a row moves the version."""
    with SqliteStore(tmp_path) as store:
        seen = {store.version()}
        other = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
        for statement in (
            "INSERT INTO keys (id, hash, note, tenant, roles, created_at) VALUES ('a', zeroblob(32), '', 't', '[]', 1)",
            "UPDATE keys SET revoked_at = 5",
            "DELETE FROM keys",
        ):
            other.execute(statement)
            assert store.version() not in seen
            seen.add(store.version())
        other.close()


def test_a_file_put_in_place_of_another_is_noticed(tmp_path: Path) -> None:
    """After a restore under a running process, `version` moves and reads come from the new file."""
    for name, key_id in (("live", "aaaaaaaaaa"), ("backup", "bbbbbbbbbb")):
        with SqliteStore(tmp_path / name) as store:
            store.add(key(key_id))
    with SqliteStore(tmp_path / "live") as store:
        before = store.version()
        os.replace(tmp_path / "backup" / FILE_NAME, tmp_path / "live" / FILE_NAME)
        for suffix in ("-wal", "-shm"):
            (tmp_path / "live" / f"{FILE_NAME}{suffix}").unlink(missing_ok=True)
        assert store.version() != before
        assert [known.id for known in store.list()] == ["bbbbbbbbbb"]


def test_a_file_that_was_removed_is_told(tmp_path: Path) -> None:
    with SqliteStore(tmp_path) as store:
        (tmp_path / FILE_NAME).unlink()
        with pytest.raises(StateError, match="is gone"):
            store.version()


def test_threads_share_one_store(tmp_path: Path) -> None:
    """Writes of several threads through one store are all kept."""
    with SqliteStore(tmp_path) as store:
        threads = [
            threading.Thread(target=lambda letter=letter: [store.add(key(letter * 9 + digit)) for digit in "234567"])
            for letter in "abcd"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.list()) == 24


def test_processes_that_open_a_new_store_at_once_all_succeed(tmp_path: Path) -> None:
    """Making and migrating the file is done by one; the others wait for it."""
    script = (
        "import sys, pathlib\n"
        "from inhouse.store.sqlite import SqliteStore\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "SqliteStore(pathlib.Path(sys.argv[1])).close()\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path / "state")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(6)
    ]
    for child in children:
        assert child.stdout
        child.stdout.readline()
    for child in children:
        assert child.stdin
        child.stdin.write(b"go\n")
        child.stdin.flush()
    assert [child.communicate(timeout=30) and child.returncode for child in children] == [0] * 6
