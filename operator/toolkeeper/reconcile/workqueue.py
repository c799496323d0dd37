"""The work queue: keyed, coalescing, delayed, with three priorities. A pure core and a thin async shell.

What it promises: a key is handed out to one worker at a time; adding it while it is being worked on hands it out once
more afterwards; adding it twice hands it out once; a stronger priority or an earlier time wins over what was there.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from dataclasses import dataclass, field
from enum import IntEnum
from random import Random

from toolkeeper.clock import Clock
from toolkeeper.reconcile.backoff import Backoff
from toolkeeper.resources.meta import Key

GRAIN = 0.001
"""The shortest sleep in seconds: rounding must not make a timer fire for ever just before its time."""


class Priority(IntEnum):
    """What overtakes what."""

    EDIT = 0
    """A person waits for it."""
    DRIFT = 1
    """The world changed, or a retry is due."""
    RESYNC = 2
    """Nothing is known to have changed."""


@dataclass(slots=True)
class Schedule:
    """Which key is next. Time is an argument; nothing here waits."""

    _ready: dict[Key, Priority] = field(default_factory=dict)
    _order: list[tuple[Priority, int, Key]] = field(default_factory=list)
    _later: dict[Key, tuple[float, Priority]] = field(default_factory=dict)
    _timers: list[tuple[float, int, Key]] = field(default_factory=list)
    _working: dict[Key, Priority | None] = field(default_factory=dict)
    """Key → the priority at which it must run again, if it was added meanwhile."""
    _count: itertools.count[int] = field(default_factory=itertools.count)

    def add(self, key: Key, priority: Priority = Priority.DRIFT) -> None:
        """Due now."""
        if (later := self._later.pop(key, None)) is not None:
            priority = min(priority, later[1])
        if key in self._working:
            again = self._working[key]
            self._working[key] = priority if again is None else min(priority, again)
        elif key not in self._ready or priority < self._ready[key]:
            self._ready[key] = priority
            heapq.heappush(self._order, (priority, next(self._count), key))

    def add_at(self, when: float, key: Key, priority: Priority = Priority.DRIFT) -> None:
        """Due at `when`, unless it is due earlier anyway."""
        if key in self._ready:
            return
        before = self._later.get(key)
        if before is not None and before[0] <= when:
            self._later[key] = (before[0], min(priority, before[1]))
            return
        if before is not None:
            priority = min(priority, before[1])
        self._later[key] = (when, priority)
        heapq.heappush(self._timers, (when, next(self._count), key))

    def take(self, now: float) -> Key | None:
        """The next key, now being worked on; None when nothing is due."""
        self._ripen(now)
        while self._order:
            priority, _, key = heapq.heappop(self._order)
            if self._ready.get(key) == priority:
                del self._ready[key]
                self._working[key] = None
                return key
        return None

    def done(self, key: Key) -> None:
        """The worker is finished with it."""
        again = self._working.pop(key)
        if again is not None:
            self.add(key, again)

    def drop(self, key: Key) -> None:
        """Forget what is planned for it."""
        self._ready.pop(key, None)
        self._later.pop(key, None)
        if key in self._working:
            self._working[key] = None

    def next_time(self) -> float | None:
        """When the earliest delayed key becomes due; None when there is none."""
        while self._timers:
            when, _, key = self._timers[0]
            planned = self._later.get(key)
            if planned is not None and planned[0] == when:
                return when
            heapq.heappop(self._timers)
        return None

    def __len__(self) -> int:
        """Keys that are due and not being worked on."""
        return len(self._ready)

    def _ripen(self, now: float) -> None:
        while (when := self.next_time()) is not None and when <= now:
            key = heapq.heappop(self._timers)[2]
            self.add(key, self._later[key][1])


class WorkQueue:
    """The schedule for asyncio workers, with a back-off per key."""

    def __init__(self, clock: Clock, rng: Random, *, backoff: Backoff | None = None) -> None:
        self._clock, self._rng = clock, rng
        self._backoff = backoff or Backoff()
        self._schedule = Schedule()
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()

    def add(self, key: Key, priority: Priority = Priority.DRIFT, *, after: float = 0.0) -> None:
        """Due after so many seconds."""
        if after > 0:
            self._schedule.add_at(self._clock.monotonic() + after, key, priority)
        else:
            self._schedule.add(key, priority)
        self._changed.set()

    def retry(self, key: Key) -> float:
        """Due again after a back-off that grows with every failure in a row; returns the delay."""
        self._failures[key] = failures = self._failures.get(key, 0) + 1
        delay = self._backoff.delay(failures, self._rng)
        self.add(key, Priority.DRIFT, after=delay)
        return delay

    def forget(self, key: Key) -> None:
        """It worked: the next failure is the first one again."""
        self._failures.pop(key, None)

    def drop(self, key: Key) -> None:
        """Forget everything about a key that no longer exists."""
        self.forget(key)
        self._schedule.drop(key)

    async def get(self) -> Key:
        """The next key, as soon as one is due. The caller must call `done`."""
        while True:
            now = self._clock.monotonic()
            if (key := self._schedule.take(now)) is not None:
                return key
            self._changed.clear()
            when = self._schedule.next_time()
            try:
                async with asyncio.timeout(None if when is None else max(GRAIN, when - now)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        """Finished with `key`; it may be handed out again."""
        self._schedule.done(key)
        self._changed.set()

    def __len__(self) -> int:
        return len(self._schedule)
