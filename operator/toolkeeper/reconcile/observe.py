"""Watching one toolbox: a single long poll after another, and the latest observation for whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random

from toolkeeper.clock import Clock
from toolkeeper.errors import Refused, ToolkeeperError
from toolkeeper.errors import Unreachable as NoAnswer
from toolkeeper.planning.observed import Observation, Snapshot, Unreachable
from toolkeeper.reconcile.backoff import Backoff
from toolkeeper.reconcile.ports import ToolboxClient

ROUNDING = 0.01
"""Seconds: an answer that comes so little before the look that was asked for is that look."""
NEVER_SEEN = Unreachable("NeverSeen", "the toolbox has not answered yet")


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """How a toolbox is watched. Seconds throughout."""

    wait: float = 30.0
    """Of one long poll."""
    grace: float = 5.0
    """For an answer, beyond the wait."""
    echo: float = 0.5
    """How long a poll in flight may take to show what was just done, before it is asked anew."""
    spread: float = 0.01
    """Between the first polls of toolboxes that are found at the same time, on average."""
    doubts: int = 2
    """Polls in a row that must fail before a toolbox that answered counts as unreachable."""
    backoff: Backoff = field(default_factory=lambda: Backoff(first=1.0, cap=30.0, floor=0.2))
    """Between polls of a toolbox that does not answer."""
    pace: float = 1.0
    """Between polls of a toolbox that answers long polls at once although nothing changed."""


class Watch:
    """The latest observation of one toolbox, kept fresh by one poll at a time (so answers cannot overtake each other).

    `changed` is called when there is something new to decide on: another revision, the first answer, the loss of one,
    and every look that was asked for by `wake` or `acting`. `polled` is called with the outcome of each poll. `accept`
    raises Refused for a snapshot that must not count.
    """

    def __init__(  # noqa: PLR0913 - whom it tells, and what it is told; all but three with a default
        self,
        connect: Callable[[], ToolboxClient],
        installation: str,
        changed: Callable[[], None],
        *,
        clock: Clock,
        rng: Random,
        settings: WatchSettings | None = None,
        polled: Callable[[str], None] = lambda outcome: None,
        accept: Callable[[Snapshot], None] = lambda snapshot: None,
    ) -> None:
        self._connect, self._installation, self._changed = connect, installation, changed
        self._polled, self._accept = polled, accept
        self._clock, self._rng = clock, rng
        self._settings = settings or WatchSettings()
        self._client: ToolboxClient | None = None
        self._timeout: asyncio.Timeout | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._look_at: float | None = None
        self._started = self._finished = self._needed = 0
        self._failures = 0
        self._known = ""
        self.observation: Observation = NEVER_SEEN
        self.last_seen: Snapshot | None = None
        """The latest one that says anything about containers."""
        self.observed_at = clock.monotonic()
        """When the latest observation came."""

    @property
    def client(self) -> ToolboxClient | None:
        """The connection, once there is one."""
        return self._client

    @property
    def settled(self) -> bool:
        """Whether the observation is newer than everything that was done here, and not in doubt."""
        return self._finished >= self._needed and (
            self._failures == 0 or not isinstance(self.observation, Snapshot)
        )

    def answers(self) -> bool:
        """Whether the latest poll was answered, and said something about containers."""
        return self._failures == 0 and isinstance(self.observation, Snapshot) and self.observation.runtime_ok

    @contextmanager
    def acting(self) -> Iterator[None]:
        """While something is done to the toolbox, no poll begins; after it, only a poll that begins then counts."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()
            self._needed = self._started + 1
            self._interrupt(self._settings.echo)

    def wake(self, after: float | None) -> None:
        """Look again after so many seconds, and then decide again; None = only when something changes."""
        self._look_at = None if after is None else self._clock.monotonic() + max(0.0, after)
        if after is not None:
            self._interrupt(max(0.0, after))

    async def run(self, after: float = 0.0) -> None:
        """Watch until cancelled, beginning after so many seconds."""
        await asyncio.sleep(after)
        try:
            while True:
                await self._turn()
        finally:
            if self._client is not None:
                await self._client.aclose()

    async def _turn(self) -> None:
        await self._free.wait()
        self._started += 1
        number, began = self._started, self._clock.monotonic()
        fresh = self._due() or self._needed > self._finished or self._failures > 0
        try:
            snapshot = await self._poll(fresh, began)
        except TimeoutError:
            interrupted = self._clock.monotonic() - began < self._patience(fresh)
            if not interrupted:
                await self._failed(
                    Unreachable("ToolboxUnreachable", "the toolbox did not answer in time"), number
                )
        except Refused as refused:
            self._failures = self._settings.doubts
            await self._failed(Unreachable(refused.reason, str(refused)), number)
        except NoAnswer as silence:
            await self._failed(Unreachable(silence.reason, str(silence)), number)
        except ToolkeeperError as error:
            await self._failed(Unreachable("ToolboxUnreachable", str(error)), number)
        else:
            self._answered(snapshot, number)
            early = self._clock.monotonic() - began < self._settings.pace
            if early and not fresh and snapshot.revision == self._known and self._look_at is None:
                await asyncio.sleep(self._settings.pace)
            self._known = snapshot.revision

    async def _poll(self, fresh: bool, began: float) -> Snapshot:
        if self._client is None:
            self._client = self._connect()
        known = self.observation
        since = known.revision if isinstance(known, Snapshot) and not fresh else ""
        wait = self._settings.wait if since else 0.0
        if self._look_at is not None:
            wait = min(wait, max(0.0, self._look_at - began))
        try:
            async with asyncio.timeout(self._patience(fresh)) as self._timeout:
                snapshot = await self._client.state(self._installation, since=since, wait=wait)
            self._accept(snapshot)
            return snapshot
        finally:
            self._timeout = None  # a time-out that is over can be neither asked nor moved
        raise AssertionError("unreachable")

    def _patience(self, fresh: bool) -> float:
        return self._settings.grace + (0.0 if fresh else self._settings.wait)

    def _due(self) -> bool:
        return self._look_at is not None and self._look_at <= self._clock.monotonic() + ROUNDING

    def _answered(self, snapshot: Snapshot, number: int) -> None:
        before, asked = self.observation, self._due() or self._needed > self._finished
        if self._due():
            self._look_at = None
        self._polled("answered")
        self._finished, self._failures = number, 0
        self.observation, self.observed_at = snapshot, self._clock.monotonic()
        if snapshot.runtime_ok:
            self.last_seen = snapshot
        news = not isinstance(before, Snapshot) or before.revision != snapshot.revision
        if self.settled and (news or asked):
            self._changed()

    async def _failed(self, observation: Unreachable, number: int) -> None:
        self._polled(observation.reason)
        self._failures += 1
        lost = self._failures >= self._settings.doubts or not isinstance(self.observation, Snapshot)
        if lost:
            self._finished = number
            news = self.observation != observation
            self.observation, self.observed_at = observation, self._clock.monotonic()
            if news:
                self._changed()
        await asyncio.sleep(self._settings.backoff.delay(self._failures, self._rng))

    def _interrupt(self, after: float) -> None:
        """Let the poll in flight end by then."""
        timeout = self._timeout
        if timeout is None or timeout.expired():
            return
        when = asyncio.get_running_loop().time() + after
        if (planned := timeout.when()) is not None and when < planned:
            timeout.reschedule(when)
