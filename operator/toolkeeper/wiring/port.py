"""The operator's own HTTP port: metrics, and whether it lives. Threads serve it, so a stuck loop cannot hide."""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from toolkeeper.clock import Clock, SystemClock
from toolkeeper.errors import Invalid

STUCK_SECONDS = 30.0
"""After this long without a turn of the event loop, /healthz fails."""
CLIENT_SECONDS = 10.0
"""How long somebody may take to say what he wants."""
LINGER_SECONDS, LINGER_READS = 0.5, 16
"""How long, and how often, what nobody wanted to hear is read before hanging up."""
CALLERS = 32
"""Who can be answered at a time."""
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def _nothing() -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What, besides the event loop, can be wrong: each returns why, empty if nothing is. Called in other threads."""

    dead: Callable[[], str] = _nothing
    """Only a new process would help: /healthz fails."""
    unready: Callable[[], str] = _nothing
    """It does not know its resources yet: /readyz fails."""


class Beat:
    """When the event loop had its last turn."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self.port = 0
        """Where it can be asked; 0: nowhere."""
        self._at = self._clock.monotonic()

    def beat(self) -> None:
        """The loop is alive now."""
        self._at = self._clock.monotonic()

    def stuck(self) -> str:
        """Why it counts as stuck; empty if it does not."""
        since = self._clock.monotonic() - self._at
        return "" if since < STUCK_SECONDS else f"the event loop had no turn for {since:.0f} s"


class _Quiet(WSGIRequestHandler):
    timeout = CLIENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not news."""


class _Threaded(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    timeout = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._places = threading.BoundedSemaphore(CALLERS)
        self._ending, self._ended = socket.socketpair()
        super().__init__(*args, **kwargs)

    def answer(self) -> None:
        """Until `end` is called. `serve_forever` would look several times a second whether it was."""
        with selectors.DefaultSelector() as selector:
            for each in (self.socket, self._ended):
                selector.register(each, selectors.EVENT_READ)
            while self._ended not in [key.fileobj for key, _ in selector.select()]:
                self.handle_request()

    def end(self) -> None:
        """From another thread: nobody who comes now is answered."""
        self._ending.close()

    def server_close(self) -> None:
        """Give the port back."""
        super().server_close()
        self._ending.close()
        self._ended.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; one caller too many is hung up on."""
        if not self._places.acquire(blocking=False):
            super().shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for the next."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def shutdown_request(self, request: Any) -> None:
        """Hang up, but not while the caller still talks: a reset could overtake the answer."""
        with suppress(OSError):
            request.shutdown(socket.SHUT_WR)
            request.settimeout(LINGER_SECONDS)
            for _ in range(LINGER_READS):
                if not request.recv(64 * 1024):
                    break
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody who goes away before the answer is not news."""


class _DualStack(_Threaded):
    address_family = socket.AF_INET6

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()


@asynccontextmanager
async def serving(
    address: str | None,
    registry: CollectorRegistry,
    vitals: Vitals | None = None,
    *,
    clock: Clock | None = None,
) -> AsyncIterator[Beat]:
    """Serve at `host:port` while the context lasts; nothing for None. Raises Invalid when it cannot be had."""
    beat = Beat(clock)
    if address is None:
        yield beat
        return
    async with answering(
        address, _app(registry, beat, vitals or Vitals()), option="--health-address"
    ) as port:
        beat.port = port
        yield beat


@asynccontextmanager
async def answering(address: str, app: Application, *, option: str) -> AsyncIterator[int]:
    """Answer HTTP at `host:port`, in threads, while the context lasts; yields the port.

    Raises Invalid, naming the option that said so, when the address cannot be had.
    """
    server = _server(address, app, option)
    thread = threading.Thread(target=server.answer, daemon=True, name=option.strip("-"))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.end()
        thread.join()
        server.server_close()


def _server(address: str, app: Application, option: str) -> _Threaded:
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise Invalid(
            f"{option} {address}: there is no port in it; give HOST:PORT, or :PORT for every interface"
        )
    host = host.removeprefix("[").removesuffix("]")
    dual = ":" in host or (not host and socket.has_dualstack_ipv6())
    try:
        return make_server(
            host or ("::" if dual else "0.0.0.0"),  # noqa: S104 - ":PORT" asks for every interface
            int(port),
            app,
            server_class=_DualStack if dual else _Threaded,
            handler_class=_Quiet,
        )
    except (OSError, OverflowError) as exc:
        raise Invalid(f"{option} {address}: {exc}; give HOST:PORT, or :PORT for every interface") from exc


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


def _app(registry: CollectorRegistry, beat: Beat, vitals: Vitals) -> Application:
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        match environ.get("PATH_INFO", ""):
            case "/metrics":
                answer: Iterable[bytes] = metrics(environ, start_response)
                return answer
            case "/healthz":
                status, said = _verdict(beat.stuck() or vitals.dead())
            case "/readyz":
                status, said = _verdict(beat.stuck() or vitals.unready())
            case _:
                status, said = "404 Not Found", "try /healthz, /readyz or /metrics"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [said.encode() + b"\n"]

    return app


def _verdict(wrong: str) -> tuple[str, str]:
    return ("503 Service Unavailable", wrong) if wrong else ("200 OK", "ok")
