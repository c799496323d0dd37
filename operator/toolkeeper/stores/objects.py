"""The objects of a state database: rows to resources and back, and the feed of what changed since a version."""

from __future__ import annotations

import json
import sqlite3
from typing import NamedTuple

from pydantic import ValidationError

from toolkeeper.errors import Invalid
from toolkeeper.reconcile.ports import Change, Problem, Resource
from toolkeeper.resources.kinds import KINDS
from toolkeeper.resources.meta import Key

TOMBSTONES = 1000
"""How many deletions the feed remembers; whoever was away longer lists again anyway."""


class Stored(NamedTuple):
    """One row. `version` and key say whether a decoded copy is still good."""

    key: Key
    version: int
    metadata: str
    spec: str
    status: str


def find(connection: sqlite3.Connection, key: Key) -> Resource | None:
    """The object, or None. Raises Invalid when this Toolkeeper cannot read its row."""
    row = connection.execute(
        "SELECT version, metadata, spec, status FROM objects WHERE (kind, namespace, name) = (?, ?, ?)", key
    ).fetchone()
    return None if row is None else decoded(Stored(key, *row))


def save(connection: sqlite3.Connection, resource: Resource, *, edited: bool) -> None:
    """Write the whole row. The resource carries its new version."""
    version = int(resource.metadata.resource_version)
    connection.execute(
        """INSERT INTO objects VALUES (?, ?, ?, ?, ?, ?, ?, ?)
           ON CONFLICT DO UPDATE SET version = excluded.version, metadata = excluded.metadata, spec = excluded.spec,
             status = excluded.status, edited = CASE WHEN ? THEN excluded.version ELSE edited END""",
        (
            *resource.key,
            version,
            version if edited else 0,
            resource.metadata.model_dump_json(by_alias=True, exclude_defaults=True),
            spec_json(resource),
            resource.status.model_dump_json(by_alias=True, exclude_defaults=True),
            edited,
        ),
    )


def forget(connection: sqlite3.Connection, key: Key, version: int) -> None:
    """Remove the row and leave a tombstone for the feed."""
    connection.execute("DELETE FROM objects WHERE (kind, namespace, name) = (?, ?, ?)", key)
    connection.execute("INSERT OR REPLACE INTO tombstones VALUES (?, ?, ?, ?)", (*key, version))
    connection.execute(
        """DELETE FROM tombstones
           WHERE version <= (SELECT version FROM tombstones ORDER BY version DESC LIMIT 1 OFFSET ?)""",
        (TOMBSTONES,),
    )


def newest(connection: sqlite3.Connection) -> int:
    """The version of the last write; 0 when there never was one."""
    return int(connection.execute("SELECT version FROM counter").fetchone()[0])


def use(connection: sqlite3.Connection, version: int) -> None:
    """Say that `version` is taken."""
    connection.execute("UPDATE counter SET version = ?", (version,))


def changes_since(connection: sqlite3.Connection, version: int) -> dict[int, Change]:
    """What was written after `version`, by version."""
    rows = connection.execute(
        """SELECT version, kind, namespace, name, edited > ?1 FROM objects WHERE version > ?1
           UNION ALL SELECT version, kind, namespace, name, 1 FROM tombstones WHERE version > ?1 ORDER BY 1""",
        (version,),
    )
    return {
        at: Change(Key(kind, namespace, name), edited=bool(edited))
        for at, kind, namespace, name, edited in rows
    }


def spec_json(resource: Resource) -> str:
    """The spec as its author wrote it."""
    return json.dumps(resource.spec.as_declared(), separators=(",", ":"), ensure_ascii=False)


def decoded(row: Stored) -> Resource:
    """The resource. A status that cannot be read counts as lost (it is observed again). Raises Invalid for the rest."""
    metadata = json.loads(row.metadata) | {"resourceVersion": str(row.version)}
    document = {"metadata": metadata, "spec": json.loads(row.spec), "status": json.loads(row.status)}
    model = KINDS.get(row.key.kind)
    if model is None:
        raise Invalid(
            f"{row.key} was stored by a newer Toolkeeper, and this one does not know its kind; upgrade"
        )
    try:
        return model.model_validate(document)
    except ValidationError:
        del document["status"]
    try:
        return model.model_validate(document)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        field = ".".join(str(each) for each in first["loc"])
        raise Invalid(
            f"{row.key} was stored by another version of Toolkeeper, and this one cannot read its {field}: "
            f"{first['msg']}; apply it again"
        ) from exc


class Decoder:
    """Reads all objects, decoding only those that changed since the last time."""

    def __init__(self) -> None:
        self._known: dict[Key, Resource] = {}
        self._incarnation = 0

    def all(
        self, connection: sqlite3.Connection, incarnation: int
    ) -> tuple[tuple[Resource, ...], tuple[Problem, ...]]:
        """Every object, sorted by key, and a problem for each that cannot be read.

        Another `incarnation` of the database may use the same versions for other contents: nothing is reused then.
        """
        if incarnation != self._incarnation:
            self._known, self._incarnation = {}, incarnation
        rows = connection.execute(
            "SELECT kind, namespace, name, version FROM objects ORDER BY kind, namespace, name"
        ).fetchall()
        known: dict[Key, Resource] = {}
        problems: list[Problem] = []
        for kind, namespace, name, version in rows:
            key = Key(kind, namespace, name)
            try:
                known[key] = self._decoded(connection, key, version)
            except Invalid as exc:
                problems.append(Problem(str(key), str(exc), key))
        self._known = known
        return tuple(known.values()), tuple(problems)

    def _decoded(self, connection: sqlite3.Connection, key: Key, version: int) -> Resource:
        known = self._known.get(key)
        if known is not None and known.metadata.resource_version == str(version):
            return known
        found = find(connection, key)
        assert found is not None, "the row was listed in the same transaction"
        return found
