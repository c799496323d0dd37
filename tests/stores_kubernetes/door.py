"""A way that breaks on demand: between the store and any API server, or between an operator and a node."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import aiohttp
from aiohttp import web

HOPS = {"host", "connection", "transfer-encoding", "content-length", "content-encoding", "keep-alive"}


class Door:
    """Passes everything on, unless told otherwise."""

    def __init__(self, target: str, ca: ssl.SSLContext | None) -> None:
        self._target, self._ca = target, ca
        self._session: aiohttp.ClientSession | None = None
        self._watches: set[asyncio.Task[None]] = set()
        self.url = ""
        self.shut = False
        """Nobody gets an answer."""
        self.refuses: int | None = None
        """Everybody gets this status."""
        self.retry_after = ""
        self.silences_watches = False
        """New watches are accepted and tell nothing."""
        self.drops_watches = False
        """Nobody gets an answer to a new watch; all else is answered."""
        self.watches_flow = asyncio.Event()
        """While clear, watches hang: those that go on stay connected and tell nothing, new ones get no answer."""
        self.watches_flow.set()
        self.expires_watches = False
        """New watches are told once that they come too late (410)."""
        self.holds: Callable[[web.Request], bool] | None = None
        """Requests to keep: they came whole, and are passed on when they are let go."""
        self.held: list[str] = []
        """`PATCH /path`, one for each that was kept."""
        self.let_go = asyncio.Event()
        self.late: list[tuple[int, str]] = []
        """What was answered to each that had been kept: status and text."""
        self.errors: list[str] = []
        """What watches were told of errors."""
        self.requests: Counter[str] = Counter()
        """`GET`, `WATCH`, `PATCH`, … → how many came."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Door]:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._pass)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, auto_decompress=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])
        connector = aiohttp.TCPConnector(limit=0, ssl=self._ca if self._ca is not None else True)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            try:
                yield self
            finally:
                self.cut()
                await runner.cleanup()
        if self._ca is not None:
            await asyncio.sleep(0.25)  # TLS connections end a moment after their session is closed

    def cut(self) -> None:
        """End every watch that goes on."""
        for each in self._watches:
            each.cancel()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        watching = request.query.get("watch") == "true"
        self.requests["WATCH" if watching else request.method] += 1
        if self.shut or (watching and self.drops_watches):
            assert request.transport is not None, "somebody asks"
            request.transport.close()
            raise web.HTTPServiceUnavailable
        if self.refuses is not None:
            status = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "message": "stormy",
                "code": self.refuses,
            }
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return web.json_response(status, status=self.refuses, headers=headers)
        if watching:
            await self.watches_flow.wait()
            if self.expires_watches:
                return _expired()
        if self.holds is not None and self.holds(request):
            return await self._held(request)
        return await self._passed_on(request, watching=watching)

    async def _held(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.held.append(f"{request.method} {request.path}")
        await self.let_go.wait()
        answer = await self._passed_on(request, watching=False)
        assert isinstance(answer, web.Response), "no watch is kept"
        assert isinstance(answer.body, bytes), "it was read whole"
        self.late.append((answer.status, answer.body.decode()))
        return answer

    async def _passed_on(self, request: web.Request, *, watching: bool) -> web.StreamResponse:
        assert self._session is not None, "the door is open"
        headers = {key: value for key, value in request.headers.items() if key.lower() not in HOPS}
        body = await request.read()
        async with self._session.request(
            request.method, self._target + request.raw_path, data=body or None, headers=headers, timeout=None
        ) as came:
            kept = {key: value for key, value in came.headers.items() if key.lower() not in HOPS}
            if not watching:
                return web.Response(status=came.status, body=await came.read(), headers=kept)
            answer = web.StreamResponse(status=came.status, headers=kept)
            await answer.prepare(request)
            task = asyncio.create_task(self._stream(came, answer))
            self._watches.add(task)
            task.add_done_callback(self._watches.discard)
            with suppress(asyncio.CancelledError, ConnectionError, aiohttp.ClientError):
                await task
            return answer

    async def _stream(self, came: aiohttp.ClientResponse, answer: web.StreamResponse) -> None:
        async for chunk in came.content.iter_any():
            await self.watches_flow.wait()
            if b'"type":"ERROR"' in chunk:
                self.errors.append(chunk.decode(errors="replace"))
            if not self.silences_watches:
                await answer.write(chunk)
        await self.watches_flow.wait()


def _expired() -> web.Response:
    gone = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": "Expired",
        "message": "old",
        "code": 410,
    }
    return web.Response(
        text=json.dumps({"type": "ERROR", "object": gone}) + "\n", content_type="application/json"
    )
