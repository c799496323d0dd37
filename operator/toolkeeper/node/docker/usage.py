"""What containers use, from two looks at the daemon's counters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from toolkeeper.node.runtime import Usage

Json = dict[str, Any]


@dataclass
class Meter:
    """Remembers the counters of the last look, by container id."""

    _before: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Container id → (CPU seconds, at which second)."""

    def read(self, sample: Json, now: float) -> Usage | None:
        """From `GET /containers/{id}/stats`; None for a container that does not run."""
        memory = sample.get("memory_stats") or {}
        if "usage" not in memory:
            return None
        seconds = sample["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
        before, at = self._before.get(sample["id"], (seconds, now))
        self._before[sample["id"]] = (seconds, now)
        return Usage(
            cpu=max(0.0, seconds - before) / (now - at) if now > at else 0.0,
            memory=max(0, memory["usage"] - _cache(memory.get("stats") or {})),
            memory_limit=memory.get("limit", 0),
            pids=(sample.get("pids_stats") or {}).get("current", 0),
        )

    def keep(self, ids: frozenset[str]) -> None:
        """Forget all others."""
        self._before = {id: each for id, each in self._before.items() if id in ids}


def _cache(stats: Json) -> int:
    """Pages that the kernel would give back: under its name in cgroups of version 1, else of version 2."""
    return int(stats.get("total_inactive_file") or stats.get("inactive_file") or 0)
