"""What every request passes before a route sees it: an id, the gate, the limit of its body; and what nobody caught."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toolkeeper.clock import Clock
from toolkeeper.dtma.wire import REQUEST_LIMIT
from toolkeeper.node.faults import fault, trace
from toolkeeper.node.gate import Gate
from toolkeeper.node.metrics import Tally
from toolkeeper.telemetry.logs import Log

OPEN = frozenset({"/healthz", "/readyz"})
"""The only paths that need no token."""
BODY_SECONDS = 30.0
REQUEST_ID = "X-Request-Id"


class Front:
    """ASGI middleware around the app.

    `new_id` gives the ids of requests; one that the caller brings is not taken over, it could forge log lines.
    """

    def __init__(
        self, app: ASGIApp, *, gate: Gate, tally: Tally, clock: Clock, log: Log, new_id: Callable[[], str]
    ) -> None:
        self._app = app
        self._gate = gate
        self._tally = tally
        self._log = log
        self._clock = clock
        self._new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id, began, status = self._new_id(), self._clock.monotonic(), 0

        async def marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        try:
            refusal = self._refusal(scope)
            content = b"" if refusal else await self._body(scope, receive)
            answer = refusal or (content if isinstance(content, Response) else None)
            if answer is not None:
                await answer(scope, receive, marked)
            else:
                assert isinstance(content, bytes)
                await self._app(scope, _replayed(content, receive), marked)
        except Exception as error:  # noqa: BLE001 - the outermost turn of a request
            self._log.error("request failed", request=request_id, path=scope["path"], trace=trace(error))
            if status == 0:
                await fault(500, "Unexpected", "the node met an error of its own")(scope, receive, marked)
        finally:
            operation = getattr(scope.get("route"), "name", "none")
            self._tally.request(operation, status, self._clock.monotonic() - began)

    def _refusal(self, scope: Scope) -> Response | None:
        if scope["path"] in OPEN:
            return None
        headers = Headers(scope=scope)
        if self._gate.admits(headers.get("authorization", "")):
            return None
        self._tally.login_refused()
        peer = (scope.get("client") or ("unix", 0))[0]
        wait = self._gate.wait_after_guess(peer)
        if wait:
            message = "too many requests without a valid token"
            return fault(429, "TooManyRequests", message, {"Retry-After": str(wait)})
        message = "a valid bearer token is needed"
        return fault(401, "AuthenticationFailed", message, {"WWW-Authenticate": "Bearer"})

    async def _body(self, scope: Scope, receive: Receive) -> bytes | Response:
        """The whole body, or the answer to one that is too long or too slow."""
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > REQUEST_LIMIT:
            return _too_long()
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > REQUEST_LIMIT:
                        return _too_long()
                    chunks.append(chunk)
                    if message["type"] != "http.request" or not message.get("more_body"):
                        return b"".join(chunks)
        except TimeoutError:
            return fault(408, "Timeout", "the body did not arrive in time", {"Connection": "close"})


def _too_long() -> Response:
    message = f"a body may have {REQUEST_LIMIT} bytes"
    return fault(413, "TooLarge", message, {"Connection": "close"})


def _replayed(content: bytes, receive: Receive) -> Receive:
    """`receive` with the body that was read already; afterwards it tells of the disconnection, as the server does."""
    told = False

    async def once() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": content, "more_body": False}

    return once
