"""Revisions `<boot>:<n>` and who waits for the next one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Line:
    number: int = 0
    pressing: int = 0
    """The revision's number after the last change that was pressing."""
    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    pressed: asyncio.Event = field(default_factory=asyncio.Event)


class Revisions:
    """One counter per installation. `boot` is new with every start of the agent, so no old revision is met again.

    A change that is not pressing, such as progress, is told `patience` seconds later, or with the next one that is:
    bringing up twenty servers is twenty pieces of news then, not a hundred.
    """

    def __init__(self, boot: str, *, linger: float = 0.01, patience: float = 0.15) -> None:
        self._boot = boot
        self._linger = linger
        self._patience = patience
        self._lines: dict[str, _Line] = {}
        self._shared = 0
        self._closed = False

    def current(self, installation: str) -> str:
        """The present revision."""
        line = self._lines.get(installation)
        return f"{self._boot}:{self._shared + (line.number if line else 0)}"

    def bump(self, installation: str, *, pressing: bool = True) -> None:
        """Something changed: everybody who waits for that installation goes on, at once if it is pressing."""
        line = self._lines.setdefault(installation, _Line())
        line.number += 1
        self._wake(line, pressing)

    def bump_all(self) -> None:
        """Something changed that every installation shows."""
        self._shared += 1
        for line in self._lines.values():
            self._wake(line, pressing=True)

    async def wait(self, installation: str, since: str, seconds: float) -> None:
        """Return when the revision is another than `since`, after `seconds`, or when the agent stops.

        An unknown `since` (another boot, nonsense) is another at once. Changes come in bursts, so whoever was waiting
        lingers for a moment and takes the burst as one.
        """
        if seconds <= 0 or self._closed:
            return
        if since != self.current(installation):
            line = self._lines.get(installation)
            if line is not None and self._lacks_only_what_can_wait(line, since):
                await _set(line.pressed, min(self._patience, seconds))
            return
        line = self._lines.setdefault(installation, _Line())
        stirred, pressed = line.stirred, line.pressed
        if await _set(stirred, seconds) and not self._closed:
            if not pressed.is_set():
                await _set(pressed, self._patience)
            await asyncio.sleep(self._linger)

    def close(self) -> None:
        """Nobody waits any more."""
        self._closed = True
        self.bump_all()

    def _lacks_only_what_can_wait(self, line: _Line, since: str) -> bool:
        boot, _, number = since.rpartition(":")
        if boot != self._boot or not number.isdecimal():
            return False
        return line.pressing <= int(number) < self._shared + line.number

    def _wake(self, line: _Line, pressing: bool) -> None:
        stirred, line.stirred = line.stirred, asyncio.Event()
        stirred.set()
        if pressing:
            line.pressing = self._shared + line.number
            pressed, line.pressed = line.pressed, asyncio.Event()
            pressed.set()


async def _set(event: asyncio.Event, seconds: float) -> bool:
    """Wait for it, but no longer than that. Returns whether it came."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
