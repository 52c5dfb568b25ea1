"""The versions of the SQLite schema. A new one is appended; one that was released is never edited.

Each version is a tuple of statements and runs in one transaction with the row that records it, so a store is always
exactly at one version, whenever the process may die.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

from inhouse.errors import StateError

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE keys (
            id         TEXT PRIMARY KEY NOT NULL,
            hash       BLOB NOT NULL CHECK (length(hash) = 32),
            note       TEXT NOT NULL,
            tenant     TEXT NOT NULL,
            roles      TEXT NOT NULL,
            created_at REAL NOT NULL,
            expires_at REAL,
            revoked_at REAL
        ) WITHOUT ROWID
        """,
    ),
    (
        "CREATE TABLE ledger_accounts (scope TEXT PRIMARY KEY NOT NULL, state BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE ledger_owners (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL)",
        """
        CREATE TABLE ledger_reservations (
            id     INTEGER PRIMARY KEY,
            scopes BLOB NOT NULL,
            day    INTEGER NOT NULL,
            tokens INTEGER NOT NULL,
            money  INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE usage (
            day               INTEGER NOT NULL,
            tenant            TEXT NOT NULL,
            key_id            TEXT NOT NULL,
            model             TEXT NOT NULL,
            requests          INTEGER NOT NULL,
            prompt_tokens     INTEGER NOT NULL,
            cached_tokens     INTEGER NOT NULL,
            completion_tokens INTEGER NOT NULL,
            money             INTEGER NOT NULL,
            PRIMARY KEY (day, tenant, key_id, model)
        ) WITHOUT ROWID
        """,
    ),
    (
        "ALTER TABLE keys ADD COLUMN models TEXT NOT NULL DEFAULT '[]'",
        "ALTER TABLE keys ADD COLUMN limits TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE keys ADD COLUMN rotated_at REAL",
        "ALTER TABLE keys ADD COLUMN old_hash BLOB CHECK (old_hash IS NULL OR length(old_hash) = 32)",
        "ALTER TABLE keys ADD COLUMN old_until REAL",
    ),
    (
        "CREATE TABLE key_changes (changes INTEGER NOT NULL)",
        "INSERT INTO key_changes VALUES (0)",
        "CREATE TRIGGER key_added AFTER INSERT ON keys BEGIN UPDATE key_changes SET changes = changes + 1; END",
        "CREATE TRIGGER key_changed AFTER UPDATE ON keys BEGIN UPDATE key_changes SET changes = changes + 1; END",
        "CREATE TRIGGER key_removed AFTER DELETE ON keys BEGIN UPDATE key_changes SET changes = changes + 1; END",
    ),
    (
        "ALTER TABLE ledger_reservations ADD COLUMN requests INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE ledger_reservations ADD COLUMN open INTEGER NOT NULL DEFAULT 1",
    ),
    (
        """
        CREATE TABLE route_states (
            route   TEXT PRIMARY KEY NOT NULL,
            version INTEGER NOT NULL,
            digest  TEXT NOT NULL,
            state   BLOB NOT NULL
        ) WITHOUT ROWID
        """,
    ),
)

KNOWN_VERSION = len(MIGRATIONS)


def is_current(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether nothing is left to do. Raises `StateError` where a newer inhouse wrote the store."""
    version = version_of(connection)
    if version > KNOWN_VERSION:
        raise StateError(
            f"the state file {path} has schema version {version}, this inhouse knows versions up to {KNOWN_VERSION}; "
            "use the newer inhouse that wrote it, or another folder with --state-dir"
        )
    return version == KNOWN_VERSION


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the store to the known version. The connection is in autocommit mode."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (version INTEGER PRIMARY KEY, applied_at REAL NOT NULL)"
        )
        if not is_current(connection, path):
            for version in range(version_of(connection) + 1, KNOWN_VERSION + 1):
                for statement in MIGRATIONS[version - 1]:
                    connection.execute(statement)
                connection.execute("INSERT INTO migrations VALUES (?, ?)", (version, time.time()))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def version_of(connection: sqlite3.Connection) -> int:
    """0 for an empty file."""
    there = connection.execute("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'migrations'").fetchone()
    if there is None:
        return 0
    return int(connection.execute("SELECT coalesce(max(version), 0) FROM migrations").fetchone()[0])
