"""What the API server in memory holds, and the rules of every write to it."""

from __future__ import annotations

import base64
import copy
import itertools
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from toolkeeper.testing.apiserver_kinds import BUILT_IN, DEFINITIONS, Json, Kind, Rejected
from toolkeeper.testing.apiserver_patches import Owners, Patch
from toolkeeper.testing.apiserver_schema import check, defaulted, pruned

NAMESPACES = BUILT_IN[0]
START = datetime(2026, 1, 1, tzinfo=UTC)
SERVERS_OWN = (
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "managedFields",
)

Place = tuple[tuple[str, str], str, str]
"""Where an object is kept: store, namespace, name."""


class Objects:
    """All objects and their past. Documents that are handed out are never changed afterwards."""

    def __init__(self) -> None:
        self.version = 1
        self.definitions = 0
        """Counts changes of the CRDs."""
        self._uids = itertools.count(1)
        self._kept: dict[Place, Json] = {}
        self._owners: dict[str, Owners] = {}
        self._past: list[tuple[int, str, tuple[str, str], Json]] = []
        self._forgotten = 0

    def all(self, kind: Kind, namespace: str | None) -> list[Json]:
        """The objects of a kind, sorted, in one namespace or in all."""
        return [
            document
            for (store, within, _), document in sorted(self._kept.items())
            if store == kind.store and namespace in (None, within)
        ]

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json:
        """One object. Raises Rejected."""
        try:
            return self._kept[kind.store, namespace or "", name]
        except KeyError:
            raise Rejected(
                404,
                "NotFound",
                f'{_full(kind)} "{name}" not found',
                details={"name": name, "group": kind.group, "kind": kind.plural},
            ) from None

    def create(
        self, kind: Kind, namespace: str | None, body: Json, *, manager: str | None = "", dry: bool = False
    ) -> Json:
        """A new object. Raises Rejected."""
        given = dict(body.get("metadata") or {})
        name = given.get("name") or (
            given["generateName"] + str(next(self._uids)) if "generateName" in given else ""
        )
        place = (kind.store, namespace or "", name)
        if not name:
            raise Rejected(422, "Invalid", "metadata.name: Required value: name or generateName is required")
        if kind.namespaced:
            self.get(NAMESPACES, None, namespace or "")
        if place in self._kept:
            details = {"name": name, "group": kind.group, "kind": kind.plural}
            raise Rejected(409, "AlreadyExists", f'{_full(kind)} "{name}" already exists', details=details)
        metadata = {key: value for key, value in given.items() if key not in SERVERS_OWN and value}
        metadata |= {"name": name, "uid": f"00000000-0000-4000-8000-{next(self._uids):012d}", "generation": 1}
        metadata["creationTimestamp"] = self._time()
        if kind.namespaced:
            metadata["namespace"] = namespace
        document = {**body, "apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata}
        if kind.has_status:
            document.pop("status", None)
        document = self._admitted(kind, document)
        if kind is DEFINITIONS:
            document["status"] = _established(document)
        self._owners[metadata["uid"]] = owners = Owners(kind.schema)
        if manager is not None:  # otherwise it is created by an apply, which says itself which fields it owns
            owners.wrote(manager, {}, document)
        return document if dry else self._keep(place, "ADDED", document)

    def replace(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        body: Json,
        subresource: str,
        *,
        manager: str = "",
        dry: bool = False,
    ) -> Json:
        """The object with another content. Raises Rejected."""
        before = self.get(kind, namespace, name)
        after = self._merged(kind, before, body, subresource)
        self._owners[before["metadata"]["uid"]].wrote(manager, before, after)
        return self._changed(kind, before, after, dry=dry)

    def patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        patch: Patch,
        subresource: str,
        *,
        dry: bool = False,
    ) -> Json:
        """The object with a patch on it; server-side apply creates it if need be. Raises Rejected."""
        if patch.applies and not subresource and (kind.store, namespace or "", name) not in self._kept:
            created = self.create(kind, namespace, patch.body, manager=None, dry=dry)
            self._owners[created["metadata"]["uid"]].applied(patch.manager, patch.body)
            return created
        before = self.get(kind, namespace, name)
        owners = self._owners[before["metadata"]["uid"]]
        _same(before, patch.body.get("metadata") or {} if isinstance(patch.body, dict) else {})
        scope = ("status",) if subresource else ("spec", "data", "stringData", "metadata", "type")
        body = patch.on(copy.deepcopy(before), owners, scope)
        after = self._merged(kind, before, body, subresource)
        if not patch.applies:
            owners.wrote(patch.manager, before, after)
        return self._changed(kind, before, after, dry=dry)

    def delete(self, kind: Kind, namespace: str | None, name: str, *, dry: bool = False) -> Json:
        """Remove the object, or mark it while finalizers hold it. Raises Rejected."""
        before = self.get(kind, namespace, name)
        metadata = before["metadata"]
        if dry or metadata.get("deletionTimestamp"):
            return before
        if not metadata.get("finalizers"):
            return self._remove(kind, before)
        marks = {"deletionTimestamp": self._time(), "deletionGracePeriodSeconds": 0}
        marked = before | {"metadata": metadata | marks | {"generation": metadata["generation"] + 1}}
        return self._keep(_place(kind, before), "MODIFIED", marked)

    def since(self, kind: Kind, namespace: str | None, version: int | None) -> tuple[list[Json], int | None]:
        """Events after that version, and up to which version they tell; None: what was asked for is forgotten."""
        if version is None:
            return [{"type": "ADDED", "object": each} for each in self.all(kind, namespace)], self.version
        if version < self._forgotten:
            gone = Rejected(410, "Expired", f"too old resource version: {version} ({self._forgotten})")
            return [{"type": "ERROR", "object": gone.status()}], None
        news = self._past[bisect_right(self._past, version, key=itemgetter(0)) :]
        return [
            {"type": type, "object": document}
            for _, type, store, document in news
            if store == kind.store and namespace in (None, document["metadata"].get("namespace"))
        ], self.version

    def compact(self) -> None:
        """Forget what was before now."""
        self._past.clear()
        self._forgotten = self.version

    def _merged(self, kind: Kind, before: Json, body: Json, subresource: str) -> Json:
        given = body.get("metadata") or {}
        _same(before, given)
        if subresource == "status":
            return self._admitted(kind, before | {"status": body.get("status", {})})
        own = {
            key: before["metadata"][key]
            for key in (*SERVERS_OWN, "name", "namespace")
            if key in before["metadata"]
        }
        theirs = {key: value for key, value in given.items() if key not in SERVERS_OWN and value}
        after = {**body, "apiVersion": before["apiVersion"], "kind": before["kind"], "metadata": theirs | own}
        if kind.has_status:
            after.pop("status", None)
            after |= {"status": before["status"]} if "status" in before else {}
        if before.get("immutable") and after.get("data") != before.get("data"):
            raise Rejected(422, "Invalid", "data: Forbidden: field is immutable when `immutable` is set")
        if before["metadata"].get("deletionTimestamp"):
            added = set(theirs.get("finalizers", ())) - set(before["metadata"].get("finalizers", ()))
            if added:
                raise Rejected(
                    422, "Invalid", "metadata.finalizers: Forbidden: no new finalizers", details=CAUSES
                )
        return self._admitted(kind, after)

    def _admitted(self, kind: Kind, document: Json) -> Json:
        if kind.plural == "secrets" and "stringData" in document:
            said = document.pop("stringData")
            encoded = {key: base64.b64encode(value.encode()).decode() for key, value in said.items()}
            document["data"] = (document.get("data") or {}) | encoded
        if not kind.schema:
            return document
        content: Json = {
            key: value for key, value in document.items() if key not in ("apiVersion", "kind", "metadata")
        }
        content = defaulted(kind.schema, pruned(kind.schema, content))
        check(kind, document["metadata"]["name"], content)
        return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": document["metadata"]} | content

    def _changed(self, kind: Kind, before: Json, after: Json, *, dry: bool) -> Json:
        if after == before or dry:
            return after
        metadata = after["metadata"]
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            return self._remove(kind, after)
        if _wish(before) != _wish(after):
            after = after | {"metadata": metadata | {"generation": metadata["generation"] + 1}}
        return self._keep(_place(kind, before), "MODIFIED", after)

    def _keep(self, place: Place, type: str, document: Json) -> Json:
        self.version += 1
        document = document | {"metadata": document["metadata"] | {"resourceVersion": str(self.version)}}
        self._kept[place] = document
        self._past.append((self.version, type, place[0], document))
        self.definitions += place[0] == DEFINITIONS.store
        return document

    def _remove(self, kind: Kind, document: Json) -> Json:
        gone = self._keep(_place(kind, document), "DELETED", document)
        del self._kept[_place(kind, document)]
        self._owners.pop(document["metadata"]["uid"], None)
        return gone

    def _time(self) -> str:
        return (START + timedelta(seconds=self.version)).strftime("%Y-%m-%dT%H:%M:%SZ")


