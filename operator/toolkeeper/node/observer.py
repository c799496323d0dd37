"""Keeps the ledger equal to what the runtime has: its changes as they happen, and a slow look at everything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from toolkeeper.errors import ToolkeeperError, Unreachable
from toolkeeper.node.faults import trace
from toolkeeper.node.ledger import Ledger
from toolkeeper.node.runtime import Runtime
from toolkeeper.telemetry.logs import Log

DEBOUNCE_SECONDS = 0.015
"""Removing a container makes Docker say four things within a few milliseconds."""
RESYNC_SECONDS = 60.0
LONGEST_BACKOFF = 2.0
EVERYTHING = ""


class Observer:
    """Two tasks: one collects names that changed, one looks at them, but for those that others look at.

    Making a container is a handful of changes, and a look at each would cost more than the making: whoever makes it
    `will_look_at` it, or has looked since.
    """

    def __init__(
        self, runtime: Runtime, ledger: Ledger, log: Log, *, will_look_at: Callable[[str], bool]
    ) -> None:
        self._runtime = runtime
        self._ledger = ledger
        self._log = log
        self._will_look_at = will_look_at
        self._dirty: dict[str, int] = {}
        """Name → the number of looks that had begun when it changed."""
        self._some = asyncio.Event()
        self.looked = asyncio.Event()
        """Set after the first look at everything."""

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen())
            group.create_task(self._look())

    async def _listen(self) -> None:
        backoff = 0.1
        while True:
            try:
                async for name in self._runtime.changes():
                    backoff = 0.1
                    self._note(name)
            except ToolkeeperError as error:
                self._ledger.runtime_is_down(str(error))
            except Exception as error:  # noqa: BLE001 - the outermost turn of the feed; the slow look goes on
                self._log.error("the runtime's changes cannot be followed", trace=trace(error))
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF)
            self._note(EVERYTHING)

    def _note(self, name: str) -> None:
        self._dirty[name] = self._ledger.looks
        self._some.set()

    async def _look(self) -> None:
        backoff = 0.1
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(RESYNC_SECONDS):
                    await self._some.wait()
            await asyncio.sleep(DEBOUNCE_SECONDS)
            changes, self._dirty = self._dirty or {EVERYTHING: self._ledger.looks}, {}
            self._some.clear()
            try:
                await self._look_at(changes)
                backoff = 0.1
            except Unreachable as error:
                self._ledger.runtime_is_down(str(error))
                await self._again(changes, backoff)
                backoff = min(backoff * 2, LONGEST_BACKOFF)
            except Exception as error:  # noqa: BLE001 - the outermost turn of the look; one container is not the runtime
                self._log.error("looking at the runtime failed unexpectedly", trace=trace(error))
                await self._again(changes, LONGEST_BACKOFF)

    async def _again(self, names: Iterable[str], backoff: float) -> None:
        await asyncio.sleep(backoff)
        for name in names:
            self._note(name)

    async def _look_at(self, changes: Mapping[str, int]) -> None:
        if EVERYTHING in changes or not self._ledger.runtime_ok:
            look = self._ledger.look_begins()
            sight = await self._runtime.look()
            self._ledger.host(self._runtime.name, self._runtime.features, await self._runtime.capacity())
            self._ledger.saw(sight, look)
            self.looked.set()
            return
        stale = (
            name
            for name in sorted(changes)
            if not self._will_look_at(name) and not self._ledger.saw_since(name, changes[name])
        )
        await asyncio.gather(*(self._look_at_one(name) for name in stale))

    async def _look_at_one(self, name: str) -> None:
        look = self._ledger.look_begins()
        self._ledger.saw_one(name, await self._runtime.look_at(name), look)
