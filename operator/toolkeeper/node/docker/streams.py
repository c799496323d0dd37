"""What comes out of a container and goes into it: log lines, and the standard streams of a stdio server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from toolkeeper.errors import Conflict, NotFound, Unreachable
from toolkeeper.node.docker.engine import OLDEST_API, Engine

LONGEST_LINE: Final = 2048
HEADER: Final = 8
STDOUT: Final = 1
MOST_AT_ONCE: Final = 65536


@dataclass
class Lines:
    """Cuts what arrives in pieces into lines; a line that is too long is cut short, not passed on in parts."""

    _rest: bytes = b""

    def feed(self, piece: bytes) -> Iterator[str]:
        """The lines that are complete now."""
        *whole, self._rest = (self._rest + piece).split(b"\n")
        self._rest = self._rest[: 2 * LONGEST_LINE]
        yield from map(_readable, whole)

    def end(self) -> Iterator[str]:
        """What was left without an end of line."""
        if self._rest:
            yield _readable(self._rest)
        self._rest = b""


@dataclass
class Frames:
    """Takes Docker's multiplexed stream apart: eight bytes say which stream and how much of it follows."""

    _buffer: bytearray = field(default_factory=bytearray)

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """(stream, content) of every frame that is complete now."""
        self._buffer += piece
        while len(self._buffer) >= HEADER:
            end = HEADER + int.from_bytes(self._buffer[4:HEADER])
            if len(self._buffer) < end:
                return
            stream, content = self._buffer[0], bytes(self._buffer[HEADER:end])
            del self._buffer[:end]
            yield stream, content


def lines_of(pieces: Iterable[bytes]) -> list[str]:
    """All lines of a log that is read at once."""
    lines = Lines()
    found = [line for piece in pieces for line in lines.feed(piece)]
    return [*found, *lines.end()]


async def last_lines(engine: Engine, container: str, *, stdout: bool, tail: int = 20) -> tuple[str, ...]:
    """The last lines that a container wrote; none if it is gone."""
    try:
        text: bytes = await engine.call(_read, engine, container, stdout, tail)
    except (NotFound, Conflict):  # Conflict: it is being removed
        return ()
    return tuple(lines_of([text])[-tail:])


def _read(engine: Engine, container: str, stdout: bool, tail: int, timestamps: bool = False) -> bytes:
    # The daemon counts the lines of both streams before it leaves one out.
    return engine.api.logs(
        container,
        stdout=stdout,
        stderr=True,
        stream=False,
        timestamps=timestamps,
        tail=tail if stdout else "all",
    )


async def follow(
    engine: Engine, container: str, *, stdout: bool, tail: int | None = None, follow: bool = True
) -> AsyncGenerator[str]:
    """The last lines (all of them without `tail`), then with `follow` those that are written until it ends."""
    seen = ""
    if tail is not None:
        past = lines_of([await engine.call(_read, engine, container, stdout, max(tail, 1), True)])
        for line in past[-tail:] if tail else ():
            yield line.partition(" ")[2]
        seen = past[-1].partition(" ")[0] if past else ""
        if not follow:
            return
    frames, lines = Frames(), Lines()
    params = {
        "stdout": int(stdout),
        "stderr": 1,
        "follow": int(follow),
        "timestamps": 1,
        "since": _instant(seen),
    }
    async with engine.stream(f"/containers/{container}/logs", params) as pieces:
        async for piece in pieces:
            for _, content in frames.feed(piece):
                for line in lines.feed(content):
                    at, _, text = line.partition(" ")
                    if at > seen:
                        yield text
    for line in lines.end():
        yield line.partition(" ")[2]


def _instant(timestamp: str) -> str:
    """`2026-01-01T00:00:00.123456789Z` in the seconds that the daemon wants, to the nanosecond."""
    if not timestamp:
        return "0"
    whole, _, fraction = timestamp.removesuffix("Z").partition(".")
    return f"{int(datetime.fromisoformat(whole + '+00:00').timestamp())}.{fraction or '0'}"


async def json_lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """The JSON objects of a stream that has one on each line."""
    rest = b""
    async for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if line.strip():
                yield json.loads(line)


class Attached:
    """The standard streams of a running container. A `runtime.ByteStream`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = Frames()
        self._ready: list[bytes] = []

    async def send(self, chunk: bytes) -> None:
        try:
            self._writer.write(chunk)
            await self._writer.drain()
        except OSError as exc:
            raise Unreachable("the server's stdin is gone", reason="RuntimeUnavailable") from exc

    async def receive(self) -> bytes:
        while not self._ready:
            try:
                piece = await self._reader.read(MOST_AT_ONCE)
            except OSError:
                piece = b""
            if not piece:
                return b""
            self._ready = [content for stream, content in self._frames.feed(piece) if stream == STDOUT]
        whole, self._ready = b"".join(self._ready), []
        return whole


@asynccontextmanager
async def attach(socket: str, container: str) -> AsyncIterator[Attached]:
    """Attach to stdin and stdout of a container with that id, through the daemon's Unix socket.

    By hand, because the SDK reads the answer's head through a buffer and loses what the server wrote right after it.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError as exc:
        raise Unreachable(f"Docker does not answer at {socket}: {exc}", reason="RuntimeUnavailable") from exc
    try:
        target = f"/v{OLDEST_API}/containers/{container}/attach?stream=1&stdin=1&stdout=1"
        writer.write(
            f"POST {target} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError) as exc:
            raise Unreachable("Docker closed the connection", reason="RuntimeUnavailable") from exc
        status = head.split(b" ", 2)[1]
        if status == b"404":
            raise NotFound(f"there is no container {container}")
        if status not in (b"101", b"200"):
            raise Unreachable(f"Docker does not attach ({status.decode()})", reason="RuntimeUnavailable")
        yield Attached(reader, writer)
    finally:
        writer.close()


def _readable(line: bytes) -> str:
    return line[:LONGEST_LINE].decode(errors="replace").rstrip("\r")
