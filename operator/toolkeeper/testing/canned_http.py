"""An HTTP server inside the test's own process whose every answer the test decides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Request:
    verb: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        """The JSON-RPC message in the body; empty where there is none."""
        return dict(json.loads(self.body)) if self.body else {}


@dataclass(frozen=True, slots=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: bool = False
    """Send `body` as it is, in place of a response, and hang up."""


def json_reply(message: object, status: int = 200) -> Reply:
    return Reply(status, json.dumps(message).encode(), {"content-type": "application/json"})


Answer = Callable[[Request], Reply | None]
"""None = never answer; the connection stays open."""


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """Serve on a free loopback port; yields `http://127.0.0.1:PORT`. No connection outlives the block."""
    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while (request := await _read(reader)) is not None:
                    await _write(writer, answer(request))
        finally:
            connections.discard(task)
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in tuple(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Request | None:
    start = (await reader.readline()).decode().split()
    if len(start) != 3:
        return None
    headers: dict[str, str] = {}
    while line := (await reader.readline()).strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(start[0], start[1], headers, body)


async def _write(writer: asyncio.StreamWriter, reply: Reply | None) -> None:
    if reply is None:
        await asyncio.Event().wait()
        return
    if reply.raw:
        writer.write(reply.body)
        await writer.drain()
        raise ConnectionError
    head = [f"HTTP/1.1 {reply.status} Status", f"content-length: {len(reply.body)}"]
    head += [f"{name}: {value}" for name, value in reply.headers.items()]
    writer.write(("\r\n".join(head) + "\r\n\r\n").encode() + reply.body)
    await writer.drain()
