"""The versions of the schema in PostgreSQL. A new one is appended; one that was released is never edited.

Any number of gateways may start at once: one of them makes or migrates the schema, in one transaction under an advisory
lock, and the others wait for it. All names begin with `inhouse_`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inhouse.errors import StateError

if TYPE_CHECKING:
    import psycopg

CHANNEL = "inhouse_keys"
"""Told (NOTIFY) at the end of each transaction that changed a key."""
_LOCK = 0x696E686F757365  # "inhouse"

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """
        CREATE TABLE inhouse_keys (
            id         TEXT COLLATE "C" PRIMARY KEY,
            hash       BYTEA NOT NULL CHECK (length(hash) = 32),
            note       TEXT NOT NULL,
            tenant     TEXT NOT NULL,
            roles      TEXT NOT NULL,
            created_at DOUBLE PRECISION NOT NULL,
            expires_at DOUBLE PRECISION,
            revoked_at DOUBLE PRECISION,
            models     TEXT NOT NULL,
            limits     TEXT NOT NULL,
            rotated_at DOUBLE PRECISION,
            old_hash   BYTEA CHECK (old_hash IS NULL OR length(old_hash) = 32),
            old_until  DOUBLE PRECISION
        )
        """,
        "CREATE TABLE inhouse_key_changes (changes BIGINT NOT NULL)",
        "INSERT INTO inhouse_key_changes VALUES (0)",
        """
        CREATE FUNCTION inhouse_key_changed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE inhouse_key_changes SET changes = changes + 1;
            NOTIFY inhouse_keys;
            RETURN NULL;
        END $$
        """,
        """
        CREATE TRIGGER inhouse_key_changed AFTER INSERT OR UPDATE OR DELETE ON inhouse_keys
        FOR EACH ROW EXECUTE FUNCTION inhouse_key_changed()
        """,
        'CREATE TABLE inhouse_accounts (scope TEXT COLLATE "C" PRIMARY KEY, state BYTEA NOT NULL)',
        """
        CREATE TABLE inhouse_leases (
            scope    TEXT COLLATE "C" NOT NULL,
            id       TEXT COLLATE "C" NOT NULL,
            until_us BIGINT NOT NULL,
            record   BYTEA NOT NULL,
            PRIMARY KEY (scope, id)
        )
        """,
        "CREATE INDEX inhouse_leases_until ON inhouse_leases (scope, until_us)",
        """
        CREATE TABLE inhouse_usage (
            day               INTEGER NOT NULL,
            tenant            TEXT COLLATE "C" NOT NULL,
            key_id            TEXT COLLATE "C" NOT NULL,
            model             TEXT COLLATE "C" NOT NULL,
            requests          BIGINT NOT NULL,
            prompt_tokens     BIGINT NOT NULL,
            cached_tokens     BIGINT NOT NULL,
            completion_tokens BIGINT NOT NULL,
            money             BIGINT NOT NULL,
            PRIMARY KEY (day, tenant, key_id, model)
        )
        """,
        """
        CREATE TABLE inhouse_usage_writers (
            writer TEXT PRIMARY KEY, batch BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL DEFAULT now()
        )
        """,
        """
        CREATE TABLE inhouse_routes (
            route TEXT COLLATE "C" PRIMARY KEY, version BIGINT NOT NULL, digest TEXT NOT NULL, state BYTEA NOT NULL
        )
        """,
        "CREATE TABLE inhouse_audit (seq BIGINT PRIMARY KEY, day INTEGER NOT NULL, line BYTEA NOT NULL)",
        """
        CREATE TABLE inhouse_audit_head (
            seq        BIGINT NOT NULL,
            hash       TEXT NOT NULL,
            after_seq  BIGINT NOT NULL,
            after_hash TEXT NOT NULL,
            day        INTEGER NOT NULL
        )
        """,
        "INSERT INTO inhouse_audit_head VALUES (0, repeat('0', 64), 0, repeat('0', 64), 0)",
    ),
    (
        """
        CREATE TABLE inhouse_files (
            id         TEXT COLLATE "C" PRIMARY KEY,
            tenant     TEXT NOT NULL,
            key_id     TEXT NOT NULL,
            filename   TEXT NOT NULL,
            purpose    TEXT NOT NULL,
            bytes      BIGINT NOT NULL,
            created_us BIGINT NOT NULL,
            expires_at BIGINT
        )
        """,
        "CREATE INDEX inhouse_files_of_tenants ON inhouse_files (tenant, created_us)",
        """
        CREATE TABLE inhouse_batches (
            id         TEXT COLLATE "C" PRIMARY KEY,
            tenant     TEXT NOT NULL,
            caller     BYTEA NOT NULL,
            state      BYTEA NOT NULL,
            status     TEXT NOT NULL,
            created_us BIGINT NOT NULL,
            ended_at   BIGINT,
            owner      TEXT NOT NULL DEFAULT '',
            lease_s    DOUBLE PRECISION NOT NULL DEFAULT 0
        )
        """,
        "CREATE INDEX inhouse_batches_of_tenants ON inhouse_batches (tenant, created_us)",
        """
        CREATE TABLE inhouse_batch_results (
            batch  TEXT COLLATE "C" NOT NULL,
            line   BIGINT NOT NULL,
            good   BIGINT NOT NULL,
            result BYTEA NOT NULL,
            PRIMARY KEY (batch, line)
        )
        """,
    ),
    (  # who watches reads only the keys that were changed since
        "ALTER TABLE inhouse_keys ADD COLUMN change BIGINT NOT NULL DEFAULT 0",
        "CREATE INDEX inhouse_keys_change ON inhouse_keys (change)",
        "ALTER TABLE inhouse_key_changes ADD COLUMN removals BIGINT NOT NULL DEFAULT 0",
        """
        CREATE FUNCTION inhouse_key_changing() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE inhouse_key_changes SET changes = changes + 1 RETURNING changes INTO NEW.change;
            NOTIFY inhouse_keys;
            RETURN NEW;
        END $$
        """,
        """
        CREATE FUNCTION inhouse_key_removed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE inhouse_key_changes SET changes = changes + 1, removals = removals + 1;
            NOTIFY inhouse_keys;
            RETURN NULL;
        END $$
        """,
        "DROP TRIGGER inhouse_key_changed ON inhouse_keys",
        """
        CREATE TRIGGER inhouse_key_changing BEFORE INSERT OR UPDATE ON inhouse_keys
        FOR EACH ROW EXECUTE FUNCTION inhouse_key_changing()
        """,
        """
        CREATE TRIGGER inhouse_key_removed AFTER DELETE ON inhouse_keys
        FOR EACH ROW EXECUTE FUNCTION inhouse_key_removed()
        """,
        "DROP FUNCTION inhouse_key_changed",
    ),
)
KNOWN_VERSION = len(MIGRATIONS)


def migrate(connection: psycopg.Connection[Any]) -> int:
    """Brings the schema to the known version; which it had. Raises `StateError` where a newer inhouse wrote it."""
    if version_of(connection) == KNOWN_VERSION:
        return KNOWN_VERSION
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        connection.execute(
            "CREATE TABLE IF NOT EXISTS inhouse_migrations "
            "(version INTEGER PRIMARY KEY, applied_at TIMESTAMPTZ NOT NULL)"
        )
        version = version_of(connection)
        if version > KNOWN_VERSION:
            raise StateError(
                f"the schema in PostgreSQL has version {version}, this inhouse knows versions up to {KNOWN_VERSION}; "
                "use the newer inhouse that made it, or another database"
            )
        for number in range(version + 1, KNOWN_VERSION + 1):
            for statement in MIGRATIONS[number - 1]:
                connection.execute(statement)
            connection.execute("INSERT INTO inhouse_migrations VALUES (%s, now())", (number,))
    return version


def version_of(connection: psycopg.Connection[Any]) -> int:
    """0 for an empty database."""
    row = connection.execute("SELECT to_regclass('inhouse_migrations')").fetchone()
    if row is None or row[0] is None:
        return 0
    found = connection.execute("SELECT coalesce(max(version), 0) FROM inhouse_migrations").fetchone()
    return 0 if found is None else int(found[0])
