"""Patches on objects of the API server in memory: merge, JSON, strategic (as merge), and server-side apply."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import jsonpatch
import jsonpointer

from toolkeeper.testing.apiserver_kinds import Json, Rejected

Path = tuple[Any, ...]
"""Steps to a field: keys of objects, and `("key", "value")` pairs for the items of a list that is a map."""
NOT_OWNED = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"), ("metadata", "uid")}
NOT_OWNED |= {("metadata", "resourceVersion")}
GONE = object()


class Owners:
    """Who wrote which fields of one object, as far as server-side apply needs to know."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self.schema = schema
        self._fields: dict[str, set[Path]] = {}

    def applied(self, manager: str, config: Json) -> None:
        """The manager's fields are now exactly those of its configuration."""
        self._fields[manager] = {path for path, _ in leaves(config, self.schema)}

    def wrote(self, manager: str, before: Json, after: Json) -> None:
        """The manager changed these fields without server-side apply: they are its own now."""
        old, new = dict(leaves(before, self.schema)), dict(leaves(after, self.schema))
        changed = {path for path in old.keys() | new.keys() if old.get(path, GONE) != new.get(path, GONE)}
        for fields in self._fields.values():
            fields.difference_update(changed)
        self._fields.setdefault(manager, set()).update(changed & new.keys())

    def fields(self, manager: str) -> set[Path]:
        """The fields of one manager."""
        return self._fields.get(manager, set())

    def own(self, manager: str, fields: set[Path]) -> None:
        """These are the manager's fields now."""
        self._fields[manager] = fields

    def others(self, manager: str, path: Path) -> list[str]:
        """Who else has the field."""
        return [each for each, fields in self._fields.items() if each != manager and path in fields]

    def take(self, manager: str, path: Path) -> None:
        """The field is the manager's alone."""
        for each in self.others(manager, path):
            self._fields[each].discard(path)


@dataclass(frozen=True)
class Patch:
    """One patch request."""

    content_type: str
    body: Any
    manager: str
    force: bool = False

    @property
    def applies(self) -> bool:
        """Whether it is a server-side apply."""
        return self.content_type == "application/apply-patch+yaml"

    def on(self, document: Json, owners: Owners, scope: tuple[str, ...]) -> Json:
        """The document with the patch; for server-side apply, only fields within `scope` count. Raises Rejected."""
        match self.content_type:
            case "application/apply-patch+yaml":
                config = {key: value for key, value in self.body.items() if key in scope}
                return self._apply(document, config, owners, scope)
            case "application/json-patch+json":
                try:
                    patched = cast("Json", jsonpatch.apply_patch(document, self.body))
                except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as exc:
                    message = "the server rejected our request due to an error in our request"
                    raise Rejected(422, "Invalid", message) from exc
                return patched
            case "application/merge-patch+json" | "application/strategic-merge-patch+json":
                return cast("Json", _merge(document, self.body))
        raise Rejected(415, "UnsupportedMediaType", f"the body is not a known patch: {self.content_type}")

    def _apply(self, document: Json, config: Json, owners: Owners, scope: tuple[str, ...]) -> Json:
        wanted = dict(leaves(config, owners.schema))
        there = dict(leaves(document, owners.schema))
        for path, value in wanted.items():
            holders = owners.others(self.manager, path)
            if holders and there.get(path, GONE) != value:
                if not self.force:
                    field = "." + ".".join(map(str, path))
                    raise Rejected(
                        409,
                        "Conflict",
                        f'Apply failed with 1 conflict: conflict with "{holders[0]}": {field}',
                    )
                owners.take(self.manager, path)
        mine = {path for path in owners.fields(self.manager) if path[0] in scope}
        for path in sorted(mine - wanted.keys(), key=_is_key):  # by its keys an item is found: they go last
            if not owners.others(self.manager, path):
                _remove(document, path)
        for path, value in wanted.items():
            _set(document, path, copy.deepcopy(value))
        kept = owners.fields(self.manager) - mine
        owners.own(self.manager, kept | wanted.keys())
        return document


def leaves(value: Any, schema: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field with its value: objects are taken apart, and lists that are maps; other lists are one value."""
    if path in NOT_OWNED:
        return
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, _inner(schema, key), (*path, key))
    elif isinstance(value, list) and schema.get("x-kubernetes-list-type") == "map":
        for item in value:
            step = tuple((key, item.get(key)) for key in schema["x-kubernetes-list-map-keys"])
            for key, inner in item.items():
                yield from leaves(inner, _inner(schema.get("items", {}), key), (*path, step, key))
    else:
        yield path, value


def _inner(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = schema.get("properties", {}).get(key)
    if found is None:
        found = schema.get("additionalProperties")
    return found if isinstance(found, Mapping) else {}


def _set(document: Json, path: Path, value: Any) -> None:
    here: Any = document
    for step, following in itertools.pairwise(path):
        if isinstance(step, tuple):
            here = _item(here, step, make=True)
        else:
            empty: Any = [] if isinstance(following, tuple) else {}
            if here.get(step) is None:
                here[step] = empty
            here = here[step]
    if path:
        here[path[-1]] = value


def _remove(document: Json, path: Path) -> None:
    """Remove the field, and what is empty without it."""
    trail: list[tuple[Any, Any]] = []
    here: Any = document
    for step in path[:-1]:
        trail.append((here, step))
        here = _item(here, step) if isinstance(step, tuple) else here.get(step)
        if here is None:
            return
    if _is_key(path) and here.keys() - {key for key, _ in path[-2]}:
        return  # somebody else has a part of this item
    here.pop(path[-1], None)
    for outer, step in reversed(trail):
        inner = _item(outer, step) if isinstance(step, tuple) else outer.get(step)
        if isinstance(step, tuple):
            if inner and set(inner) - {key for key, _ in step}:
                return
            outer[:] = [each for each in outer if each is not inner and each]
        elif inner:
            return
        elif len(trail) > 1 or step not in ("metadata", "spec"):
            outer.pop(step, None)


def _is_key(path: Path) -> bool:
    return len(path) > 1 and isinstance(path[-2], tuple) and path[-1] in dict(path[-2])


def _item(items: list[Json], step: tuple[Any, ...], *, make: bool = False) -> Any:
    for each in items:
        if all(each.get(key) == value for key, value in step):
            return each
    if make:
        items.append(dict(step))
        return items[-1]
    return None


def _merge(document: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    merged = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged
