"""Taking over what a folder declares: its last good content, and from it the objects, in one transaction."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from toolkeeper.errors import Invalid, NotFound
from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.events import Event
from toolkeeper.resources.meta import Key
from toolkeeper.stores import journal, objects, overrides
from toolkeeper.stores.judgement import Judgement, Past, Rules, judge
from toolkeeper.stores.manifests import Reading
from toolkeeper.stores.writer import Writer


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of it."""

    judgement: Judgement
    waiting: bool
    """An object of the same name is still being deleted; what is declared comes after it."""
    lost_secrets: frozenset[tuple[str, str]]
    """Secrets that a broken file declared, and whose values nobody has."""


class _Row(NamedTuple):
    path: str
    hash: str
    metadata: str


class Declared(NamedTuple):
    """Where the last good declaration of an object is."""

    path: str
    """Of the file, in the folder."""
    revision: str
    """What the folder was a copy of when the declaration became what it is; empty when it is no copy."""


def take(writer: Writer, reading: Reading, rules: Rules, place: str, revision: str = "") -> Taken:
    """Judge the reading against what is remembered, and bring objects and memory to what follows from it.

    `place` is the folder's absolute path: memory of another folder is not turned against this one. `revision` is
    remembered with what changed.
    """
    connection = writer.connection
    rows = _rows(connection)
    files = _files(connection)
    source = connection.execute("SELECT root FROM source").fetchone()
    elsewhere = "" if source is None or source[0] == place else str(source[0])
    past = Past({key: row.path for key, row in rows.items()}, files.keys(), elsewhere)
    judgement = judge(reading, past, rules)
    for key in judgement.gone:
        _withdraw(writer, key)
    waiting = _declare(writer, judgement, rows, revision)
    if revision:
        _tell_of_doubts(writer, reading, rows, revision)
    _remember_files(connection, reading, judgement, files)
    if source is None or (elsewhere and not judgement.held):
        connection.execute("INSERT OR REPLACE INTO source VALUES (0, ?)", (place,))
    return Taken(judgement, waiting, _lost_secrets(reading, files))


def find(connection: sqlite3.Connection, key: Key) -> Resource:
    """The last good declaration of the object. Raises NotFound."""
    row = connection.execute(
        "SELECT metadata, spec FROM declared WHERE (kind, namespace, name) = (?, ?, ?)", key
    ).fetchone()
    if row is None:
        raise NotFound(f"{key} is declared in no file")
    return objects.decoded(objects.Stored(key, 0, row[0], row[1], "{}"))


def where(connection: sqlite3.Connection, key: Key) -> Declared | None:
    """Where the object is declared; None when nothing declares it."""
    row = connection.execute(
        "SELECT path, revision FROM declared WHERE (kind, namespace, name) = (?, ?, ?)", key
    ).fetchone()
    return None if row is None else Declared(*row)


def effective(connection: sqlite3.Connection, declared: Resource) -> Resource:
    """The declaration under the overrides that are valid for it."""
    try:
        return overrides.overridden(declared, overrides.stored(connection, declared.key))
    except Invalid:
        # It was checked when it was set; a later Toolkeeper understands it no more.
        overrides.drop(connection, declared.key)
        return declared


def everywhere(connection: sqlite3.Connection) -> dict[Key, Declared]:
    """Where each object is declared."""
    rows = connection.execute("SELECT kind, namespace, name, path, revision FROM declared")
    return {Key(*row[:3]): Declared(*row[3:]) for row in rows}


def _declare(writer: Writer, judgement: Judgement, rows: dict[Key, _Row], revision: str) -> bool:
    alive = _alive(writer.connection)
    waiting = False
    for declaration in judgement.wanted:
        resource = declaration.resource
        row = _Row(judgement.paths[resource.key], declaration.spec_hash, declaration.metadata)
        if rows.get(resource.key) == row and alive.get(resource.key):
            continue
        if rows.get(resource.key) != row:
            _tell_of_revision(writer, resource, row.path, revision)
            _remember(writer.connection, resource, row, revision)
        if alive.get(resource.key) is False:
            waiting = True
        else:
            writer.apply(effective(writer.connection, resource))
    return waiting


