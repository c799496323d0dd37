"""A store in memory: the reference for what every store does. Tests and the simulation run on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count

from toolkeeper.clock import Clock, SystemClock
from toolkeeper.errors import NotFound
from toolkeeper.reconcile.ports import Change, Listing, Resource, Secret
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.events import Event
from toolkeeper.resources.meta import Key
from toolkeeper.stores import versions
from toolkeeper.stores.credentials import token_secret_taken
from toolkeeper.stores.feed import Feed, Watch
from toolkeeper.stores.identity import random_token


def numbered_uids() -> Callable[[], str]:
    """Ids that are the same in every run: `uid-1`, `uid-2`, …"""
    numbers = count(1)
    return lambda: f"uid-{next(numbers)}"


class MemoryStore:
    """Objects, secrets and events of one process. Never fails; the same calls give the same results."""

    def __init__(
        self,
        clock: Clock | None = None,
        new_uid: Callable[[], str] | None = None,
        new_token: Callable[[], str] = random_token,
    ) -> None:
        self._clock = clock or SystemClock()
        self._new_uid = new_uid or numbered_uids()
        self._new_token = new_token
        self._tokens: dict[tuple[str, str], tuple[str, str]] = {}
        self._objects: dict[Key, Resource] = {}
        self._secrets: dict[tuple[str, str], Secret] = {}
        self._version = 0
        self._feed = Feed()
        self.events: list[Event] = []
        """Everything emitted, oldest first."""

    async def list(self) -> Listing:
        """All objects, sorted by key."""
        return Listing(tuple(self._objects[key] for key in sorted(self._objects)))

    def watch(self) -> Watch:
        """Changes from now on."""
        return self._feed.watch()

    async def get(self, key: Key) -> Resource:
        """One object. Raises NotFound."""
        return self._current(key)

    async def apply(self, resource: Resource) -> Resource:
        """Create the object, or give it the spec, labels and annotations of `resource`. Raises Conflict."""
        current = self._objects.get(resource.key)
        if current is None:
            uid, now = self._new_uid(), self._clock.now()
            wanted = versions.created(resource, uid=uid, version=self._next(), now=now)
        else:
            wanted = versions.applied(current, resource, version=self._next())
        return self._put(current, wanted, edited=True)

    async def delete(self, key: Key) -> None:
        """Delete the object, or mark it for deletion while a finalizer holds it. Raises NotFound."""
        current = self._current(key)
        marked = versions.deleted(current, version=self._next(), now=self._clock.now())
        if marked is None:
            self._forget(key)
        else:
            self._put(current, marked, edited=True)

    async def write_status(self, resource: Resource) -> Resource:
        """Write the status. Raises Conflict, NotFound."""
        current = self._current(resource.key)
        return self._put(current, versions.with_status(current, resource, version=self._next()), edited=False)

    async def set_finalizer(self, resource: Resource, *, present: bool) -> Resource:
        """Add or remove our finalizer. Raises Conflict, NotFound."""
        current = self._current(resource.key)
        wanted = versions.with_finalizer(current, resource, present=present, version=self._next())
        if versions.is_gone(wanted):
            self._forget(wanted.key)
            return wanted
        return self._put(current, wanted, edited=False)

    async def secret(self, namespace: str, name: str) -> Secret:
        """A secret. Raises NotFound."""
        try:
            return self._secrets[namespace, name]
        except KeyError:
            raise NotFound(f"there is no secret {namespace}/{name}; declare it") from None

    async def issue_token(self, connection: AgentConnection) -> bool:
        """Give the agent a token if it has none. Raises Refused (the name is taken), NotFound."""
        uid, where = connection.metadata.uid, (connection.metadata.namespace, connection.token_secret)
        if self._current(connection.key).metadata.uid != uid:
            raise NotFound(f"{connection.key} is another one now")
        owner, _ = self._tokens.get(where, ("", ""))
        if where in self._secrets or owner not in ("", uid):
            raise token_secret_taken(connection)
        if owner == uid:
            return False
        self._tokens[where] = (uid, self._new_token())
        return True

    def drop_token(self, namespace: str, name: str) -> None:
        """Somebody deletes the secret of an agent's token."""
        del self._tokens[namespace, name]

    def token(self, namespace: str, name: str) -> str:
        """The token in that secret. Raises KeyError."""
        return self._tokens[namespace, name][1]

    def put_secret(
        self, namespace: str, name: str, values: Mapping[str, str], labels: Mapping[str, str] | None = None
    ) -> None:
        """Create or rotate a secret."""
        self._secrets[namespace, name] = Secret(dict(values), dict(labels or {}))
        self._feed.publish([Change(None)])

    async def emit(self, event: Event) -> None:
        """Record an event."""
        self.events.append(event if event.at else replace(event, at=self._clock.now()))

    async def aclose(self) -> None:
        """End every watch."""
        await self._feed.aclose()

    def _current(self, key: Key) -> Resource:
        try:
            return self._objects[key]
        except KeyError:
            raise NotFound(f"{key} does not exist") from None

    def _next(self) -> str:
        return str(self._version + 1)

    def _put(self, current: Resource | None, wanted: Resource, *, edited: bool) -> Resource:
        if wanted is not current:
            self._version += 1
            self._objects[wanted.key] = wanted
            self._feed.publish([Change(wanted.key, edited=edited)])
        return wanted

    def _forget(self, key: Key) -> None:
        self._version += 1
        gone = self._objects.pop(key).metadata.uid
        self._tokens = {where: held for where, held in self._tokens.items() if held[0] != gone}
        self._feed.publish([Change(key)])
