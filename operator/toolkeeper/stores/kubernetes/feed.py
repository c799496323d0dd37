"""kopf as the event feed: in a thread and an event loop of its own, `on.event` only, started again whenever it ends.

kopf's other handlers are not used: they copy specs into annotations, and after a gap in the watch they never learn of
deletions. Nor does this feed; it says that there was a gap (`lagged`), and whoever listens lists again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import Any

import aiohttp
import kopf
import structlog

from toolkeeper.clock import Clock
from toolkeeper.errors import ToolkeeperError
from toolkeeper.resources.meta import GROUP, VERSION
from toolkeeper.stores.kubernetes import access
from toolkeeper.stores.kubernetes.answers import Json
from toolkeeper.stores.kubernetes.documents import PLURALS, collection

WATCH_SECONDS = 60
"""How long one watch lasts; then it is renewed, which proves that it can be."""
DEAF_AFTER = 3
"""So many watches' time without any answer to them, and the watch is begun anew."""
LOGIN_SECONDS = 5.0
"""Between attempts to log in; kopf would wait for a minute."""
FAREWELL_SECONDS = 0.25
"""TLS connections end a moment after their session is closed; the event loop has to live that long."""
RESTART_SECONDS = (1.0, 30.0)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told what; called in the feed's own thread."""

    event: Callable[[str, str | None, Json], None]
    """Kind, type (None: it was listed) and object."""
    lagged: Callable[[str], None]
    """A kind that the watch began anew: something may have been deleted unnoticed before."""


@dataclass(slots=True)
class Pulse:
    """Signs of life, on the clock's monotonic time. Written by the feed's thread, read by others."""

    heard: dict[str, float] = field(default_factory=dict)
    """Path of a collection → when the server last answered a watch of it: that it answers lists proves nothing."""
    starts: int = 0
    lists: int = 0
    """How often a collection was listed to begin a watch of it: once each, and again after each gap."""
    answers: dict[int, int] = field(default_factory=dict)
    """How many answers had which status; 0 counts those that did not come."""
    failure: str = ""
    """Why kopf ended last; empty once it hears again."""


class NoDiffs(kopf.DiffBaseStorage):
    """kopf compares each object with its former self, for handlers that we do not use: here it finds nothing to do."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        return {}

    def fetch(self, *, body: Any) -> Any:
        return {}

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Nothing is ever written."""


