"""Events of events.k8s.io: written in the background, repeated ones counted instead of written anew, floods cut."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog

from toolkeeper.clock import Clock
from toolkeeper.errors import Conflict, NotFound, ToolkeeperError
from toolkeeper.resources.events import Event
from toolkeeper.resources.meta import API_VERSION
from toolkeeper.stores.kubernetes.answers import Json
from toolkeeper.stores.kubernetes.api import MERGE_PATCH, Api

REPORTER = "toolkeeper.dev/operator"
WAITING = 10_000
"""Events that wait to be written; beyond that the oldest are dropped."""
YIELDING = 5.0
"""Seconds that events wait while statuses are being written: those are what people wait for."""
LOOK_EVERY = 0.05
AT_LEAST = 100
"""Events that are written then all the same."""
REMEMBERED = 4096
SERIES_SECONDS = 360.0
"""After this long without a repetition the same saying begins a new event."""
BURST = 25
REFILL_SECONDS = 300.0
"""One object may have BURST events at once and one more every REFILL_SECONDS."""

log = structlog.get_logger(__name__)


class Saying(NamedTuple):
    """What makes two events the same."""

    uid: str
    type: str
    reason: str
    message: str


@dataclass(slots=True)
class Series:
    """A saying that was written, and how often."""

    name: str
    count: int
    last: float


@dataclass(slots=True)
class Allowance:
    """How many events one object may still have."""

    left: float
    at: float


class Chronicle:
    """Never in the way: `note` returns at once, and what the cluster does not take is dropped."""

    def __init__(
        self, api: Api, *, identity: str, clock: Clock, busy: Callable[[], bool] = lambda: False
    ) -> None:
        self._api, self._identity, self._clock, self._busy = api, identity, clock, busy
        self._waiting: deque[Event] = deque(maxlen=WAITING)
        self._more = asyncio.Event()
        self._series: OrderedDict[Saying, Series] = OrderedDict()
        self._allowances: OrderedDict[str, Allowance] = OrderedDict()
        self._noted_at: datetime | None = None
        self.dropped = 0
        """Events that were not written: a flood, or a cluster that does not take them."""

    def note(self, event: Event) -> None:
        """Write the event soon."""
        if len(self._waiting) == WAITING:
            self.dropped += 1
        self._noted_at = _after(self._noted_at, event.at or self._clock.now())
        self._waiting.append(replace(event, at=self._noted_at))
        self._more.set()

    @property
    def is_empty(self) -> bool:
        """Whether everything that was noted is written, or being written."""
        return not self._waiting

    async def run(self) -> None:
        """Write what was noted, for ever."""
        while True:
            await self._more.wait()
            for _ in range(1 if await self._is_quiet() else AT_LEAST):
                await self._write_next()

    async def flush(self, *, within: float = 2.0) -> None:
        """Write what waits, if that is quickly done."""
        try:
            async with asyncio.timeout(within):
                await self._write_all()
        except TimeoutError:
            self.dropped += len(self._waiting)

    async def _write_all(self) -> None:
        while self._waiting:
            await self._write_next()

    async def _is_quiet(self) -> bool:
        """Wait until no status is being written; False if that takes too long."""
        for _ in range(round(YIELDING / LOOK_EVERY)):
            if not self._busy():
                return True
            await asyncio.sleep(LOOK_EVERY)
        return False

    async def _write_next(self) -> None:
        if not self._waiting:
            self._more.clear()
            return
        event = self._waiting.popleft()
        try:
            await self._write(event)
        except ToolkeeperError as exc:
            self.dropped += 1
            log.info("kubernetes-event-dropped", key=str(event.key), reason=event.reason, failure=str(exc))

    async def _write(self, event: Event) -> None:
        now, at = self._clock.monotonic(), event.at or self._clock.now()
        saying = Saying(event.uid or str(event.key), event.type, event.reason, event.message)
        series = self._series.get(saying)
        if not self._may(saying.uid, now):
            self.dropped += 1
            return
        collection = f"/apis/events.k8s.io/v1/namespaces/{event.key.namespace}/events"
        if series is not None and now - series.last < SERIES_SECONDS:
            series.count, series.last = series.count + 1, now
            if await self._repeated(f"{collection}/{series.name}", series.count, at):
                return
        name = _name(event, saying, at)
        with contextlib.suppress(
            Conflict
        ):  # it is there: an earlier answer was lost, or another process said it
            await self._api.request("POST", collection, body=_body(event, name, at, self._identity))
        self._series[saying] = Series(name, 1, now)
        self._series.move_to_end(saying)
        while len(self._series) > REMEMBERED:
            self._series.popitem(last=False)

    async def _repeated(self, path: str, count: int, at: datetime) -> bool:
        body = {"series": {"count": count, "lastObservedTime": _micro(at)}}
        try:
            await self._api.request("PATCH", path, body=body, content_type=MERGE_PATCH)
        except NotFound:  # events live for an hour
            return False
        return True

    def _may(self, uid: str, now: float) -> bool:
        allowance = self._allowances.setdefault(uid, Allowance(BURST, now))
        allowance.left = min(BURST, allowance.left + (now - allowance.at) / REFILL_SECONDS)
        allowance.at = now
        self._allowances.move_to_end(uid)
        while len(self._allowances) > REMEMBERED:
            self._allowances.popitem(last=False)
        if allowance.left < 1:
            return False
        allowance.left -= 1
        return True


def _after(last: datetime | None, at: datetime) -> datetime:
    """That time; a little later if it is the second of the last: clocks tell seconds, and the order matters."""
    if last is not None and at <= last < at + timedelta(seconds=1):
        return last + timedelta(microseconds=1)
    return at


def _name(event: Event, saying: Saying, at: datetime) -> str:
    """The same for the same saying at the same time, so that a write whose answer was lost can be repeated.

    Later ones sort after earlier ones: kubectl shows events that carry no time of the old kind by name.
    """
    digest = hashlib.sha256("\n".join([*saying, at.isoformat()]).encode()).hexdigest()[:8]
    return f"{event.key.name}.{round(at.timestamp() * 1e6):x}.{digest}"


def _body(event: Event, name: str, at: datetime, identity: str) -> Json:
    key = event.key
    regarding = {"apiVersion": API_VERSION, "kind": key.kind, "namespace": key.namespace, "name": key.name}
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": key.namespace},
        "eventTime": _micro(at),
        "type": event.type,
        "reason": event.reason,
        "action": event.reason,
        "note": event.message.encode()[:1024].decode(errors="ignore"),
        "regarding": regarding | ({"uid": event.uid} if event.uid else {}),
        "reportingController": REPORTER,
        "reportingInstance": identity[:128],
    }


def _micro(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
