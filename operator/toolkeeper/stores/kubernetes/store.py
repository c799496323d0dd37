"""The store: lists from beliefs that watch and lists keep true, and guarded writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection
from random import Random
from typing import Self

import structlog

from toolkeeper.clock import Clock, SystemClock
from toolkeeper.errors import Refused, ToolkeeperError, Unreachable
from toolkeeper.reconcile.ports import Change, Listing, Resource, Secret
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.events import Event
from toolkeeper.resources.meta import Key
from toolkeeper.stores.feed import Feed, Watch
from toolkeeper.stores.identity import random_token
from toolkeeper.stores.kubernetes import access, documents, secrets_of_users, tokens_of_agents
from toolkeeper.stores.kubernetes.answers import Json
from toolkeeper.stores.kubernetes.api import APPLY_PATCH, FIELD_MANAGER, JSON_PATCH, Api
from toolkeeper.stores.kubernetes.beliefs import Beliefs
from toolkeeper.stores.kubernetes.chronicle import Chronicle
from toolkeeper.stores.kubernetes.feed import WATCH_SECONDS, KopfFeed, Listener
from toolkeeper.stores.kubernetes.figures import Figures
from toolkeeper.stores.kubernetes.hearing import Health, Hearing
from toolkeeper.stores.kubernetes.strangers import Strangers

LIST_EVERY = 300.0
"""Seconds between lists that nothing asked for: how late a change is noticed of which no watch told."""
WRITES = 32
"""Writes of statuses and finalizers at a time: more would only wait in the server, and keep others waiting there."""
OPTIONS = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Ignore"}
"""Of our patches. To be warned of fields that it does not know, the server would read each a second time; nobody heeds
the warning, for what it did not take is seen in its answer."""
LIST_AGAIN = 5.0
"""Seconds after a list that failed."""

log = structlog.get_logger(__name__)


class KubernetesStore:
    """Fits `toolkeeper.reconcile.ports.Store`. Belongs to the event loop that opened it."""

    def __init__(  # noqa: PLR0913 - everything that differs between programs and tests, all with a default
        self,
        *,
        login: access.Login = access.login,
        namespaces: Collection[str] | None = None,
        identity: str = "toolkeeper",
        clock: Clock | None = None,
        random: Random | None = None,
        list_every: float = LIST_EVERY,
        watch_seconds: float = WATCH_SECONDS,
        new_token: Callable[[], str] = random_token,
    ) -> None:
        """`namespaces` None means the whole cluster. `identity` names this process in Events."""
        self.api = Api(login)
        self._namespaces = namespaces
        self._clock = clock or SystemClock()
        self._new_token = new_token
        self._random = random or Random()  # noqa: S311 - spreads load, protects nothing
        self._list_every, self._watch_seconds = list_every, watch_seconds
        self._beliefs = Beliefs()
        self._feed = Feed()
        self._writing = asyncio.Semaphore(WRITES)
        self._unwritten = 0
        self._strangers = Strangers(self._clock)
        self._chronicle = Chronicle(
            self.api, identity=identity, clock=self._clock, busy=lambda: self._unwritten > 0
        )
        self._told: deque[tuple[str, str | None, Json]] = deque()
        self._told_all = True
        self._watching = KopfFeed(
            Listener(self._heard, self._lagged),
            login=login,
            namespaces=namespaces,
            clock=self._clock,
            random=self._random,
            watch_seconds=watch_seconds,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._listing = asyncio.Lock()
        self._due = asyncio.Event()
        self._hearing = Hearing(self._watching, self._clock)

    @classmethod
    async def open(cls, **options: object) -> Self:
        """Start to watch and to list. The first list may still fail; `list` says so."""
        store = cls(**options)  # type: ignore[arg-type]  # the options of __init__
        store.start()
        return store

    def start(self) -> None:
        """Start to watch and to list."""
        self._loop = asyncio.get_running_loop()
        self._watching.start()
        self._tasks = [asyncio.create_task(self._keep_listing()), asyncio.create_task(self._chronicle.run())]

    async def list(self) -> Listing:
        """All objects, as far as the cluster told. Asks it if it never did, or if its last answer was a failure."""
        if not self._hearing.begun or self._hearing.failure:
            await self._list()
        beliefs = self._beliefs
        return Listing(beliefs.resources(), complete=beliefs.complete, problems=beliefs.problems())

    def watch(self) -> Watch:
        """Changes from now on."""
        return self._feed.watch()

    async def write_status(self, resource: Resource) -> Resource:
        """Apply the status to this very version. Raises Conflict, NotFound, Unreachable."""
        known = self._beliefs.get(resource.key)
        if known is not None and _same_version(known, resource) and known.status == resource.status:
            return known
        return await self._write(
            resource,
            f"{documents.path(resource.key)}/status",
            documents.status_body(resource),
            APPLY_PATCH,
            OPTIONS | {"force": "true"},
        )

    async def set_finalizer(self, resource: Resource, *, present: bool) -> Resource:
        """Add or remove our finalizer on this very version. Raises Conflict, NotFound, Unreachable."""
        known = self._beliefs.get(resource.key)
        if known is not None and _same_version(known, resource) and present == known.metadata.held:
            return known
        body = documents.finalizer_body(resource, present=present)
        return await self._write(resource, documents.path(resource.key), body, JSON_PATCH, OPTIONS)

    async def secret(self, namespace: str, name: str) -> Secret:
        """The secret, read now. Raises NotFound, Refused (not marked, not allowed), Unreachable."""
        return await secrets_of_users.read(self.api, namespace, name)

    async def issue_token(self, connection: AgentConnection) -> bool:
        """Give the agent a token if it has none. Raises Refused (the name is taken, not allowed), Unreachable."""
        return await tokens_of_agents.issue(self.api, connection, self._new_token)

    async def emit(self, event: Event) -> None:
        """Record an event, soon; when the cluster does not take it, it is dropped."""
        self._chronicle.note(event)

    def is_quiet(self) -> bool:
        """Whether nothing waits to be written, events included."""
        return self._unwritten == 0 and self._chronicle.is_empty

    def health(self) -> Health:
        """How well the store hears, now."""
        # Its tasks run for ever, so one that is done has failed.
        return self._hearing.health(working=not any(each.done() for each in self._tasks))

    def figures(self) -> Figures:
        """What was counted so far. May be called in any thread."""
        pulse = self._watching.pulse
        return Figures(
            answers=dict(self.api.answers),
            watch_answers=dict(pulse.answers),
            lists=self._hearing.lists,
            gaps=self._watching.gaps,
            restarts=max(0, pulse.starts - 1),
            missed=self._hearing.missed,
            dropped_events=self._chronicle.dropped,
        )

    async def aclose(self) -> None:
        """End every watch, write the last events, close the connections."""
        await self._feed.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._chronicle.flush()
        await asyncio.to_thread(self._watching.stop)
        await self.api.aclose()

    async def _write(
        self, resource: Resource, path: str, body: object, content_type: str, params: dict[str, str]
    ) -> Resource:
        known = self._beliefs.get(resource.key)
        self._unwritten += 1
        with self._strangers.writing(resource.key):
            try:
                async with self._writing:
                    document = await self.api.request(
                        "PATCH", path, body=body, content_type=content_type, params=params
                    )
            except Refused as exc:
                # A permission may come back, and a CustomResourceDefinition be upgraded, without an edit of the object.
                raise Unreachable(str(exc), reason=exc.reason) from exc
            finally:
                self._unwritten -= 1
            if known is None or not _same_version(known, resource):
                return self._wrote(documents.decoded(resource.kind, document), document)
            return self._wrote(documents.rewritten(known, resource, body, document), document)

    def _wrote(self, resource: Resource, document: Json) -> Resource:
        kind = resource.kind
        if resource.metadata.deletion_timestamp is not None and not resource.metadata.finalizers:
            self._publish(self._beliefs.gone(kind, document))
        else:
            self._publish(self._beliefs.seen(kind, document, resource=resource))
        return resource

    def _heard(self, kind: str, type: str | None, document: Json) -> None:
        """In the feed's thread. Many events at once wake the store's loop once."""
        self._told.append((kind, type, document))
        if self._told_all:
            self._told_all = False
            self._soon(self._listen)

    def _listen(self) -> None:
        self._told_all = True  # before the first look: what is told from now on wakes us again
        while self._told:
            self._believe(*self._told.popleft())

    def _lagged(self, kind: str) -> None:
        """In the feed's thread."""
        self._soon(self._due.set)

    def _soon(self, call: object, *arguments: object) -> None:
        assert self._loop is not None, "the feed was started by start()"
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(call, *arguments)  # type: ignore[arg-type]

    def _believe(self, kind: str, type: str | None, document: Json) -> None:
        told = self._beliefs.gone if type == "DELETED" else self._beliefs.seen
        self._publish(self._strangers.judged(told(kind, document)))

    def _publish(self, *changes: Change | None) -> None:
        self._feed.publish([each for each in changes if each is not None])

    async def _keep_listing(self) -> None:
        """List at the start, every few minutes, and whenever the watch had a gap."""
        while True:
            wait = LIST_AGAIN
            try:
                await self._list()
                wait = self._list_every * self._random.uniform(0.8, 1.2)
            except ToolkeeperError:
                pass  # kept by the hearing, and said there
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._due_while_watching()

    async def _due_while_watching(self) -> None:
        """Wait until a list is due: also when the watch went deaf, which is then begun anew."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._watching.deaf_after / 3):
                    await self._due.wait()
                    return
            if self._watching.silent_for() > self._watching.deaf_after:
                log.warning("kubernetes-watch-deaf", seconds=round(self._watching.silent_for()))
                self._watching.restart()
                return

    async def _list(self) -> None:
        """Believe what the cluster shows. Raises Unreachable, also for what is forbidden."""
        async with self._listing:
            self._due.clear()
            asked = self._clock.monotonic()
            try:
                for kind in documents.PLURALS:
                    for namespace in self._namespaces or (None,):
                        await self._list_one(kind, namespace)
            except ToolkeeperError as exc:
                if not self._hearing.failure:
                    log.warning("kubernetes-list-failed", failure=str(exc))
                self._hearing.not_listed(str(exc))
                if isinstance(exc, Unreachable):
                    raise
                raise Unreachable(str(exc), reason="StoreUnreachable") from exc
            if self._hearing.failure:
                log.info("kubernetes-list-succeeds-again")
            self._hearing.listed(asked)

    async def _list_one(self, kind: str, namespace: str | None) -> None:
        items, version = await self.api.whole(documents.collection(kind, namespace))
        changes = self._beliefs.listed(kind, namespace, items, int(version) if version.isdecimal() else 0)
        if self._hearing.begun:
            self._hearing.missed += len(changes)
        self._publish(*map(self._strangers.judged, changes))

    def look_soon(self) -> None:
        """List as soon as possible instead of in a few minutes."""
        self._due.set()

    def believed(self, key: Key) -> Resource | None:
        """The object as it was last read; for tests and for `describe`."""
        return self._beliefs.get(key)


def _same_version(one: Resource, other: Resource) -> bool:
    return (one.metadata.uid, one.metadata.resource_version) == (
        other.metadata.uid,
        other.metadata.resource_version,
    )
