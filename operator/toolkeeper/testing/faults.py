"""What goes wrong between an operator and the world: crashes, pauses, lost and late messages, old and partial reads.

A `Process` stands for one operator process. Everything it does to the outside goes through `Process.call`, where it can
be stopped dead before or after any side effect, or put to sleep like a process that the kernel stopped.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeVar

from toolkeeper.errors import ToolkeeperError, Unreachable
from toolkeeper.planning.observed import Snapshot
from toolkeeper.reconcile.ports import (
    Change,
    Claim,
    InstanceRequest,
    Listing,
    ProbeCredential,
    Resource,
    Secret,
    Store,
    ToolboxClient,
)
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.events import Event
from toolkeeper.resources.meta import Key

T = TypeVar("T")
Where = Literal["store", "host"]
Mishap = Literal["crash before", "crash after", "lost request", "lost reply", "delay", "twice"]
MISHAPS: tuple[Mishap, ...] = ("crash before", "crash after", "lost request", "lost reply", "delay", "twice")


@dataclass(slots=True)
class Armed:
    """A mishap that waits for its moment: the next side effect, or the one after so many others."""

    mishap: Mishap
    where: Where | None = None
    """None: whichever comes first."""
    skip: int = 0
    seconds: float = 5.0
    """Of a delay."""


@dataclass(slots=True)
class Process:
    """One operator process, as long as it lives."""

    name: str
    armed: list[Armed] = field(default_factory=list)
    alive: bool = True
    on_crash: Callable[[], None] = lambda: None
    asleep: asyncio.Future[None] | None = None

    def sleep(self) -> None:
        """Stop it as SIGSTOP does: nothing it says gets out, nothing that is said gets in."""
        if self.asleep is None:
            self.asleep = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        """Let it go on, as if no time had passed."""
        if self.asleep is not None:
            self.asleep.set_result(None)
            self.asleep = None

    def crash(self) -> None:
        """Kill it: nothing it would still say gets out."""
        if self.alive:
            self.alive = False
            self.wake()
            self.on_crash()

    async def gate(self) -> None:
        """Pass only while alive and awake."""
        while self.asleep is not None:
            await asyncio.shield(self.asleep)
        if not self.alive:
            raise asyncio.CancelledError

    async def read(self, what: Callable[[], Awaitable[T]]) -> T:
        """Something without an effect."""
        await self.gate()
        try:
            return await what()
        finally:
            await self.gate()

    async def call(self, where: Where, what: Callable[[], Awaitable[T]]) -> T:
        """A side effect, with the mishap that is due, if any."""
        await self.gate()
        armed = self._due(where)
        mishap = None if armed is None else armed.mishap
        if mishap == "crash before":
            self.crash()
        if mishap == "lost request":
            raise Unreachable("the request was lost")
        if armed is not None and mishap == "delay":
            await asyncio.sleep(armed.seconds)
        await self.gate()
        result = await what()
        if mishap == "twice":
            await _again(what)
        if mishap == "crash after":
            self.crash()
        await self.gate()
        if mishap == "lost reply":
            raise Unreachable("the reply was lost")
        return result

    def _due(self, where: Where) -> Armed | None:
        for armed in self.armed:
            if armed.where in (None, where):
                if armed.skip == 0:
                    self.armed.remove(armed)
                    return armed
                armed.skip -= 1
        return None


async def _again(what: Callable[[], Awaitable[object]]) -> None:
    try:
        await what()
    except ToolkeeperError:
        return


@dataclass(slots=True)
class StoreFaults:
    """How reading the store goes wrong at the moment; shared by all processes."""

    unreachable: bool = False
    hidden: frozenset[Key] = frozenset()
    """What listings leave out, saying so (`complete=False`)."""
    empty: bool = False
    """The source vanished: nothing is listed, and that it is incomplete is said."""
    old_listings: int = 0
    """So many listings to come show the past."""
    deaf: bool = False
    """Changes are dropped."""
    muddled: bool = False
    """Changes come late, twice, and in another order."""
    history: deque[tuple[Resource, ...]] = field(default_factory=lambda: deque(maxlen=12))
    """What the store held after each of its latest changes."""

    def clear(self) -> None:
        """Everything works again."""
        self.unreachable = self.empty = self.deaf = self.muddled = False
        self.hidden, self.old_listings = frozenset(), 0


class FaultyStore:
    """A store as one process sees it. Fits `reconcile.ports.Store`."""

    def __init__(self, store: Store, process: Process, faults: StoreFaults, rng: Random) -> None:
        self._store, self._process, self._faults, self._rng = store, process, faults, rng

    async def list(self) -> Listing:
        """A listing: true, old, partial or empty."""
        return await self._process.read(self._list)

    async def _list(self) -> Listing:
        faults = self._faults
        self._reach()
        if faults.empty:
            return Listing((), complete=False)
        listing = await self._store.list()
        if faults.old_listings > 0 and faults.history:
            faults.old_listings -= 1
            return Listing(self._rng.choice(faults.history))
        if faults.hidden:
            kept = tuple(each for each in listing.resources if each.key not in faults.hidden)
            return Listing(kept, complete=False)
        return listing

    async def watch(self) -> AsyncIterator[Change]:
        """Changes: all, none, or muddled."""
        held: list[Change] = []
        changes = self._store.watch()
        async for change in changes:
            await self._process.gate()
            if self._faults.deaf:
                continue
            if self._faults.muddled and self._rng.random() < 0.5:
                held.append(change)
                continue
            yield change
            self._rng.shuffle(held)
            for late in held:
                yield late
                if self._faults.muddled:
                    yield late
            held.clear()

    async def write_status(self, resource: Resource) -> Resource:
        return await self._process.call("store", lambda: self._reached(self._store.write_status(resource)))

    async def set_finalizer(self, resource: Resource, *, present: bool) -> Resource:
        return await self._process.call(
            "store", lambda: self._reached(self._store.set_finalizer(resource, present=present))
        )

    async def secret(self, namespace: str, name: str) -> Secret:
        return await self._process.read(lambda: self._reached(self._store.secret(namespace, name)))

    async def issue_token(self, connection: AgentConnection) -> bool:
        return await self._process.call("store", lambda: self._reached(self._store.issue_token(connection)))

    async def emit(self, event: Event) -> None:
        await self._process.read(lambda: self._store.emit(event))

    async def _reached(self, call: Awaitable[T]) -> T:
        try:
            self._reach()
        except Unreachable:
            _drop(call)
            raise
        return await call

    def _reach(self) -> None:
        if self._faults.unreachable:
            raise Unreachable("the store does not answer", reason="StoreUnreachable")


class FaultyClient:
    """A toolbox as one process sees it. Fits `reconcile.ports.ToolboxClient`.

    `stale` makes it show the state as it was some answers ago, for so many answers.
    """

    def __init__(self, toolbox: ToolboxClient, process: Process, rng: Random) -> None:
        self._toolbox, self._process, self._rng = toolbox, process, rng
        self._past: deque[Snapshot] = deque(maxlen=4)
        self.stale = 0

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        snapshot = await self._process.read(lambda: self._toolbox.state(installation, since=since, wait=wait))
        if self.stale > 0 and self._past:
            self.stale -= 1
            return self._rng.choice(self._past)
        self._past.append(snapshot)
        return snapshot

    async def claim(self, installation: str, expected_epoch: int) -> Claim:
        return await self._process.call("host", lambda: self._toolbox.claim(installation, expected_epoch))

    async def create(self, claim: Claim, container: str, request: InstanceRequest) -> None:
        await self._process.call("host", lambda: self._toolbox.create(claim, container, request))

    async def start(self, claim: Claim, container: str) -> None:
        await self._process.call("host", lambda: self._toolbox.start(claim, container))

    async def stop(self, claim: Claim, container: str, *, drain: int) -> None:
        await self._process.call("host", lambda: self._toolbox.stop(claim, container, drain=drain))

    async def restart(self, claim: Claim, container: str, *, run_id: str) -> None:
        await self._process.call("host", lambda: self._toolbox.restart(claim, container, run_id=run_id))

    async def remove(self, claim: Claim, container: str, *, container_id: str, drain: int) -> None:
        await self._process.call(
            "host", lambda: self._toolbox.remove(claim, container, container_id=container_id, drain=drain)
        )

    async def remove_volume(self, claim: Claim, volume: str) -> None:
        await self._process.call("host", lambda: self._toolbox.remove_volume(claim, volume))

    async def give_credential(
        self, claim: Claim, container: str, credential: ProbeCredential, *, container_id: str
    ) -> None:
        await self._process.call(
            "host",
            lambda: self._toolbox.give_credential(claim, container, credential, container_id=container_id),
        )

    async def take_credential(self, claim: Claim, container: str, *, container_id: str) -> None:
        await self._process.call(
            "host", lambda: self._toolbox.take_credential(claim, container, container_id=container_id)
        )

    def logs(self, container: str, *, tail: int, follow: bool) -> AsyncIterator[str]:
        return self._toolbox.logs(container, tail=tail, follow=follow)

    async def aclose(self) -> None:
        """Nothing to give back."""


class LeaseOffice:
    """Where operators of one installation get their lease: a row with a holder and an end. Seconds throughout."""

    def __init__(self, *, lasts: float = 15.0, renewed: float = 5.0) -> None:
        self.lasts, self.renewed = lasts, renewed
        self.holder: Process | None = None
        self.until = 0.0

    def take(self, process: Process, now: float) -> bool:
        """Give it to `process`, if it is free or already its own."""
        if self.holder is not None and self.holder is not process and now < self.until:
            return False
        self.holder, self.until = process, now + self.lasts
        return True


class FakeLease:
    """A lease as one process sees it. Fits `reconcile.ports.Lease`.

    It is noticed to be lost up to `unlucky` seconds late: that is what fencing is for.
    """

    def __init__(self, office: LeaseOffice, process: Process, *, unlucky: float = 0.0) -> None:
        self._office, self._process, self._unlucky = office, process, unlucky
        self._renewed_at = float("-inf")

    async def acquire(self) -> None:
        while not await self._process.read(self._renew):  # noqa: ASYNC110 - the office tells nobody
            await asyncio.sleep(1.0)

    async def lost(self) -> None:
        now = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._office.renewed)
            await self._process.gate()
            if now() - self._renewed_at > self._office.lasts * 2 / 3 or not await self._renew():
                break
        await asyncio.sleep(self._unlucky)

    async def release(self) -> None:
        await self._process.gate()
        if self._office.holder is self._process:
            self._office.until = 0.0

    async def _renew(self) -> bool:
        now = asyncio.get_running_loop().time()
        if not self._office.take(self._process, now):
            return False
        self._renewed_at = now
        return True


def _drop(call: Awaitable[object]) -> None:
    if asyncio.iscoroutine(call):
        call.close()