def _withdraw(writer: Writer, key: Key) -> None:
    writer.connection.execute("DELETE FROM declared WHERE (kind, namespace, name) = (?, ?, ?)", key)
    overrides.drop(writer.connection, key)
    with suppress(NotFound):
        writer.delete(key)


def _remember(connection: sqlite3.Connection, resource: Resource, row: _Row, revision: str) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO declared VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*resource.key, *row, objects.spec_json(resource), revision),
    )
    overrides.end(connection, resource.key, row.hash)


def _tell_of_revision(writer: Writer, resource: Resource, path: str, revision: str) -> None:
    """An event, where the folder is a copy: what the object is now, it is because of this revision."""
    if revision:
        before = where(writer.connection, resource.key)
        since = f"{short(before.revision)} → " if before is not None and before.revision else ""
        _tell(writer, Event(resource.key, "Normal", "Synced", f"{since}{short(revision)} ({path})"))


def _tell_of_doubts(writer: Writer, reading: Reading, rows: dict[Key, _Row], revision: str) -> None:
    """An event of each object whose file a revision broke; once for each revision."""
    doubtful = {each.path: each for each in reading.manifests if each.contents.problems}
    for key, row in rows.items():
        problems = doubtful[row.path].contents.problems if row.path in doubtful else ()
        why = next((each for each in problems if each.key in {None, key}), None)
        if why is not None and (before := where(writer.connection, key)) is not None:
            kept = f"what {short(before.revision)} says stays in force"
            said = f"{short(revision)} is not taken, {kept}: {why.source}: {why.message}"
            _tell(writer, Event(key, "Warning", "NotSynced", said), again=False)


def _tell(writer: Writer, event: Event, *, again: bool = True) -> None:
    current = writer.find(event.key)
    event = replace(event, uid="" if current is None else current.metadata.uid)
    if again or not journal.was_said(writer.connection, event):
        journal.keep_event(writer.connection, event, writer.now)


def short(revision: str) -> str:
    """A commit as people say it."""
    return revision[:7]


def _remember_files(
    connection: sqlite3.Connection, reading: Reading, judgement: Judgement, files: dict[str, str]
) -> None:
    for manifest in reading.manifests:
        if manifest.understood:
            names = json.dumps(sorted(manifest.contents.secrets))
            if files.get(manifest.path) != names:
                connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?)", (manifest.path, names))
    if not (judgement.settling or judgement.held or reading.unseen):
        for path in files.keys() - {manifest.path for manifest in reading.manifests}:
            connection.execute("DELETE FROM files WHERE path = ?", (path,))


def _lost_secrets(reading: Reading, files: dict[str, str]) -> frozenset[tuple[str, str]]:
    readable = reading.secrets()
    broken = (manifest.path for manifest in reading.manifests if not manifest.understood)
    named = ((namespace, name) for path in broken for namespace, name in json.loads(files.get(path, "[]")))
    return frozenset(secret for secret in named if secret not in readable)


def _rows(connection: sqlite3.Connection) -> dict[Key, _Row]:
    rows: Iterable[tuple[str, str, str, str, str, str]] = connection.execute(
        "SELECT kind, namespace, name, path, hash, metadata FROM declared ORDER BY path, kind, namespace, name"
    )
    return {Key(kind, namespace, name): _Row(*row) for kind, namespace, name, *row in rows}


def _files(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT path, secrets FROM files").fetchall())


def _alive(connection: sqlite3.Connection) -> dict[Key, bool]:
    rows = connection.execute(
        "SELECT kind, namespace, name, json_extract(metadata, '$.deletionTimestamp') IS NULL FROM objects"
    )
    return {Key(kind, namespace, name): bool(alive) for kind, namespace, name, alive in rows}
