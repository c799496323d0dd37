"""Who leads, by client-go's rules: a record that its holder renews, and that others take when it stays the same.

No two clocks are compared: the times in a record are for people. What counts is how long, on our own monotonic time,
we have seen the record unchanged (to take it), or have not managed to renew it (to give it up).

    lease 12 s     how long a record must stay the same before another takes it
    renew 10 s     how long its holder may fail to renew before it stops
    retry  2 s     between attempts, with jitter
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Protocol

import structlog

from toolkeeper.clock import Clock
from toolkeeper.errors import Conflict, NotFound, ToolkeeperError

LEASE_SECONDS = 12.0
"""client-go waits 15 s. A standby notices the last renewal up to 2.4 s late, and is to lead within 15 s of a death."""
RENEW_SECONDS = 10.0
RETRY_SECONDS = 2.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    """What the cluster says about the lease."""

    holder: str
    """Empty when it was released."""
    version: str
    transitions: int = 0


class Registry(Protocol):
    """Where the record is kept. Every method raises Conflict when somebody was faster, and Unreachable."""

    async def read(self) -> Record:
        """The record. Raises NotFound."""
        ...

    async def create(self, holder: str) -> Record:
        """A new record."""
        ...

    async def renew(self, seen: Record, holder: str) -> Record:
        """The record `seen`, with this holder and a new version."""
        ...


class ElectedLease:
    """Fits `toolkeeper.reconcile.ports.Lease`."""

    def __init__(self, registry: Registry, identity: str, *, clock: Clock, random: Random) -> None:
        """`identity` must be no other process's, nor an earlier process's of the same name."""
        self._registry, self._identity, self._clock, self._random = registry, identity, clock, random
        self._seen: Record | None = None
        self._seen_at = 0.0
        self._renewed_at = 0.0
        self._leads = False
        self._lost = asyncio.Event()
        self._turn = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None

    async def acquire(self) -> None:
        """Wait until this process leads. Asked again while it leads, it renews first: whoever returns does lead."""
        while not await self._attempt():  # noqa: ASYNC110 - the cluster tells nobody
            await asyncio.sleep(min(self._retry(), self._until_abandoned()))
        if self._keeping is None or self._keeping.done():
            self._lost.clear()
            self._keeping = asyncio.create_task(self._keep())

    async def lost(self) -> None:
        """Wait until leadership is gone."""
        await self._lost.wait()

    async def release(self) -> None:
        """Give it up at once, so that a successor need not wait."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
        async with self._turn:
            leads, self._leads = self._leads, False
            self._lost.set()
            if leads and self._seen is not None:
                try:
                    async with asyncio.timeout(RETRY_SECONDS):
                        await self._vacate(self._seen)
                except (ToolkeeperError, TimeoutError) as exc:
                    log.info("lease-not-released", failure=str(exc), free_in=LEASE_SECONDS)

    async def _vacate(self, seen: Record) -> None:
        try:
            self._saw(await self._registry.renew(seen, ""))
        except Conflict:
            # A renewal that was just cut off may have come through all the same.
            newest = await self._registry.read()
            if newest.holder == self._identity:
                self._saw(await self._registry.renew(newest, ""))

    async def _attempt(self) -> bool:
        """One look at the record, and at most one write. Returns whether this process leads now."""
        async with self._turn:
            asked = self._clock.monotonic()
            patience = self._time_left(asked) if self._leads else RENEW_SECONDS
            try:
                async with asyncio.timeout(min(patience, RENEW_SECONDS / 2)):
                    mine = await self._take()
            except (ToolkeeperError, TimeoutError) as exc:
                log.info("lease-not-renewed" if self._leads else "lease-not-taken", failure=str(exc))
                return False
            if not mine:
                self._give_up("another process holds it")
                return False
            self._renewed_at = asked
            self._leads = self._time_left(self._clock.monotonic()) > 0  # unless this process slept meanwhile
            return self._leads

    async def _take(self) -> bool:
        try:
            self._saw(await self._registry.read())
        except NotFound:
            self._saw(await self._registry.create(self._identity))
            return True
        seen = self._seen
        assert seen is not None, "it was just seen"
        if (
            seen.holder not in (self._identity, "")
            and self._clock.monotonic() - self._seen_at < LEASE_SECONDS
        ):
            return False
        try:
            self._saw(await self._registry.renew(seen, self._identity))
        except Conflict:
            # Somebody was faster; unless it was an earlier write of ours whose answer was lost.
            self._saw(await self._registry.read())
            return self._seen is not None and self._seen.holder == self._identity
        return True

    async def _keep(self) -> None:
        """Renew for as long as this process leads."""
        while await self._pauses():
            await self._attempt()
        self._give_up(f"it could not be renewed for {RENEW_SECONDS:.0f} s")

    async def _pauses(self) -> bool:
        """Wait until it is time to renew. Returns whether there is still something to renew."""
        await asyncio.sleep(min(self._retry(), max(0.0, self._time_left(self._clock.monotonic()))))
        return self._leads and self._time_left(self._clock.monotonic()) > 0

    def _saw(self, record: Record) -> None:
        if record != self._seen:
            self._seen, self._seen_at = record, self._clock.monotonic()

    def _until_abandoned(self) -> float:
        """Seconds until the record that was seen may be taken, if that is still to come."""
        left = self._seen_at + LEASE_SECONDS - self._clock.monotonic()
        return left if left > 0 else RETRY_SECONDS

    def _retry(self) -> float:
        return RETRY_SECONDS * self._random.uniform(0.8, 1.2)

    def _time_left(self, now: float) -> float:
        return self._renewed_at + RENEW_SECONDS - now

    def _give_up(self, why: str) -> None:
        if self._leads:
            log.warning("lease-lost", why=why)
        self._leads = False
        if self._keeping is not None:
            self._lost.set()
