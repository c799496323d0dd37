"""The circuit breaker of one toolbox: after some failures in a row, calls wait instead of piling up.

    success                     failure (the threshold's)
┌────────────┐  ┌───────────────────────────────────────┐
│            ▼  │                                       ▼
└──────── closed ◄──── success ──── half open ◄──── open ◄─┐
                                        │     time passed  │
                                        └──── failure ─────┘
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True, slots=True)
class Breaker:
    """An immutable breaker; each event returns the next one. Times are monotonic seconds, given by the caller."""

    threshold: int = 3
    """Failures in a row that open it."""
    failures: int = 0
    open_until: float = 0.0

    def state(self, now: float) -> Literal["closed", "open", "half open"]:
        """Closed lets everything pass, open nothing, half open one trial."""
        if self.failures < self.threshold:
            return "closed"
        return "open" if now < self.open_until else "half open"

    def admits(self, now: float) -> bool:
        """Whether a call may be made now."""
        return self.state(now) != "open"

    def waits(self, now: float) -> float:
        """Seconds until a call may be made."""
        return max(0.0, self.open_until - now) if self.failures >= self.threshold else 0.0

    def succeeded(self) -> Breaker:
        """Somebody answered (a refusal is an answer)."""
        return self if self.failures == 0 else replace(self, failures=0, open_until=0.0)

    def failed(self, now: float, pause: float) -> Breaker:
        """Nobody answered; if that opens it, it stays open for `pause` seconds."""
        failures = self.failures + 1
        return replace(self, failures=failures, open_until=now + pause if failures >= self.threshold else 0.0)
