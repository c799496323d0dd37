"""Leadership on one machine: a lock on a file, which the kernel gives back however its holder ends."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from toolkeeper.errors import Unreachable

LOOK_EVERY = 0.25
"""Seconds between looks at the lock: how late a standby takes over."""


class FileLease:
    """Fits `toolkeeper.reconcile.ports.Lease`. The file stays behind; only the lock on it means anything."""

    def __init__(
        self, path: Path, *, look_every: float = LOOK_EVERY, waiting: Callable[[str], None] | None = None
    ) -> None:
        """`waiting` is told once, each time that somebody else leads, the process id of who it is."""
        self.path = path
        """It holds the process id of whoever locked it last, for people."""
        self._look_every = look_every
        self._waiting = waiting
        self._file: int | None = None
        self._term = 0
        self._released = asyncio.Event()

    async def acquire(self) -> None:
        """Wait until this process leads. Raises Unreachable when the file cannot be made."""
        if not self._leads():
            self._let_go()
        told = False
        while self._file is None and not self._try():  # the kernel tells nobody
            if self._waiting is not None and not told:
                self._waiting(self._holder())
                told = True
            await asyncio.sleep(self._look_every)

    def at_once(self) -> bool:
        """Lead if nobody else does; returns whether. Raises Unreachable when the file cannot be made."""
        if not self._leads():
            self._let_go()
        return self._file is not None or self._try()

    async def lost(self) -> None:
        """Wait until leadership is gone: released, or the file deleted, so that others lock another one."""
        term = self._term
        while self._term == term and self._leads():
            try:
                async with asyncio.timeout(self._look_every):
                    await self._released.wait()
            except TimeoutError:
                continue
        if self._term == term:
            self._let_go()

    async def release(self) -> None:
        """Give it up at once."""
        self._let_go()

    def _holder(self) -> str:
        try:
            return self.path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            return ""

    def _leads(self) -> bool:
        return self._file is not None and _is_at(self._file, self.path)

    def _try(self) -> bool:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise Unreachable(
                f"the lease {self.path} cannot be taken: {exc.strerror}", reason="StoreUnreachable"
            ) from exc
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        if not _is_at(file, self.path):  # deleted between open and lock: this lock would exclude nobody
            os.close(file)
            return False
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)  # for people
        self._file = file
        self._term += 1
        self._released = asyncio.Event()
        return True

    def _let_go(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self._released.set()


def _is_at(file: int, path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    mine = os.fstat(file)
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)
