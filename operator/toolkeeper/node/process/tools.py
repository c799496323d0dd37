"""Running pip, npm and their like: without a shell, in a group of their own, with their last words kept."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from toolkeeper.errors import Refused

LAST_LINES = 15
TOOL_SECONDS = 900.0


async def run_tool(
    argv: Sequence[str], env: Mapping[str, str], on_line: Callable[[str], None] | None = None
) -> str:
    """Run it to its end; its last lines. Raises Refused(BuildFailed) with them when it fails.

    Cancelled, it kills the tool and everything that the tool started, and waits for that.
    """
    name = Path(argv[0]).name
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(env),
            start_new_session=True,
            limit=1024 * 1024,
        )
    except OSError as exc:
        raise Refused(f"{name} cannot be started: {exc}", reason="BuildFailed") from exc
    lines: deque[str] = deque(maxlen=LAST_LINES)
    try:
        async with asyncio.timeout(TOOL_SECONDS):
            await _read(process, lines, on_line)
            code = await process.wait()
    except TimeoutError as exc:
        raise Refused(f"{name} took more than {TOOL_SECONDS:g} s", reason="BuildFailed") from exc
    finally:
        await _end(process)
    if code:
        said = "\n".join(lines)
        raise Refused(f"{name} failed with exit code {code}:\n{said}", reason="BuildFailed")
    return "\n".join(lines)


async def _read(
    process: asyncio.subprocess.Process, lines: deque[str], on_line: Callable[[str], None] | None
) -> None:
    assert process.stdout is not None
    while chunk := await _line(process.stdout):
        text = chunk.decode(errors="replace").strip()
        if text:
            lines.append(text[:1000])
            if on_line is not None:
                on_line(text)


async def _line(stream: asyncio.StreamReader) -> bytes:
    try:
        return await stream.readline()
    except ValueError:  # longer than the limit; what matters comes after it
        return b"\n"


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())
