"""The operator: watches stores and toolboxes, and lets every change reach the pass that it concerns.

store.watch ─► relist ─► inventory ─┐                       ┌─► pass over a toolbox
toolboxes   ─► observations ────────┼─► placement ─► queue ─┼─► status of a server that is placed nowhere
timers, secrets ────────────────────┘                       └─► status of a connection
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random

from toolkeeper.clock import Clock
from toolkeeper.errors import Fenced, ToolkeeperError
from toolkeeper.planning.world import Policy
from toolkeeper.reconcile.backoff import jittered
from toolkeeper.reconcile.executor import Executor
from toolkeeper.reconcile.gathering import Gathering
from toolkeeper.reconcile.homes import Homes
from toolkeeper.reconcile.inventory import Difference, Inventory
from toolkeeper.reconcile.keyring import Keyring
from toolkeeper.reconcile.leadership import Leadership
from toolkeeper.reconcile.planner import Planner
from toolkeeper.reconcile.ports import Change, Lease, Resource, Store, ToolboxClient
from toolkeeper.reconcile.recorder import Recorder, Telemetry
from toolkeeper.reconcile.settings import OperatorSettings
from toolkeeper.reconcile.statuses import Statuses, binds
from toolkeeper.reconcile.tenancy import Tenancy
from toolkeeper.reconcile.tokens import LOOK_EVERY
from toolkeeper.reconcile.toolbox_pass import Result, ToolboxPass
from toolkeeper.reconcile.workqueue import Priority, WorkQueue
from toolkeeper.reconcile.writing import Writing
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox

STORE = Key("Store", "", "")
"""The work of listing the store again."""
SHARE = 20.0
"""Listings follow each other after so many times as long as one takes."""
PLACEMENT = Key("Placement", "", "")
"""The work of placing servers by what was seen since."""


class Operator:
    """One operator process. `run` returns only by cancellation, or raises Fenced when another operator leads."""

    def __init__(  # noqa: PLR0913 - everything that differs between programs and tests
        self,
        store: Store,
        connect: Callable[[Toolbox], ToolboxClient],
        lease: Lease,
        *,
        policy: Policy,
        digest_key: bytes,
        clock: Clock,
        rng: Random,
        planner: Planner | None = None,
        telemetry: Telemetry | None = None,
        settings: OperatorSettings | None = None,
    ) -> None:
        self._store, self._clock, self._rng = store, clock, rng
        self._settings = settings = settings or OperatorSettings()
        self._planner = planner or Planner()
        self._recorder = Recorder(telemetry or Telemetry(), clock, installation=policy.installation)
        self._queue = WorkQueue(clock, rng, backoff=settings.backoff)
        self._inventory = Inventory()
        self._keyring = Keyring(store, digest_key, self._rotated, clock=clock, rng=rng)
        self._leadership = Leadership(lease, policy.installation)
        self._executor = Executor(clock=clock, rng=rng, settings=settings.executor)
        self._homes = Homes(
            inventory=self._inventory,
            place=self._planner.place,
            policy=policy,
            connect=connect,
            concerns=self._concerns,
            clock=clock,
            rng=rng,
            settings=settings.watch,
            broken=self._recorder.failed,
            later=lambda seconds: self._queue.add(PLACEMENT, after=seconds),
            polled=self._recorder.polled,
        )
        self._gathering = Gathering(
            inventory=self._inventory,
            homes=self._homes,
            keyring=self._keyring,
            render=self._planner.render,
            policy=policy,
            clock=clock,
        )
        self._pass = ToolboxPass(
            store=store,
            inventory=self._inventory,
            homes=self._homes,
            gathering=self._gathering,
            planner=self._planner,
            keyring=self._keyring,
            executor=self._executor,
            leadership=self._leadership,
            tenancy=Tenancy(
                store=store,
                inventory=self._inventory,
                homes=self._homes,
                recorder=self._recorder,
                clock=clock,
                last_call=settings.last_call,
            ),
            recorder=self._recorder,
            writing=Writing(
                store=store,
                inventory=self._inventory,
                recorder=self._recorder,
                wrote=self._wrote,
                clock=clock,
            ),
            relist=self._relist,
            clock=clock,
        )
        self._statuses = Statuses(store, self._inventory, self._homes, self._planner, self._recorder, clock)
        self._listing = asyncio.Lock()
        self._rested_at = 0.0
        self._slots = asyncio.Semaphore(settings.passes)

    async def run(self) -> None:
        """Lead when it is our turn, and keep everything as it was declared until cancelled."""
        await self._leadership.acquire()
        self._recorder.leads(True)
        try:
            async with asyncio.TaskGroup() as tasks:
                self._homes.tasks = tasks
                tasks.create_task(self._leadership.hold())
                tasks.create_task(self._follow())
                tasks.create_task(self._keyring.run())
                tasks.create_task(self._dispatch(tasks))
        except* Fenced as fenced:
            raise Fenced(str(fenced.exceptions[0])) from fenced
        finally:
            self._recorder.leads(False)
            self._keyring.close()
            with suppress(TimeoutError, ToolkeeperError):
                async with asyncio.timeout(self._settings.farewell):
                    await self._leadership.release()

    # What comes in.

    async def _follow(self) -> None:
        """Every change of the store, for ever; a feed that breaks is taken up again after a listing."""
        failures = 0
        while True:
            try:
                changes = self._store.watch()
                self._queue.add(STORE, Priority.EDIT)
                async for change in changes:
                    failures = 0
                    self._heard(change)
            except Exception as error:  # noqa: BLE001 - an outermost turn: a broken feed is taken up again
                self._recorder.store_failed("watch", error)
            failures += 1
            await asyncio.sleep(self._settings.backoff.delay(failures, self._rng))

    def _heard(self, change: Change) -> None:
        if change.key is None:
            self._keyring.refresh()
        if change.edited:
            wait = self._rested_at - self._clock.monotonic()
            self._queue.add(STORE, Priority.EDIT, after=max(0.0, wait))

    def _rotated(self, namespace: str, secret: str) -> None:
        """A secret that somebody uses has another value now, or none."""
        for key, server in self._inventory.servers.items():
            if key.namespace == namespace and any(name == secret for name, _ in self._gathering.uses(server)):
                self._concerns(key, Priority.EDIT)

    def _concerns(self, key: Key, priority: Priority) -> None:
        """Something happened to this resource: whoever looks after it should look."""
        if key.kind == "MCPServer":
            for toolbox in self._homes.concerned_with(key):
                self._queue.add(toolbox, priority)
            placement = self._homes.placement(key)
            if placement is not None and placement.toolbox is None:
                self._queue.add(key, priority)
        else:
            self._queue.add(key, priority)

    def _wrote(self, resource: Resource) -> None:
        """It is another than before: connections say whether their server is ready and their toolbox admits them."""
        for key, connection in self._inventory.connections.items():
            if binds(connection, resource):
                self._queue.add(key)

    # What is done.

    async def _dispatch(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            key = await self._queue.get()
            await self._slots.acquire()
            tasks.create_task(self._work(key))

    async def _work(self, key: Key) -> None:
        began, outcome = self._clock.monotonic(), "done"
        try:
            result = await self._handle(key)
            if result.relist:
                self._queue.add(STORE)
            if result.after is not None:
                self._queue.add(key, after=result.after)
            if result.again:
                outcome = "again"
                self._queue.retry(key)
            else:
                self._queue.forget(key)
        except Fenced:
            raise
        except ToolkeeperError as error:
            outcome = "failed"
            self._recorder.store_failed(str(key), error)
            self._queue.retry(key)
        except Exception as error:  # noqa: BLE001 - the outermost turn: one broken resource must not stop the others
            outcome = "broken"
            self._recorder.failed(key, error)
            self._queue.retry(key)
        finally:
            self._queue.done(key)
            self._slots.release()
            self._recorder.passed(key, outcome, self._clock.monotonic() - began, len(self._queue))

    async def _handle(self, key: Key) -> Result:
        match key.kind:
            case "Store":
                sure = await self._relist()
                pause = self._settings.resync if sure else self._settings.doubt
                self._queue.add(STORE, Priority.RESYNC, after=jittered(pause, self._rng))
                return Result()
            case "Placement":
                self._homes.placements()
                return Result()
            case "Toolbox":
                if key in self._inventory.toolboxes:
                    self._queue.add(key, Priority.RESYNC, after=jittered(self._settings.resync, self._rng))
                return await self._pass.run(key)
            case "MCPServer":
                return Result(relist=not await self._statuses.server(key))
            case _:
                return await self._connection(key)

    async def _relist(self) -> bool:
        """List the store now; whether what it shows is everything. Raises Unreachable."""
        async with self._listing:
            began, at = self._inventory.begin(), self._clock.monotonic()
            try:
                async with asyncio.timeout(self._settings.list_patience):
                    listing = await self._store.list()
            except (ToolkeeperError, TimeoutError) as error:
                # What we know may be old by now, so an absence means nothing.
                self._inventory.complete = False
                self._recorder.store_failed("list", error)
                self._queue.retry(STORE)
                return False
            difference = self._inventory.take(listing, began)
            self._recorder.listed(listing.problems)
            self._apply(difference)
            now = self._clock.monotonic()
            # A thousand edits in a second are read together, not each with all that was there before.
            self._rested_at = now + min(self._settings.pace, SHARE * (now - at))
            return listing.complete

    async def _connection(self, key: Key) -> Result:
        connection = self._inventory.connections.get(key)
        if connection is not None and connection.spec.active:
            self._queue.add(key, Priority.RESYNC, after=jittered(LOOK_EVERY, self._rng))
        expires = None if connection is None else connection.spec.expires_at
        if expires is not None:
            # The wall clock may jump: a long wait is cut into short ones.
            left = (expires - self._clock.now()).total_seconds()
            if left > 0:
                self._queue.add(key, after=min(left, self._settings.resync))
        return Result(relist=not await self._statuses.connection(key))

    def _apply(self, difference: Difference) -> None:
        self._recorder.noticed(difference)
        for gone in difference.removed:
            self._queue.drop(gone.key)
            if isinstance(gone, MCPServer):
                self._gathering.forget(gone.key)
                for toolbox in self._homes.concerned_with(gone.key):
                    self._queue.add(toolbox, Priority.EDIT)
        for toolbox in self._homes.follow(difference):
            self._recorder.left(toolbox)
            self._executor.forget(toolbox)
            self._leadership.forget(toolbox)
        if difference.removed:
            self._homes.placements()  # who lived on a toolbox that is gone has to say so; who waited for room gets it
        for each in difference.changed:
            self._concerns(each.key, Priority.EDIT)
        for each in (*difference.changed, *difference.removed):
            self._wrote(each)
