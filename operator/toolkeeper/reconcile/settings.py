"""How the loop paces itself, in one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from toolkeeper.reconcile.backoff import Backoff
from toolkeeper.reconcile.executor import ExecutorSettings
from toolkeeper.reconcile.observe import WatchSettings


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """Seconds throughout."""

    resync: float = 300.0
    """Between passes over a toolbox of which nothing is heard, and between listings of a quiet store."""
    doubt: float = 20.0
    """Between listings while the last one did not show everything."""
    pace: float = 0.5
    """Between listings of a store that changes all the time, at most; quick ones follow each other more closely."""
    passes: int = 64
    """At a time; a pass mostly waits for others."""
    list_patience: float = 60.0
    """For a listing."""
    farewell: float = 5.0
    """For giving up the lease at the end."""
    last_call: float = 10.0
    """That a deleted toolbox waits for the deletion of its servers."""
    backoff: Backoff = field(default_factory=lambda: Backoff(first=1.0, cap=60.0))
    """Of passes that failed."""
    watch: WatchSettings = field(default_factory=WatchSettings)
    executor: ExecutorSettings = field(default_factory=ExecutorSettings)