CAUSES = {
    "causes": [
        {"reason": "FieldValueForbidden", "message": "no new finalizers", "field": "metadata.finalizers"}
    ]
}


def _same(before: Json, given: Json) -> None:
    """Raises Rejected when the write names another object or version than there is."""
    there = before["metadata"]
    name = there["name"]
    if given.get("uid") not in (None, "", there["uid"]):
        raise Rejected(409, "Conflict", f'Operation cannot be fulfilled on "{name}": it has another uid')
    if given.get("resourceVersion") not in (None, "", there["resourceVersion"]):
        raise Rejected(
            409,
            "Conflict",
            f'Operation cannot be fulfilled on "{name}": the object has been modified; '
            "please apply your changes to the latest version and try again",
        )


def _wish(document: Json) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in ("metadata", "status")}


def _place(kind: Kind, document: Json) -> Place:
    return kind.store, document["metadata"].get("namespace", ""), document["metadata"]["name"]


def _full(kind: Kind) -> str:
    return f"{kind.plural}.{kind.group}" if kind.group else kind.plural


def _established(document: Json) -> Json:
    conditions = [
        {
            "type": each,
            "status": "True",
            "reason": "InMemory",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for each in ("NamesAccepted", "Established")
    ]
    versions = [each["name"] for each in document["spec"]["versions"]]
    return {"conditions": conditions, "acceptedNames": document["spec"]["names"], "storedVersions": versions}
