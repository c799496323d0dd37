"""Revisions `<boot>:<n>` and who waits for the next one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Line:
    number: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Revisions:
    """One counter per installation. `boot` is new with every start of the agent, so no old revision is met again."""

    def __init__(self, boot: str, *, linger: float = 0.01) -> None:
        self._boot = boot
        self._linger = linger
        self._lines: dict[str, _Line] = {}
        self._shared = 0
        self._closed = False

    def current(self, installation: str) -> str:
        """The present revision."""
        line = self._lines.get(installation)
        return f"{self._boot}:{self._shared + (line.number if line else 0)}"

    def bump(self, installation: str) -> None:
        """Something changed: everybody who waits for that installation goes on."""
        line = self._lines.setdefault(installation, _Line())
        line.number += 1
        self._wake(line)

    def bump_all(self) -> None:
        """Something changed that every installation shows."""
        self._shared += 1
        for line in self._lines.values():
            self._wake(line)

    async def wait(self, installation: str, since: str, seconds: float) -> None:
        """Return when the revision is another than `since`, after `seconds`, or when the agent stops.

        An unknown `since` (another boot, nonsense) is another at once. Changes come in bursts, so whoever was waiting
        lingers for a moment and takes the burst as one.
        """
        if since != self.current(installation) or seconds <= 0 or self._closed:
            return
        line = self._lines.setdefault(installation, _Line())
        try:
            async with asyncio.timeout(seconds):
                await line.changed.wait()
        except TimeoutError:
            return
        if not self._closed:
            await asyncio.sleep(self._linger)

    def close(self) -> None:
        """Nobody waits any more."""
        self._closed = True
        self.bump_all()

    @staticmethod
    def _wake(line: _Line) -> None:
        changed, line.changed = line.changed, asyncio.Event()
        changed.set()
