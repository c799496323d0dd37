"""The tables of the state database, as steps from one schema version to the next. Steps are added, never edited."""

from __future__ import annotations

APPLICATION_ID = 0x746B7072
"""`tkpr`: marks the file as ours, so that somebody else's database is never migrated."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        # `version` counts every write to the database's objects; an object carries the version of its last write.
        "CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 0), version INTEGER NOT NULL) STRICT",
        "INSERT INTO counter VALUES (0, 0)",
        """CREATE TABLE objects (
            kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
            version INTEGER NOT NULL,
            edited INTEGER NOT NULL,      -- version of the last write that a person caused
            metadata TEXT NOT NULL, spec TEXT NOT NULL, status TEXT NOT NULL,  -- JSON
            PRIMARY KEY (kind, namespace, name)
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX objects_by_version ON objects (version)",
        """CREATE TABLE tombstones (
            kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL,
            PRIMARY KEY (kind, namespace, name)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE events (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL,
            type TEXT NOT NULL, reason TEXT NOT NULL, message TEXT NOT NULL,
            count INTEGER NOT NULL, first_at TEXT NOT NULL, last_at TEXT NOT NULL
        ) STRICT""",
        "CREATE INDEX events_by_object ON events (kind, namespace, name)",
        """CREATE TABLE actions (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            at TEXT NOT NULL, actor TEXT NOT NULL,
            kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
            action TEXT NOT NULL, because TEXT NOT NULL, outcome TEXT NOT NULL
        ) STRICT""",
        "CREATE TABLE source (id INTEGER PRIMARY KEY CHECK (id = 0), root TEXT NOT NULL) STRICT",
        # What the manifests of a directory said when each could last be read.
        """CREATE TABLE files (
            path TEXT PRIMARY KEY, secrets TEXT NOT NULL  -- JSON: names of the Secrets in it, never their values
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE declared (
            kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL,
            path TEXT NOT NULL, hash TEXT NOT NULL,       -- of the spec
            metadata TEXT NOT NULL, spec TEXT NOT NULL,   -- JSON
            PRIMARY KEY (kind, namespace, name)
        ) STRICT, WITHOUT ROWID""",
        """CREATE TABLE overrides (
            kind TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, verb TEXT NOT NULL,
            value TEXT NOT NULL, hash TEXT NOT NULL,      -- of the spec that it is valid for
            at TEXT NOT NULL, actor TEXT NOT NULL,
            PRIMARY KEY (kind, namespace, name, verb)
        ) STRICT, WITHOUT ROWID""",
    ),
    # Of what a folder was a copy when each declaration became what it is: a Git commit.
    ("ALTER TABLE declared ADD COLUMN revision TEXT NOT NULL DEFAULT ''",),
)
