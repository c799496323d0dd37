"""The one seam to the Docker Engine: blocking SDK calls in worker threads, failures named by what happens next."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

import anyio
from docker import APIClient
from docker.errors import APIError, DockerException
from requests import Response
from requests.exceptions import RequestException
from urllib3.exceptions import HTTPError

from toolkeeper.errors import Conflict, NotFound, Refused, ToolkeeperError, Unreachable
from toolkeeper.node.docker.transport import OneDaemon

P = ParamSpec("P")
T = TypeVar("T")

OLDEST_API: Final = "1.41"
"""Docker 20.10. Newer daemons speak it too."""
QUICK, SLOW = 8, 64
BAD: Final = 400
LONGEST_TEXT: Final = 500
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
        self.api = APIClient(base_url=url, version=OLDEST_API, timeout=timeout)
        # Proxies and .netrc are for others; looking for them is a quarter of a call.
        self.api.trust_env = False
        self.api.mount("http+docker://", OneDaemon(f"http+{url}", timeout, max_pool_size=QUICK + SLOW))
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
        try:
            await asyncio.wait({future})
        except asyncio.CancelledError:
            under_way.cancel()  # succeeds only while it has not begun
            with anyio.CancelScope(shield=True):
                await _settled(future)
            raise
        try:
            return future.result()
        except (APIError, DockerException, RequestException) as exc:
            raise named(exc, self.url) from exc

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        params: Mapping[str, object],
        *,
        post: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        idle: int = 0,
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The pieces of an answer that does not end soon, as they come. Leaving the context closes it.

        `post`: headers of a POST, else it is a GET with `headers`. `idle`: seconds without a piece after which it
        counts as dead.
        """
        method = "GET" if post is None else "POST"
        response = await self.wait(self._open, method, path, params, post or headers or {}, idle)
        pump = _Pump(response)
        pump.start()
        try:
            yield self._pieces(pump)
        finally:
            pump.close()

    def _open(
        self, method: str, path: str, params: Mapping[str, object], headers: Mapping[str, str], idle: int
    ) -> Response:
        # Not the SDK's own streams: they leave their connection to the garbage collector.
        response = self.api.request(
            method,
            f"{self.api.base_url}/v{self.api.api_version}{path}",
            params={key: str(value) for key, value in params.items()},
            headers=headers,
            stream=True,
            timeout=(self.api.timeout, idle or None),
        )
        if response.status_code >= BAD:
            with response:
                raise failed(response.status_code, _explained(response.text))
        return response

    async def _pieces(self, pump: _Pump) -> AsyncIterator[bytes]:
        while (item := await pump.next()) is not None:
            if isinstance(item, Exception):
                raise named(item, self.url) from item
            yield item

    async def aclose(self) -> None:
        """Give threads and connections back. A second call does nothing."""
        for pool in (self._quick, self._slow):
            await anyio.to_thread.run_sync(partial(pool.shutdown, cancel_futures=True))
        self.api.close()


class _Pump:
    """Carries pieces from a blocking answer to the event loop; reads ahead no further than the buffer."""

    def __init__(self, response: Response) -> None:
        self._response = response
        self._items: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self._room = threading.Semaphore(STREAM_BUFFER)
        self._loop = asyncio.get_running_loop()
        self._closed = False

    def start(self) -> None:
        threading.Thread(target=self._carry, name="docker-stream", daemon=True).start()

    async def next(self) -> bytes | Exception | None:
        """A piece, what went wrong, or None at the end."""
        item = await self._items.get()
        self._room.release()
        return item

    def close(self) -> None:
        self._closed = True
        self._room.release()
        with suppress(OSError, ValueError, RuntimeError):  # it has ended already
            self._response.raw.shutdown()

    def _carry(self) -> None:
        end: Exception | None = None
        with self._response:
            try:
                for piece in self._response.iter_content(chunk_size=None):
                    self._put(piece)
                    if self._closed:
                        return
            except (RequestException, HTTPError, OSError) as exc:
                end = exc
        self._put(end)

    def _put(self, item: bytes | Exception | None) -> None:
        self._room.acquire()
        with suppress(RuntimeError):  # the loop ended first
            self._loop.call_soon_threadsafe(self._items.put_nowait, item)


async def _settled(future: asyncio.Future[Any]) -> None:
    """Wait until it has ended, however often somebody asks for less."""
    while not future.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait({future})
    if not future.cancelled():
        future.exception()  # looked at, so that nobody complains that it was not


def named(error: Exception, url: str) -> ToolkeeperError:
    """A failure of the SDK as one of ours."""
    if isinstance(error, APIError):
        return failed(error.status_code or 500, str(error.explanation or error).strip())
    return Unreachable(f"Docker does not answer at {url}: {_root(error)}", reason="RuntimeUnavailable")


def failed(status: int, text: str) -> ToolkeeperError:
    """An answer that is no success as one of ours."""
    if status == 404:
        return NotFound(text)
    if status == 409:
        return Conflict(text)
    return Refused(text, reason=reason_of(text))


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


def _explained(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text[:LONGEST_TEXT]
