"""The standard streams of a stdio server that runs as a child process: a FIFO in, a growing file out."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from toolkeeper.errors import Unreachable

POLL_SECONDS = 0.005
"""A file that grows tells nobody; one look costs a few microseconds, and only while somebody is attached."""
LARGEST_OUTPUT = 8 * 1024 * 1024


@asynccontextmanager
async def attached(fifo: Path, output: Path) -> AsyncIterator[FifoStream]:
    """What the server writes from now on, and a way to write to it. Raises Unreachable when it does not read."""
    try:
        # Without blocking: opening a FIFO for writing succeeds only while a server has it open.
        sink = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as exc:
        raise Unreachable(f"the server does not read its input: {exc}", reason="ConnectionRefused") from exc
    try:
        source = os.open(output, os.O_RDONLY | os.O_CREAT, 0o600)
        try:
            trim(output)
            os.lseek(source, 0, os.SEEK_END)
            yield FifoStream(sink, source)
        finally:
            os.close(source)
    finally:
        os.close(sink)


def trim(output: Path) -> None:
    """Empty the file when it has grown large; the server appends, so it goes on at the start."""
    if output.exists() and output.stat().st_size > LARGEST_OUTPUT:
        os.truncate(output, 0)


class FifoStream:
    """`runtime.ByteStream` over the two descriptors."""

    def __init__(self, sink: int, source: int) -> None:
        self._sink = sink
        self._source = source

    async def send(self, chunk: bytes) -> None:
        """All of it; a server that does not read makes it wait."""
        rest = memoryview(chunk)
        while rest:
            try:
                rest = rest[os.write(self._sink, rest) :]
            except BlockingIOError:
                await asyncio.sleep(POLL_SECONDS)
            except OSError as exc:
                raise Unreachable(f"the server's input is closed: {exc}") from exc

    async def receive(self) -> bytes:
        """Some bytes, as soon as there are any. Never ends: that the server ended is seen by who watches it."""
        while not (chunk := os.read(self._source, 65536)):  # noqa: ASYNC110 - a file sets no event
            await asyncio.sleep(POLL_SECONDS)
        return chunk
