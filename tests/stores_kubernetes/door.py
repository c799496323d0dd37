"""A way to a cluster that breaks on demand: between the store and any API server."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator
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
        self.expires_watches = False
        """New watches are told once that they come too late (410)."""
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
        if self.shut:
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
        if watching and self.expires_watches:
            return _expired()
        return await self._passed_on(request, watching=watching)

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
            if not self.silences_watches:
                await answer.write(chunk)


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
