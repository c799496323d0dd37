"""Writing objects within one transaction: the rules of `versions`, applied to the rows of the state database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime

from toolkeeper.errors import NotFound
from toolkeeper.reconcile.ports import Change, Resource
from toolkeeper.resources.meta import Key
from toolkeeper.stores import objects, versions


class Writer:
    """The writes of one transaction. A write that changes nothing touches no row and takes no version."""

    def __init__(self, connection: sqlite3.Connection, *, now: datetime, new_uid: Callable[[], str]) -> None:
        self.connection = connection
        self.changes: dict[int, Change] = {}
        """What to tell, by version, once the transaction is committed."""
        self.now = now
        self._new_uid = new_uid
        self._version = objects.newest(connection)

    def find(self, key: Key) -> Resource | None:
        """The object as it is now, or None."""
        return objects.find(self.connection, key)

    def current(self, key: Key) -> Resource:
        """The object as it is now. Raises NotFound."""
        found = self.find(key)
        if found is None:
            raise NotFound(f"{key} does not exist")
        return found

    def apply(self, resource: Resource) -> Resource:
        """Create or edit. Raises Conflict when the object is being deleted."""
        current = self.find(resource.key)
        if current is None:
            wanted = versions.created(resource, uid=self._new_uid(), version=self._next, now=self.now)
        else:
            wanted = versions.applied(current, resource, version=self._next)
        return self._keep(current, wanted, edited=True)

    def delete(self, key: Key) -> None:
        """Delete, or mark for deletion. Raises NotFound."""
        current = self.current(key)
        marked = versions.deleted(current, version=self._next, now=self.now)
        if marked is None:
            self._forget(key)
        else:
            self._keep(current, marked, edited=True)

    def status(self, resource: Resource) -> Resource:
        """Write the status. Raises Conflict, NotFound."""
        current = self.current(resource.key)
        return self._keep(current, versions.with_status(current, resource, version=self._next), edited=False)

    def finalizer(self, resource: Resource, *, present: bool) -> Resource:
        """Add or remove our finalizer. Raises Conflict, NotFound."""
        current = self.current(resource.key)
        wanted = versions.with_finalizer(current, resource, present=present, version=self._next)
        if versions.is_gone(wanted):
            self._forget(wanted.key)
            return wanted
        return self._keep(current, wanted, edited=False)

    @property
    def _next(self) -> str:
        return str(self._version + 1)

    def _keep(self, current: Resource | None, wanted: Resource, *, edited: bool) -> Resource:
        if wanted is not current:
            objects.save(self.connection, wanted, edited=edited)
            self._tell(wanted.key, edited=edited)
        return wanted

    def _forget(self, key: Key) -> None:
        objects.forget(self.connection, key, self._version + 1)
        self._tell(key, edited=True)

    def _tell(self, key: Key, *, edited: bool) -> None:
        self._version += 1
        objects.use(self.connection, self._version)
        self.changes[self._version] = Change(key, edited=edited)
