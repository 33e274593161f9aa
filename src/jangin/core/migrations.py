"""Tables of the ledger, as numbered migrations.

They are applied in order and counted in `PRAGMA user_version`; one that was ever released is never
edited.
"""

MIGRATIONS = (
    """
    CREATE TABLE calls (
        request TEXT NOT NULL,
        source TEXT NOT NULL,
        model TEXT NOT NULL,
        asked INTEGER NOT NULL DEFAULT 0,
        reply TEXT,
        answered_at TEXT,
        PRIMARY KEY (request, source)
    );
    CREATE TABLE memos (
        namespace TEXT NOT NULL,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (namespace, key)
    );
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY,
        command TEXT NOT NULL,
        version TEXT NOT NULL,
        process INTEGER NOT NULL,
        started_at TEXT NOT NULL,
        ended_at TEXT,
        outcome TEXT
    );
    CREATE TABLE steps (
        run INTEGER NOT NULL REFERENCES runs (id),
        variant TEXT NOT NULL,
        stage TEXT NOT NULL,
        key TEXT NOT NULL,
        state TEXT NOT NULL,
        reasons TEXT NOT NULL,
        seconds REAL NOT NULL
    );
    """,
    """
    ALTER TABLE calls ADD COLUMN stage TEXT NOT NULL DEFAULT '';
    ALTER TABLE calls ADD COLUMN teacher TEXT NOT NULL DEFAULT '';
    ALTER TABLE calls ADD COLUMN prompt_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE calls ADD COLUMN completion_tokens INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE calls ADD COLUMN usd REAL;
    """,
    """
    CREATE TABLE uses (
        artifact TEXT NOT NULL,
        request TEXT NOT NULL,
        source TEXT NOT NULL,
        PRIMARY KEY (artifact, request, source)
    ) WITHOUT ROWID;
    """,
)
