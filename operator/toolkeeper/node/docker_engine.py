"""The one seam to the Docker Engine: blocking SDK calls in worker threads, failures named by what happens next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, Generic, ParamSpec, TypeVar

import anyio
from docker import APIClient
from docker.errors import APIError, DockerException
from docker.types import CancellableStream
from requests.exceptions import RequestException

from toolkeeper.errors import Conflict, NotFound, Refused, ToolkeeperError, Unreachable

P = ParamSpec("P")
T = TypeVar("T")

OLDEST_API: Final = "1.41"
"""Docker 20.10. Newer daemons speak it too."""
QUICK, SLOW = 8, 64
STREAM_BUFFER = 256

PHRASES: Final = (
    ("no space left on device", "NoSpace"),
    ("port is already allocated", "PortInUse"),
    ("bind source path does not exist", "FilesUnavailable"),
)
"""What the daemon says, and the reason that it stands for."""


class Engine:
    """One Docker daemon.

    Every call raises Unreachable (no answer), NotFound (404), Conflict (409) or Refused (any other answer that is no
    success; its reason is `Refused` where the text tells no better). After a cancelled call nothing of it happens: a
    blocking call that is under way is waited for.
    """

    def __init__(self, url: str, *, timeout: int = 60) -> None:
        self.url = url
        self.api = APIClient(base_url=url, version=OLDEST_API, timeout=timeout, max_pool_size=QUICK + SLOW)
        self._quick = ThreadPoolExecutor(QUICK, "docker")
        # What waits (pulls, stops, commits) must not keep the others from their turn.
        self._slow = ThreadPoolExecutor(SLOW, "docker-slow")

    async def call(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call that the daemon answers at once."""
        return await self._run(self._quick, partial(verb, *args, **kwargs))

    async def wait(self, verb: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call that may take its time."""
        return await self._run(self._slow, partial(verb, *args, **kwargs))

    async def _run(self, pool: ThreadPoolExecutor, job: Callable[[], T]) -> T:
        await anyio.lowlevel.checkpoint_if_cancelled()
        under_way = pool.submit(job)
        future = asyncio.wrap_future(under_way)
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not under_way.done():
                try:
                    await asyncio.wait({future})
                except asyncio.CancelledError as exc:
                    cancelled = exc
                    under_way.cancel()  # succeeds only while it has not begun
        if cancelled is not None:
            with suppress(asyncio.CancelledError, Exception):
                await future
            raise cancelled
        try:
            return await future
        except (APIError, DockerException, RequestException) as exc:
            raise named(exc, self.url) from exc

    @asynccontextmanager
    async def stream(self, opening: Callable[[], CancellableStream[T]]) -> AsyncIterator[AsyncIterator[T]]:
        """The items of an endless answer, as they come. Leaving the context closes it."""
        pump = _Pump(await self.wait(opening))
        pump.start()
        try:
            yield self._items(pump)
        finally:
            pump.close()

    async def _items(self, pump: _Pump[T]) -> AsyncIterator[T]:
        while True:
            item = await pump.next()
            if isinstance(item, _End):
                if item.error is not None:
                    raise named(item.error, self.url) from item.error
                return
            yield item

    async def aclose(self) -> None:
        """Give threads and connections back. A second call does nothing."""
        self._quick.shutdown(wait=False, cancel_futures=True)
        self._slow.shutdown(wait=False, cancel_futures=True)
        self.api.close()


class _End:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error


class _Pump(Generic[T]):
    """Carries items from a blocking iterator to the event loop; reads ahead no further than the buffer."""

    def __init__(self, source: CancellableStream[T]) -> None:
        self._source = source
        self._items: asyncio.Queue[T | _End] = asyncio.Queue()
        self._room = threading.Semaphore(STREAM_BUFFER)
        self._loop = asyncio.get_running_loop()
        self._closed = False

    def start(self) -> None:
        threading.Thread(target=self._carry, name="docker-stream", daemon=True).start()

    async def next(self) -> T | _End:
        item = await self._items.get()
        self._room.release()
        return item

    def close(self) -> None:
        self._closed = True
        self._room.release()
        # At its end a stream has no socket left to shut down, and the SDK trips over that.
        with suppress(OSError, AttributeError):
            self._source.close()

    def _carry(self) -> None:
        end = _End()
        try:
            for item in self._source:
                self._put(item)
                if self._closed:
                    return
        except (DockerException, RequestException, OSError, ValueError) as exc:
            end = _End(exc)
        self._put(end)

    def _put(self, item: T | _End) -> None:
        self._room.acquire()
        with suppress(RuntimeError):  # the loop ended first
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)


def named(error: Exception, url: str) -> ToolkeeperError:
    """A failure of the SDK as one of ours."""
    if isinstance(error, APIError):
        text = str(error.explanation or error).strip()
        if error.status_code == 404:
            return NotFound(text)
        if error.status_code == 409:
            return Conflict(text)
        return Refused(text, reason=reason_of(text))
    return Unreachable(f"Docker does not answer at {url}: {_root(error)}", reason="RuntimeUnavailable")


def reason_of(text: str, otherwise: str = "Refused") -> str:
    """The reason that a message of the daemon stands for."""
    lowered = text.lower()
    return next((reason for phrase, reason in PHRASES if phrase in lowered), otherwise)


def _root(error: BaseException) -> str:
    """The innermost cause: the SDK and requests wrap a refused connection four times."""
    inner: Any = error
    while inner.args and isinstance(inner.args[0], BaseException):
        inner = inner.args[0]
    last = inner.args[-1] if inner.args else inner
    return str(last if not isinstance(last, BaseException) else _root(last))
