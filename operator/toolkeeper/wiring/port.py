"""The operator's own HTTP port: metrics, and whether it lives. A thread serves it, so a stuck loop cannot hide."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from toolkeeper.clock import SystemClock
from toolkeeper.errors import Invalid

STUCK_SECONDS = 30.0
"""After this long without a turn of the event loop, /healthz fails."""


class Beat:
    """When the event loop had its last turn."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self._at = self._clock.monotonic()

    def beat(self) -> None:
        """The loop is alive now."""
        self._at = self._clock.monotonic()

    @property
    def alive(self) -> bool:
        """Whether it was, recently."""
        return self._clock.monotonic() - self._at < STUCK_SECONDS


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not news."""


@asynccontextmanager
async def serving(address: str | None, registry: CollectorRegistry) -> AsyncIterator[Beat]:
    """Serve at `host:port` while the context lasts; nothing for None. Raises Invalid when it cannot be had."""
    beat = Beat()
    if address is None:
        yield beat
        return
    host, _, port = address.rpartition(":")
    try:
        server = make_server(host or "127.0.0.1", int(port), _app(registry, beat), handler_class=_Quiet)
    except (OSError, ValueError, OverflowError) as exc:
        raise Invalid(f"--metrics {address}: {exc}; give HOST:PORT") from exc
    thread = threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True, name="metrics")
    thread.start()
    try:
        yield beat
    finally:
        server.shutdown()
        server.server_close()


@asynccontextmanager
async def heartbeat(beat: Beat) -> AsyncIterator[None]:
    """Beat once a second while the context lasts."""

    async def beating() -> None:
        while True:
            beat.beat()
            await asyncio.sleep(1.0)

    task = asyncio.create_task(beating(), name="heartbeat")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def _app(registry: CollectorRegistry, beat: Beat) -> Callable[..., Iterable[bytes]]:
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            answer: Iterable[bytes] = metrics(environ, start_response)
            return answer
        known = path in ("/healthz", "/readyz")
        status = "404 Not Found" if not known else "200 OK" if beat.alive else "503 Service Unavailable"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [b"ok\n" if status.startswith("200") else status.encode() + b"\n"]

    return app
