"""How changes reach those who watch, within this process.

store ──publish──▶ Feed ──▶ Watch (pending changes, one per object) ──▶ async for change in store.watch()
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Self
from weakref import WeakSet

from toolkeeper.reconcile.ports import Change
from toolkeeper.resources.meta import Key


class Watch:
    """Changes from the moment of its creation on, coalesced per object. Iterating ends after `aclose()`."""

    def __init__(self, look: Callable[[], Awaitable[None]] | None = None, *, every: float = 0.0) -> None:
        """`look` is called every `every` seconds of waiting, to find what other processes changed."""
        self._pending: dict[Key | None, Change] = {}
        self._woken = asyncio.Event()
        self._closed = False
        self._failure: BaseException | None = None
        self._look = look
        self._every = every

    def offer(self, change: Change) -> None:
        """Hand over a change; it merges with a pending one of the same object."""
        pending = self._pending.get(change.key)
        edited = change.edited or (pending is not None and pending.edited)
        self._pending[change.key] = Change(change.key, edited=edited)
        self._woken.set()

    def fail(self, failure: BaseException) -> None:
        """Nothing more will come, and this is why; raised to whoever waits."""
        self._failure = failure
        self._woken.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while not self._pending:
            if self._failure is not None:
                raise self._failure
            if self._closed:
                raise StopAsyncIteration
            await self._wait()
        return self._pending.pop(next(iter(self._pending)))

    async def _wait(self) -> None:
        self._woken.clear()
        if self._look is None:
            await self._woken.wait()
            return
        try:
            async with asyncio.timeout(self._every):
                await self._woken.wait()
        except TimeoutError:
            await self._look()

    async def aclose(self) -> None:
        """End the iteration, after what is pending."""
        self._closed = True
        self._woken.set()


class Feed:
    """Everyone who watches one store. A watch that is dropped without closing disappears by itself."""

    def __init__(self) -> None:
        self._watches: WeakSet[Watch] = WeakSet()

    def watch(self, look: Callable[[], Awaitable[None]] | None = None, *, every: float = 0.0) -> Watch:
        """A new watch; sees what is published from now on."""
        watch = Watch(look, every=every)
        self._watches.add(watch)
        return watch

    def publish(self, changes: Iterable[Change]) -> None:
        """Tell everyone. Only from the event loop's own thread."""
        watches = list(self._watches)
        for change in changes:
            for watch in watches:
                watch.offer(change)

    def fail(self, failure: BaseException) -> None:
        """Nothing more will come."""
        for watch in list(self._watches):
            watch.fail(failure)

    async def aclose(self) -> None:
        """End every watch."""
        for watch in list(self._watches):
            await watch.aclose()