class NoProgress(kopf.ProgressStorage):
    """Nor is there any progress of handlers to keep."""

    def fetch(self, *, key: Any, body: Any) -> Any:
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Nothing is ever written."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """Nothing is ever written."""

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        """Nothing is ever written."""

    def clear(self, *, essence: Any) -> Any:
        return essence


class BackoffsOf:
    """Delays between kopf's attempts, drawn anew for each request; kopf's own have no jitter."""

    def __init__(self, random: Random, *, longest: tuple[float, ...] = (1, 2, 4, 8)) -> None:
        self._random, self._longest = random, longest

    def __iter__(self) -> Iterator[float]:
        return iter([self._random.uniform(each / 2, each) for each in self._longest])


class KopfFeed:
    """Watches our kinds, in the given namespaces or (None) in all."""

    def __init__(
        self,
        listener: Listener,
        *,
        login: access.Login,
        namespaces: Collection[str] | None,
        clock: Clock,
        random: Random,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        self._listener, self._login, self._namespaces = listener, login, namespaces
        self._clock, self._random, self._watch_seconds = clock, random, watch_seconds
        self._thread: threading.Thread | None = None
        self._kinds = {collection(kind, each): kind for kind in PLURALS for each in (namespaces or (None,))}
        self._stop: Future[None] = Future()
        self._sessions: list[aiohttp.ClientSession] = []
        self._over_tls = False
        self._ended = threading.Event()
        self.pulse = Pulse()

    def start(self) -> None:
        """Begin, in the background."""
        now = self._clock.monotonic()
        self.pulse.heard = dict.fromkeys(self._kinds, now)
        self._thread = threading.Thread(target=self._keep_running, name="kopf", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, within seconds. To be called in another thread than an event loop's."""
        self._ended.set()
        self.restart()
        if self._thread is not None:
            self._thread.join(timeout=15)

    def restart(self) -> None:
        """Let kopf end; unless stopped, it begins anew."""
        with contextlib.suppress(InvalidStateError):  # it ends already
            self._stop.set_result(None)

    @property
    def deaf_after(self) -> float:
        """Seconds of silence that cannot be right: even in a cluster where nothing happens, watches are renewed."""
        return DEAF_AFTER * self._watch_seconds

    @property
    def gaps(self) -> int:
        """How often the watch of a kind had to begin anew."""
        return max(0, self.pulse.lists - len(self._kinds))

    def silent_for(self) -> float:
        """Seconds since the server answered the watch of the kind of which it was silent longest."""
        return self._clock.monotonic() - self.heard_at

    @property
    def heard_at(self) -> float:
        """When that was, on the clock's monotonic time."""
        return min(self.pulse.heard.values(), default=0.0)

    def _keep_running(self) -> None:
        logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # else one line for each event
        logging.getLogger("kopf._core.reactor.running").setLevel(
            logging.ERROR
        )  # signals are not its business
        shortest, longest = RESTART_SECONDS
        delay = shortest
        while not self._ended.is_set():
            self.pulse.starts += 1
            began = self._clock.monotonic()
            try:
                asyncio.run(self._run())
            except Exception as exc:  # noqa: BLE001 - the outermost turn: whatever ends kopf, it starts again
                self.pulse.failure = f"{type(exc).__name__}: {exc}"
            if self._ended.is_set():
                return
            log.warning(
                "kubernetes-feed-ended", failure=self.pulse.failure or "no reason given", again_in=delay
            )
            self._ended.wait(delay)
            delay = shortest if self._clock.monotonic() - began > longest else min(delay * 2, longest)

    async def _run(self) -> None:
        self._stop = Future()
        if self._ended.is_set():
            return
        stop = asyncio.wrap_future(self._stop)
        running = asyncio.ensure_future(self._operate())
        try:
            # Cancelled, kopf ends at once; told to stop, it first waits 5 s for its own tasks.
            await asyncio.wait({running, stop}, return_when=asyncio.FIRST_COMPLETED)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        finally:
            for session in self._sessions:
                await session.close()
            self._sessions.clear()
            if self._over_tls:
                await asyncio.sleep(FAREWELL_SECONDS)

    async def _operate(self) -> None:
        await kopf.operator(
            registry=self._registry(),
            settings=self._settings(),
            clusterwide=self._namespaces is None,
            namespaces=self._namespaces or (),
        )

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry, backoff=LOGIN_SECONDS)
        async def login(**_: Any) -> kopf.AiohttpSession:
            try:
                info = await asyncio.to_thread(self._login)
                session = access.session(info, self._tracing())
            except ToolkeeperError as exc:  # said in a line, where kopf would print a traceback
                raise kopf.TemporaryError(str(exc), delay=LOGIN_SECONDS) from exc
            self._sessions = [each for each in self._sessions if not each.closed] + [session]
            self._over_tls = info.server.startswith("https:")
            return kopf.AiohttpSession(
                server=info.server, default_namespace=info.default_namespace, aiohttp_session=session,
                expiration=info.expiration,
            )  # fmt: skip

        for kind, plural in PLURALS.items():
            self._listen(registry, kind, plural)
        return registry

    def _listen(self, registry: kopf.OperatorRegistry, kind: str, plural: str) -> None:
        @kopf.on.event(GROUP, VERSION, plural, registry=registry, id=f"feed-{plural}")
        async def told(event: Any, **_: Any) -> None:
            self._listener.event(kind, event["type"], event["object"])

    def _settings(self) -> kopf.OperatorSettings:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        settings.peering.standalone = True
        settings.scanning.disabled = True
        settings.persistence.finalizer = f"{GROUP}/kopf-unused"
        settings.persistence.diffbase_storage = NoDiffs()
        settings.persistence.progress_storage = NoProgress()
        settings.queueing.idle_timeout = 0.5
        settings.watching.server_timeout = self._watch_seconds
        settings.watching.inactivity_timeout = self._watch_seconds + 15
        settings.watching.connect_timeout = 10
        settings.watching.chunk_size = 500
        settings.networking.request_timeout = access.REQUEST_SECONDS
        settings.networking.connect_timeout = access.CONNECT_SECONDS
        settings.networking.error_backoffs = BackoffsOf(self._random)
        settings.process.ultimate_exiting_timeout = None  # this process is not kopf's to kill
        return settings

    def _tracing(self) -> aiohttp.TraceConfig:
        """kopf reports events only; its requests tell that it lives, and when it had to list again."""

        async def answered(
            _: aiohttp.ClientSession, __: SimpleNamespace, end: aiohttp.TraceRequestEndParams
        ) -> None:
            self._answered(end.response.status)
            path = end.url.path
            if path not in self._kinds:
                return
            watching = end.url.query.get("watch") == "true"
            if watching:
                self.pulse.heard[path] = self._clock.monotonic()
            if end.response.status >= 400:
                return
            self.pulse.failure = ""
            if watching or end.url.query.get("continue"):
                return
            self.pulse.lists += 1
            # Every list of kopf's, its first included: what was deleted before it, its watch will never tell.
            self._listener.lagged(self._kinds[path])

        async def failed(_: aiohttp.ClientSession, __: SimpleNamespace, ___: object) -> None:
            self._answered(0)

        tracing = aiohttp.TraceConfig()
        tracing.on_request_end.append(answered)
        tracing.on_request_exception.append(failed)
        return tracing

    def _answered(self, status: int) -> None:
        self.pulse.answers[status] = self.pulse.answers.get(status, 0) + 1
