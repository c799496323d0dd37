"""How long to wait before trying again: exponential, with full jitter, so that nobody retries in step."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between `floor` and `min(cap, first * 2**failures)`, drawn evenly."""

    first: float = 1.0
    cap: float = 300.0
    floor: float = 0.05

    def delay(self, failures: int, rng: Random) -> float:
        """Seconds to wait after so many failures in a row (the first one counts as 1)."""
        ceiling = min(self.cap, self.first * 2.0 ** min(max(0, failures - 1), 40))
        return rng.uniform(min(self.floor, ceiling), ceiling)


def jittered(seconds: float, rng: Random, *, share: float = 0.1) -> float:
    """`seconds`, more or less by at most that share."""
    return seconds * rng.uniform(1.0 - share, 1.0 + share)
