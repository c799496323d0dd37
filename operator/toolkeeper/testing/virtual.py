"""An asyncio event loop whose time jumps to the next timer when nothing else can run.

A day passes in milliseconds, and a run is a function of its seed: with a seed, the callbacks that are ready at the
same moment run in an order drawn from it (and otherwise in the order they were added, as asyncio does).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextvars import Context
from datetime import UTC, datetime, timedelta
from functools import wraps
from random import Random
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)


class Stuck(RuntimeError):
    """Every task waits for something that no task, timer or callback can bring."""


class VirtualLoop(asyncio.AbstractEventLoop):
    """Runs callbacks and timers, and nothing else: no sockets, no threads, no signals.

    `max_callbacks` bounds a run, so that a loop that turns without time passing fails instead of hanging.
    """

    def __init__(self, *, seed: int | None = None, max_callbacks: int = 5_000_000) -> None:
        self._now = 0.0
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()
        self._rng = None if seed is None else Random(seed)  # noqa: S311 - replayable on purpose
        self._left = max_callbacks
        self._running = self._closed = self._stopping = False
        self._generators: set[AsyncGenerator[Any, Any]] = set()
        self.failures: list[dict[str, Any]] = []
        """What reached the exception handler: exceptions that nobody retrieved."""

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]  # as general as it gets
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there is one thread

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + max(0.0, delay), callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), handle))
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None, **_: Any
    ) -> asyncio.Task[Any]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def run_until_complete(self, future: Any) -> Any:
        task = asyncio.ensure_future(future, loop=self)
        task.add_done_callback(self._stop_after)
        try:
            self.run_forever()
        finally:
            task.remove_done_callback(self._stop_after)
        return task.result()

    def run_forever(self) -> None:
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._generators.add, finalizer=self._close_generator)
        asyncio._set_running_loop(self)  # noqa: SLF001 - what BaseEventLoop does; there is no public way
        self._running, self._stopping = True, False
        try:
            while not self._stopping:
                self._turn()
        finally:
            self._running = False
            asyncio._set_running_loop(None)  # noqa: SLF001
            sys.set_asyncgen_hooks(*before)

    def stop(self) -> None:
        self._stopping = True

    def close(self) -> None:
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def get_debug(self) -> bool:
        return False

    def get_task_factory(self) -> None:
        """Tasks are asyncio's own; anyio asks."""

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Called by `TimerHandle.cancel`; a cancelled timer is dropped when its time comes."""

    async def shutdown_asyncgens(self) -> None:
        for generator in tuple(self._generators):
            await generator.aclose()
        self._generators.clear()

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.default_exception_handler(context)

    def _turn(self) -> None:
        if not self._ready:
            self._jump()
        while self._timers and self._timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(self._timers)[2])
        batch, self._ready = self._ready, []
        if self._rng is not None and len(batch) > 1:
            self._rng.shuffle(batch)
        self._left -= len(batch)
        if self._left < 0:
            raise Stuck(f"still busy at {self._now:.3f} s of virtual time: a loop turns without waiting")
        for handle in batch:
            if not handle.cancelled():
                handle._run()  # noqa: SLF001 - what BaseEventLoop does; there is no public way

    def _jump(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            raise Stuck(f"at {self._now:.3f} s of virtual time everything waits for ever")
        self._now = max(self._now, self._timers[0][0])

    def _stop_after(self, task: asyncio.Future[Any]) -> None:
        self._stopping = True

    def _close_generator(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators.discard(generator)
        if not self._closed:
            self.create_task(generator.aclose())


class VirtualClock:
    """A `toolkeeper.clock.Clock` over virtual time; its wall time can jump, its monotonic time cannot."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None, *, start: datetime = START) -> None:
        self._loop = loop or asyncio.get_running_loop()
        self._start = start
        self._offset = timedelta()

    def now(self) -> datetime:
        return (self._start + timedelta(seconds=self._loop.time()) + self._offset).replace(microsecond=0)

    def monotonic(self) -> float:
        return self._loop.time()

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock, forward or back."""
        self._offset += timedelta(seconds=seconds)


def run(main: Callable[[], Coroutine[Any, Any, T]], *, seed: int | None = None) -> T:
    """Run `main()` to its end in virtual time, cancel what it left behind, and return its result."""
    loop = VirtualLoop(seed=seed)  # type: ignore[abstract]  # what it leaves out raises NotImplementedError
    try:
        return loop.run_until_complete(main())  # type: ignore[no-any-return]
    finally:
        loop.run_until_complete(_cancel_rest(loop))
        loop.close()


async def _cancel_rest(loop: VirtualLoop) -> None:
    rest = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)
    await loop.shutdown_asyncgens()


async def soon(condition: Callable[[], bool], *, within: float = 600.0, step: float = 0.1) -> None:
    """Wait until `condition()` holds, looking every `step` virtual seconds; AssertionError after `within`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while not condition():
        assert loop.time() < deadline, f"not within {within} s"
        await asyncio.sleep(step)


def never() -> Awaitable[None]:
    """Something that never happens."""
    return asyncio.get_running_loop().create_future()


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Decorator: an async test that runs in virtual time."""

    @wraps(test)
    def timeless(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(lambda: test(*args, **kwargs))

    return timeless
