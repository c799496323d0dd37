"""Requests to the API server: one method, JSON in and out, our errors, patience where the server asks for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Literal

import aiohttp

from toolkeeper.clock import Clock, SystemClock
from toolkeeper.errors import Unreachable
from toolkeeper.stores.kubernetes import access
from toolkeeper.stores.kubernetes.answers import Expired, Json, TooBusy, Unauthenticated, failure

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
ONLY_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
APPLY_PATCH = "application/apply-patch+yaml"

FIELD_MANAGER = "toolkeeper"
PAGE = 500
ATTEMPTS = 4
PATIENCE = 10.0
"""Seconds that a request waits at the server's wish; whoever asks waits longer in a way of his own."""


class Api:
    """The API server, for one event loop.

    Every write that goes through here names the version that it replaces or a name of its own, so that repeating one
    whose answer was lost does no harm.
    """

    def __init__(self, login: access.Login = access.login, *, clock: Clock | None = None) -> None:
        self._login, self._clock = login, clock or SystemClock()
        self._session: aiohttp.ClientSession | None = None
        self._worn: aiohttp.ClientSession | None = None
        """The one before, whose credentials expired: what was asked through it may still be answered."""
        self._opening: asyncio.Task[aiohttp.ClientSession] | None = None
        self._expires: datetime | None = None
        self._server = ""
        self._not_before = 0.0
        self.answers: dict[int, int] = {}
        """How many answers had which status; 0 counts those that did not come."""
        self.sent: dict[Method, int] = {}
        """How many requests of each method were sent."""

    async def request(
        self,
        method: Method,
        path: str,
        *,
        body: object = None,
        content_type: str = JSON,
        params: Mapping[str, str] | None = None,
        accept: str = JSON,
    ) -> Json:
        """The answer's document. Raises Conflict, NotFound, Refused, Unreachable."""
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        headers = {"Accept": accept} | ({"Content-Type": content_type} if data is not None else {})
        for attempt in range(1, ATTEMPTS + 1):
            await self._wait()
            try:
                return await self._once(method, path, data, headers, params)
            except TooBusy as exc:
                self._not_before = asyncio.get_running_loop().time() + exc.retry_after
                if attempt == ATTEMPTS:
                    raise
            except Unauthenticated:
                await self.aclose()
                if attempt > 1:
                    raise
        raise AssertionError("the last attempt raises or returns")

    async def pages(self, path: str) -> AsyncIterator[Json]:
        """A list, in pages. Raises Expired when it took so long that the rest is of another time."""
        params = {"limit": str(PAGE)}
        while True:
            page = await self.request("GET", path, params=params)
            yield page
            following = page.get("metadata", {}).get("continue")
            if not following:
                return
            params["continue"] = following

    async def whole(self, path: str) -> tuple[list[Json], str]:
        """A list and its version, all of one moment. Raises Refused, Unreachable."""
        for _ in range(3):
            items: list[Json] = []
            version = ""
            try:
                async for page in self.pages(path):
                    items += page.get("items") or []
                    version = str(page.get("metadata", {}).get("resourceVersion", ""))
            except Expired:
                continue
            return items, version
        raise Unreachable(f"GET {path} never came to its end", reason="StoreUnreachable")

    async def aclose(self) -> None:
        """Close the connections; the next request opens new ones, with credentials read anew."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        sessions, self._session, self._worn = (self._session, self._worn), None, None
        for session in sessions:
            if session is not None:
                await session.close()

    async def _once(
        self,
        method: Method,
        path: str,
        data: bytes | None,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None,
    ) -> Json:
        session = await self._opened()
        self.sent[method] = self.sent.get(method, 0) + 1
        try:
            async with session.request(
                method, self._server + path, data=data, headers=headers, params=params
            ) as answer:
                body = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            self.answers[0] = self.answers.get(0, 0) + 1
            raise Unreachable(
                f"Kubernetes does not answer {method} {path}: {str(exc) or type(exc).__name__}",
                reason="StoreUnreachable",
            ) from exc
        self.answers[answer.status] = self.answers.get(answer.status, 0) + 1
        if answer.status >= 400:
            raise failure(method, path, answer.status, body, answer.headers.get("Retry-After"))
        return _document(method, path, body)

    async def _opened(self) -> aiohttp.ClientSession:
        """The session, with credentials that hold. Raises Unreachable, Invalid."""
        expired = self._expires is not None and self._clock.now() >= self._expires
        if self._session is not None and not expired:
            return self._session
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_heeded)
        # To log in may take longer than one of those who wait for it: whoever is next finds it done.
        return await asyncio.shield(self._opening)

    async def _open(self) -> aiohttp.ClientSession:
        try:
            info = await asyncio.to_thread(self._login)
            worn, self._worn = self._worn, self._session
            self._server, self._expires = info.server.rstrip("/"), info.expiration
            self._session = access.session(info)
            if worn is not None:
                await worn.close()
            return self._session
        finally:
            self._opening = None

    async def _wait(self) -> None:
        ahead = self._not_before - asyncio.get_running_loop().time()
        if ahead > PATIENCE:
            raise Unreachable(f"Kubernetes asks for {ahead:.0f} s of patience", reason="StoreUnreachable")
        if ahead > 0:
            await asyncio.sleep(ahead)


def _heeded(task: asyncio.Task[Any]) -> None:
    """Whoever waited for it may have gone; its failure is none of the event loop's business."""
    if not task.cancelled():
        task.exception()


def _document(method: str, path: str, body: bytes) -> Json:
    try:
        document: Any = json.loads(body)
    except ValueError as exc:
        raise Unreachable(f"{method} {path} was not answered with JSON", reason="StoreUnreachable") from exc
    if not isinstance(document, dict):
        raise Unreachable(f"{method} {path} was not answered with an object", reason="StoreUnreachable")
    return document
