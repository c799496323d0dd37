"""What the store counts about the API server and its own hearing, for metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """Totals since the start."""

    answers: Mapping[int, int]
    """Status of the API server's answers to our own requests → how many; 0: those that did not come."""
    watch_answers: Mapping[int, int]
    """The same of the watch's requests."""
    lists: int
    """Times that we listed all kinds ourselves."""
    gaps: int
    """Times that the watch of a kind had to begin anew, and could have missed something."""
    restarts: int
    """Times that the whole watch ended or went deaf, and was started again."""
    missed: int
    """Changes that a list showed before the watch did."""
    dropped_events: int
    """Events that were not written."""
