"""Verbs on an object whose source nobody here may write: kept beside it, valid for one content of its spec.

`toolkeeper pause`, `restart`, `rollback`, `approve`, `start` and `stop` on an object of a Git tree become overrides.
The next edit of the object in the tree ends them; `describe` lists them with the patch that makes them permanent.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from toolkeeper.errors import Invalid
from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.meta import RESTARTED_AT, Key


@dataclass(frozen=True, slots=True)
class Override:
    """What somebody asked for, in place of what the source says."""

    key: Key
    verb: str
    value: str
    spec_hash: str
    """The content of the source's spec for which it is valid."""
    actor: str = ""
    at: datetime | None = None


def spec_hash(resource: Resource) -> str:
    """A digest of the spec as its author wrote it. Another release of Toolkeeper gives the same."""
    content = resource.spec.as_declared()
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode(errors="surrogatepass")).hexdigest()


def overridden(resource: Resource, overrides: Iterable[Override]) -> Resource:
    """The resource as it is wanted under those overrides that are valid for it. Raises Invalid for a wrong value."""
    digest = spec_hash(resource)
    valid = {each.verb: each.value for each in overrides if each.spec_hash == digest}
    if not valid:
        return resource
    spec: Mapping[str, Any] = resource.spec.as_declared()
    annotations = dict(resource.metadata.annotations)
    # In the order of the table: a rollback replaces the spec, and the other verbs hold on top of it.
    for verb, patch in PATCHES.items():
        if verb in valid:
            change = patch(valid[verb])
            spec = change.spec if change.replaces else _merged(spec, change.spec)
            annotations |= change.annotations
    metadata = resource.metadata.model_copy(update={"annotations": annotations})
    try:
        checked = type(resource.spec).model_validate(spec)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        where = ".".join(str(each) for each in first["loc"]) or "the spec"
        raise Invalid(f"{resource.key} cannot be overridden so: {where}: {first['msg']}") from exc
    return resource.model_copy(update={"metadata": metadata, "spec": checked})


@dataclass(frozen=True, slots=True)
class Patch:
    """What a verb changes: the permanent form of an override, as `describe` prints it."""

    spec: Mapping[str, Any]
    annotations: Mapping[str, str]
    replaces: bool = False
    """Whether `spec` is the whole spec."""


def _rollback(value: str) -> Patch:
    try:
        spec = json.loads(value)
    except ValueError as exc:
        raise Invalid(f"a rollback needs the whole spec as JSON: {exc}") from exc
    if not isinstance(spec, dict):
        raise Invalid("a rollback needs the whole spec as a JSON object")
    return Patch(spec, {}, replaces=True)


def _flag(*path: str) -> Callable[[str], Patch]:
    def patch(value: str) -> Patch:
        if value not in ("true", "false"):
            raise Invalid(f"{path[-1]} is true or false, not {value!r}")
        return Patch(_nested(path, value == "true"), {})

    return patch


PATCHES: Mapping[str, Callable[[str], Patch]] = {
    "rollback": _rollback,
    "pause": _flag("paused"),
    "run": _flag("running"),
    "approve": lambda value: Patch(_nested(("tools", "approved"), value), {}),
    "restart": lambda value: Patch({}, {RESTARTED_AT: value}),
}
"""Verb → what its value means. `run` is start and stop; the value of `restart` is opaque."""


def check(resource: Resource, verb: str, value: str) -> None:
    """Raises Invalid when the verb means nothing for this resource, or not with this value."""
    if verb not in PATCHES:
        raise Invalid(f"unknown verb {verb!r}; it is one of {', '.join(PATCHES)}")
    if isinstance(resource, AgentConnection) or (resource.key.kind == "Toolbox" and verb != "pause"):
        raise Invalid(f"{verb} means nothing for {resource.key}")
    overridden(resource, [Override(resource.key, verb, value, spec_hash(resource))])


def matters(resource: Resource, override: Override, beside: Iterable[Override]) -> bool:
    """Whether the object is another one with the override than without. Raises Invalid as `overridden` does."""
    others = [each for each in beside if each.verb != override.verb]
    return overridden(resource, [*others, override]) != overridden(resource, others)


def keep(connection: sqlite3.Connection, override: Override, at: datetime) -> None:
    """Store the override in place of an earlier one of the same verb."""
    connection.execute(
        "INSERT OR REPLACE INTO overrides VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*override.key, override.verb, override.value, override.spec_hash, at.isoformat(), override.actor),
    )


def drop(connection: sqlite3.Connection, key: Key, verb: str | None = None) -> None:
    """Remove the override of one verb, or all of the object."""
    connection.execute(
        "DELETE FROM overrides WHERE (kind, namespace, name) = (?1, ?2, ?3) AND (?4 IS NULL OR verb = ?4)",
        (*key, verb),
    )


def stored(connection: sqlite3.Connection, key: Key | None = None) -> tuple[Override, ...]:
    """The overrides of one object or of all."""
    condition = "" if key is None else "WHERE (kind, namespace, name) = (?, ?, ?)"
    rows = connection.execute(
        f"""SELECT kind, namespace, name, verb, value, hash, actor, at FROM overrides
            {condition} ORDER BY kind, namespace, name, verb""",  # noqa: S608 - a constant
        key or (),
    )
    return tuple(
        Override(Key(kind, namespace, name), verb, value, digest, actor, datetime.fromisoformat(at))
        for kind, namespace, name, verb, value, digest, actor, at in rows
    )


def end(connection: sqlite3.Connection, key: Key, spec_hash: str) -> None:
    """Remove the overrides of another content than this one: the source was edited."""
    connection.execute(
        "DELETE FROM overrides WHERE (kind, namespace, name) = (?, ?, ?) AND hash != ?", (*key, spec_hash)
    )


def _nested(path: tuple[str, ...], value: object) -> dict[str, Any]:
    return {path[0]: value if len(path) == 1 else _nested(path[1:], value)}


def _merged(spec: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(spec)
    for field, value in patch.items():
        before = merged.get(field)
        merged[field] = (
            _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
        )
    return merged
