"""What the cluster holds, as far as we were told: by watch events, by lists, and by the answers to our own writes.

The three arrive in any order. Versions are compared, so that nothing older ever replaces what is newer, and an object
that is gone never comes back (its uid does not).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from toolkeeper.errors import Invalid
from toolkeeper.reconcile.ports import Change, Problem, Resource
from toolkeeper.resources.meta import Key
from toolkeeper.stores.kubernetes.answers import Json
from toolkeeper.stores.kubernetes.documents import decoded, key_of

GRAVES = 20_000
"""Uids of objects that are gone; a list or an event does not lag behind by more."""


@dataclass(frozen=True, slots=True)
class Belief:
    """One object. `resource` is its last readable version, `problem` says why the newest cannot be read."""

    uid: str
    version: int
    resource: Resource | None
    problem: Problem | None = None


class Beliefs:
    """All objects of our kinds, never going back in time."""

    def __init__(self) -> None:
        self._known: dict[Key, Belief] = {}
        self._graves: OrderedDict[str, None] = OrderedDict()

    def resources(self) -> tuple[Resource, ...]:
        """All that can be read, sorted by key."""
        return tuple(each.resource for _, each in sorted(self._known.items()) if each.resource is not None)

    def problems(self) -> tuple[Problem, ...]:
        """All that cannot."""
        return tuple(each.problem for _, each in sorted(self._known.items()) if each.problem is not None)

    @property
    def complete(self) -> bool:
        """Whether everything that exists can be shown, if only in an older version."""
        return all(each.resource is not None for each in self._known.values())

    def get(self, key: Key) -> Resource | None:
        """The object as it was last read."""
        belief = self._known.get(key)
        return belief.resource if belief else None

    def seen(self, kind: str, document: Json, *, resource: Resource | None = None) -> Change | None:
        """The object is, or was, like this (as `resource`, if already read). Returns what changed, if anything."""
        key = key_of(kind, document)
        uid, version = identity(document)
        before = self._known.get(key)
        if uid in self._graves or (before is not None and version <= before.version):
            return None
        same = before if before is not None and before.uid == uid else None
        try:
            belief = Belief(uid, version, resource or decoded(kind, document))
        except Invalid as exc:
            kept = same.resource if same else None
            belief = Belief(uid, version, kept, Problem(str(key), str(exc), key))
        if before is not None and same is None:
            self._bury(before.uid)
        self._known[key] = belief
        return Change(key, edited=same is None or _is_edited(same.resource, belief.resource))

    def gone(self, kind: str, document: Json) -> Change | None:
        """The object was deleted."""
        return self.lost(key_of(kind, document), identity(document)[0])

    def lost(self, key: Key, uid: str) -> Change | None:
        """The object with this uid does not exist (any more)."""
        self._bury(uid)
        before = self._known.get(key)
        if before is None or before.uid != uid:
            return None
        del self._known[key]
        return Change(key)

    def listed(
        self, kind: str, namespace: str | None, documents: Iterable[Json], version: int
    ) -> tuple[Change, ...]:
        """All objects of a kind, in a namespace or in all, as they were at `version`. What is missing is gone.

        An object that was seen later than the list was made is not missing: it is newer.
        """
        changes, shown = [], set()
        for document in documents:
            shown.add(identity(document)[0])
            changes.append(self.seen(kind, document))
        changes += [
            self.lost(key, belief.uid)
            for key, belief in list(self._known.items())
            if _is_within(key, kind, namespace) and belief.uid not in shown and belief.version <= version
        ]
        return tuple(each for each in changes if each is not None)

    def _bury(self, uid: str) -> None:
        self._graves[uid] = None
        while len(self._graves) > GRAVES:
            self._graves.popitem(last=False)


def identity(document: Json) -> tuple[str, int]:
    """Uid and version. Kubernetes promises comparable versions since 1.35, and has always had them."""
    metadata = document.get("metadata") or {}
    version = str(metadata.get("resourceVersion", ""))
    return str(metadata.get("uid", "")), int(version) if version.isdecimal() else 0


def _is_within(key: Key, kind: str, namespace: str | None) -> bool:
    return key.kind == kind and namespace in (None, key.namespace)


def _is_edited(before: Resource | None, after: Resource | None) -> bool:
    """Whether more than status and finalizers changed."""
    if before is None or after is None:
        return True
    old, new = before.metadata, after.metadata
    return (old.generation, old.labels, old.annotations, old.deletion_timestamp) != (
        new.generation,
        new.labels,
        new.annotations,
        new.deletion_timestamp,
    )
