"""How well the store hears: what its lists and its watch prove about each other, and about the server."""

from __future__ import annotations

from dataclasses import dataclass

from toolkeeper.clock import Clock
from toolkeeper.stores.kubernetes.feed import KopfFeed


@dataclass(frozen=True, slots=True)
class Health:
    """How well the store hears. `alive` is False only if what can be done in this process did not mend it."""

    listed_ago: float | None
    """Seconds since all kinds were listed; None: never."""
    heard_ago: float
    """Seconds since the server last answered the watch, of the kind that waits longest."""
    missed: int
    """Changes that a list of ours showed before the watch did."""
    failure: str
    """What goes wrong now; empty if nothing does."""
    alive: bool


class Hearing:
    """Lists that were tried, beside a watch."""

    def __init__(self, watching: KopfFeed, clock: Clock) -> None:
        self._watching, self._clock = watching, clock
        self._listed_at: float | None = None
        self._answers_since: float | None = None
        """When the first list came through after the last that did not; None: the last one did not."""
        self.failure = ""
        """Why the last list did not come through; empty if it did."""
        self.lists = 0
        """Those that came through."""
        self.missed = 0
        """Changes that a list showed before the watch did."""

    @property
    def begun(self) -> bool:
        """Whether a list ever came through."""
        return self._listed_at is not None

    def listed(self, asked: float) -> None:
        """A list came through that was asked for at that time of the monotonic clock."""
        self._listed_at, self.failure = asked, ""
        if self._answers_since is None:
            self._answers_since = asked
        self.lists += 1

    def not_listed(self, failure: str) -> None:
        """A list did not come through."""
        self.failure, self._answers_since = failure, None

    def health(self, *, working: bool) -> Health:
        """How well the store hears now, if everything of it is still `working`."""
        now = self._clock.monotonic()
        return Health(
            None if self._listed_at is None else now - self._listed_at,
            self._watching.silent_for(),
            self.missed,
            self.failure or self._watching.pulse.failure,
            alive=working and not self._deaf(now),
        )

    def _deaf(self, now: float) -> bool:
        """Whether the watch stays silent, begun anew or not, while the server has been there all that time."""
        if self._listed_at is None or self._answers_since is None:
            return False
        bound = self._watching.deaf_after
        silent_since = max(self._watching.heard_at, self._answers_since)
        return now > silent_since + 2 * bound and self._listed_at > silent_since + bound
