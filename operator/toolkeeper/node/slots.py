"""How many creates run at once. One that waits for a pull or a build holds no slot."""

from __future__ import annotations

import asyncio
from collections import deque


class Slots:
    """A semaphore whose holder may step aside and come back without waiting.

    Coming back never waits (it happens inside a synchronous progress call), so the bound may be exceeded by those who
    come back from a pull at the same moment; nobody new is let in until it holds again.
    """

    def __init__(self, number: int) -> None:
        self._free = number
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Wait for a slot."""
        if self._free > 0:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            raise

    def take_now(self) -> None:
        """Take one at once, even beyond the bound."""
        self._free -= 1

    def give(self) -> None:
        """Give one back."""
        self._free += 1
        while self._free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self._free -= 1
                turn.set_result(None)
