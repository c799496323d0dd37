"""A store in one SQLite file, for one machine: what `toolkeeper apply` writes to, shared by several processes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self, TypeVar

from toolkeeper.clock import Clock, SystemClock
from toolkeeper.errors import NotFound, ToolkeeperError
from toolkeeper.reconcile.ports import Change, Listing, Resource, Secret
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.events import Event
from toolkeeper.resources.meta import Key
from toolkeeper.stores import journal, objects, overrides
from toolkeeper.stores.credentials import EnvironmentValues, Layers, file_values, no_tokens, not_found
from toolkeeper.stores.database import Database
from toolkeeper.stores.feed import Feed, Watch
from toolkeeper.stores.identity import random_uid
from toolkeeper.stores.writer import Writer

Answer = TypeVar("Answer")

LOOK_EVERY = 0.15
"""Seconds between looks for other processes' writes, while somebody watches."""
REMEDY = "then apply your manifests again; status and events are observed anew"


class SqliteStore:
    """Durable objects, status, events and actions. Own writes are told at once, other processes' within 0.2 s."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock | None = None,
        new_uid: Callable[[], str] = random_uid,
        secrets_dir: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._database = database
        self._clock = clock or SystemClock()
        self._new_uid = new_uid
        self._secrets_dir = secrets_dir
        self._environment = os.environ if environment is None else environment
        self._feed = Feed()
        self._decoder = objects.Decoder()
        self._incarnation = database.incarnation
        self._seen = 0
        self._own: set[int] = set()
        self._looking = asyncio.Lock()
        self._missed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        clock: Clock | None = None,
        new_uid: Callable[[], str] = random_uid,
        secrets_dir: Path | None = None,
        environment: Mapping[str, str] | None = None,
        remedy: str = REMEDY,
    ) -> Self:
        """Open the file, creating it if needed. Raises Invalid (damaged, not ours, newer), Unreachable."""
        database = await Database.open(path, remedy=remedy)
        store = cls(database, clock=clock, new_uid=new_uid, secrets_dir=secrets_dir, environment=environment)
        await database.changed_elsewhere()
        store._seen = await database.read(objects.newest)
        return store

    async def list(self) -> Listing:
        """All objects. A database that never held one knows nothing: its listing is not complete."""

        def work(connection: sqlite3.Connection) -> Listing:
            resources, problems = self._decoder.all(connection, self._database.incarnation)
            known = objects.newest(connection) > 0
            return Listing(resources, complete=known and not problems, problems=problems)

        return await self.read(work)

    def watch(self) -> Watch:
        """Changes from now on, of every process."""
        return self._feed.watch(self._look, every=LOOK_EVERY)

    async def get(self, key: Key) -> Resource:
        """One object. Raises NotFound."""
        found = await self.read(lambda connection: objects.find(connection, key))
        if found is None:
            raise NotFound(f"{key} does not exist")
        return found

    async def apply(self, resource: Resource) -> Resource:
        """Create the object, or give it the spec, labels and annotations of `resource`. Raises Conflict."""
        return await self.change(lambda writer: writer.apply(resource))

    async def patch(self, key: Key, verb: str, value: str, *, actor: str = "") -> Resource:
        """Do what a verb of `overrides.PATCHES` says, lastingly. Raises NotFound, Conflict, Invalid."""

        def work(writer: Writer) -> Resource:
            current = writer.current(key)
            overrides.check(current, verb, value)
            asked = overrides.Override(key, verb, value, overrides.spec_hash(current), actor)
            return writer.apply(overrides.overridden(current, [asked]))

        return await self.change(work)

    async def delete(self, key: Key) -> None:
        """Delete the object, or mark it for deletion while a finalizer holds it. Raises NotFound."""
        await self.change(lambda writer: writer.delete(key))

    async def write_status(self, resource: Resource) -> Resource:
        """Write the status. Raises Conflict, NotFound, Unreachable."""
        return await self.change(lambda writer: writer.status(resource))

    async def set_finalizer(self, resource: Resource, *, present: bool) -> Resource:
        """Add or remove our finalizer. Raises Conflict, NotFound, Unreachable."""
        return await self.change(lambda writer: writer.finalizer(resource, present=present))

    async def secret(self, namespace: str, name: str) -> Secret:
        """The secret's files and environment variables. Raises NotFound, Refused."""
        values = self.outside_values(namespace, name)
        if not values:
            raise self.no_secret(namespace, name)
        return Secret(values)

    def no_secret(self, namespace: str, name: str, *, declarable: bool = False) -> NotFound:
        """The error that says where the secret could be put."""
        return not_found(namespace, name, folder=self._secrets_dir, declarable=declarable)

    def outside_values(self, namespace: str, name: str) -> Mapping[str, str]:
        """What files and environment variables say of a secret, possibly nothing. Raises Refused."""
        files = {} if self._secrets_dir is None else file_values(self._secrets_dir, namespace, name)
        return Layers(files, EnvironmentValues(name, self._environment))

    async def issue_token(self, connection: AgentConnection) -> bool:
        """Raises Refused: this store keeps no tokens."""
        raise no_tokens()

    async def emit(self, event: Event) -> None:
        """Record an event; one that cannot be written is dropped."""
        at = event.at or self._clock.now()
        try:
            await self._database.write(lambda connection: journal.keep_event(connection, event, at))
        except ToolkeeperError:
            return

    async def events(self, key: Key | None = None, *, limit: int = 100) -> tuple[journal.Recorded, ...]:
        """The newest events, of one object or of all, oldest first."""
        return await self.read(lambda connection: journal.events(connection, key, limit))

    async def record(self, action: journal.Action) -> None:
        """Record a control action."""
        at = action.at or self._clock.now()
        await self._database.write(lambda connection: journal.keep_action(connection, action, at))

    async def actions(self, key: Key | None = None, *, limit: int = 100) -> tuple[journal.Action, ...]:
        """The newest control actions, on one object or on all, oldest first."""
        return await self.read(lambda connection: journal.actions(connection, key, limit))

    async def read(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Run `work` on one consistent state, in the database's own thread."""
        return await self._database.read(work)

    async def change(self, work: Callable[[Writer], Answer]) -> Answer:
        """Run `work` as one transaction, then tell what it changed."""
        now = self._clock.now()

        def transaction(connection: sqlite3.Connection) -> tuple[Answer, dict[int, Change]]:
            writer = Writer(connection, now=now, new_uid=self._new_uid)
            return work(writer), writer.changes

        def tell(answer: tuple[Answer, dict[int, Change]]) -> None:
            self._own.update(answer[1])
            self._feed.publish(answer[1].values())

        return (await self._database.write(transaction, committed=tell))[0]

    def tell(self, change: Change) -> None:
        """Tell those who watch of something that is not in the database."""
        self._feed.publish([change])

    def fail(self, failure: BaseException) -> None:
        """Those who watch will hear nothing more, and this is why."""
        self._feed.fail(failure)

    @property
    def incarnation(self) -> int:
        """Rises when the file was found deleted or replaced."""
        return self._database.incarnation

    async def _look(self) -> None:
        async with self._looking:
            try:
                await self._tell_what_others_wrote()
            except ToolkeeperError:
                # Listing says what is wrong. Here, changes may have been missed: whoever watches lists again later.
                self._missed = True
            else:
                if self._missed:
                    self._missed = False
                    self._feed.publish([Change(None)])

    async def _tell_what_others_wrote(self) -> None:
        own = frozenset(self._own)
        if not await self._database.changed_elsewhere():
            # Nobody else wrote up to now, so everything up to our own last write of before is known.
            self._seen = max(self._seen, *own, 0)
            self._own -= own
            return
        if self._incarnation != self._database.incarnation:
            self._incarnation, self._seen = self._database.incarnation, 0
            self._own.clear()
            self._feed.publish([Change(None)])
        seen = self._seen
        newest, changes = await self.read(
            lambda connection: (objects.newest(connection), objects.changes_since(connection, seen))
        )
        self._feed.publish(change for version, change in changes.items() if version not in self._own)
        self._seen = newest
        self._own = {version for version in self._own if version > newest}

    async def aclose(self) -> None:
        """End every watch and close the file."""
        await self._feed.aclose()
        await self._database.aclose()
