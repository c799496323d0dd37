"""Probing a server over any byte stream: the attach stream of a container, pipes, a fifo beside a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp_types import JSONRPCMessage, jsonrpc_message_adapter

from toolkeeper.probe.conversation import Era, SdkMessage, converse
from toolkeeper.probe.evidence import Evidence
from toolkeeper.probe.outcome import ProbeOutcome
from toolkeeper.probe.sdk import SessionMessage

Send = Callable[[bytes], Awaitable[None]]
Receive = Callable[[], Awaitable[bytes]]

DISCOVER_SECONDS = 5.0
"""A legacy server may leave `server/discover` unanswered, so it gets no more than this and half of the time."""

_GONE = (OSError, EOFError, anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError)


async def probe_stream(
    send: Send,
    receive: Receive,
    timeout: float,  # noqa: ASYNC109 - the wall clock is part of the promise
    *,
    era: Era = "",
) -> ProbeOutcome:
    """One handshake and the complete list of tools over newline-delimited JSON, within `timeout` seconds.

    `receive` returns some bytes of the server's stdout, b"" at its end; both callables must be cancellable, and
    belong to the caller, who ends the server afterwards: its one conversation has been had. Lines that are no
    JSON-RPC messages are skipped and become the finding `StdoutNoise`.
    """
    evidence = Evidence()
    patience = min(DISCOVER_SECONDS, timeout / 2)
    lines = _lines(send, receive, evidence)
    return await converse(lines, evidence, seconds=timeout, discover_seconds=patience, era=era)


@asynccontextmanager
async def _lines(
    send: Send, receive: Receive, evidence: Evidence
) -> AsyncIterator[tuple[MemoryObjectReceiveStream[SdkMessage], MemoryObjectSendStream[SessionMessage]]]:
    """The SDK's pair of message streams over two byte streams, as its own `stdio_client` makes it."""
    arriving, inbox = anyio.create_memory_object_stream[SdkMessage](0)
    outbox, leaving = anyio.create_memory_object_stream[SessionMessage](0)
    async with arriving, inbox, outbox, leaving, anyio.create_task_group() as group:
        group.start_soon(_read, receive, arriving, evidence)
        group.start_soon(_write, send, leaving, arriving, evidence)
        yield inbox, outbox
        group.cancel_scope.cancel()


async def _read(receive: Receive, arriving: MemoryObjectSendStream[SdkMessage], evidence: Evidence) -> None:
    """Deliver every message; closing the stream tells the session that the server has gone."""
    rest = bytearray()
    async with arriving:
        while True:
            try:
                chunk = await receive()
            except _GONE:
                chunk = b""
            if not chunk:
                evidence.ended = True
                return
            evidence.take(len(chunk))  # bounds the longest line as well
            searched = len(rest)
            rest += chunk
            if rest.find(b"\n", searched) < 0:
                continue
            *lines, rest = rest.split(b"\n")
            for line in filter(bytes.strip, map(bytes, lines)):
                message = _parse(line)
                if message is None:
                    evidence.noise += 1
                    continue
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # nobody waits any more
                    await arriving.send(SessionMessage(message))


def _parse(line: bytes) -> JSONRPCMessage | None:
    if not line.lstrip().startswith(b"{"):  # the parser takes ten times as long to say so
        return None
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        return None


async def _write(
    send: Send,
    leaving: MemoryObjectReceiveStream[SessionMessage],
    arriving: MemoryObjectSendStream[SdkMessage],
    evidence: Evidence,
) -> None:
    """Send every message; a server that reads no more has gone."""
    try:
        async for item in leaving:
            await send(item.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
    except _GONE:
        evidence.ended = True
        await arriving.aclose()
