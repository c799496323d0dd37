"""Who wrote a status or a finalizer that the cluster shows: this store, or somebody whose word does not count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from toolkeeper.clock import Clock
from toolkeeper.reconcile.ports import Change
from toolkeeper.resources.meta import Key

PATIENCE = 30.0
"""Seconds between two looks at what strangers wrote into one object: two control planes must not chase each other."""


class Strangers:
    """A status or finalizer that this store is not writing itself is an edit: the operator looks, and puts it right."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._writing: Counter[Key] = Counter()
        self._looked_at: dict[Key, float] = {}

    @contextmanager
    def writing(self, key: Key) -> Iterator[None]:
        """While this lasts, the watch may show what we write before the answer does; afterwards it is nothing new."""
        self._writing[key] += 1
        try:
            yield
        finally:
            self._writing[key] -= 1
            if not self._writing[key]:
                del self._writing[key]

    def judged(self, change: Change | None) -> Change | None:
        """The change that the watch or a list showed, as an edit if it is a stranger's."""
        if change is None or change.key is None or change.edited or change.key in self._writing:
            return change
        now = self._clock.monotonic()
        if now - self._looked_at.get(change.key, -PATIENCE) < PATIENCE:
            return change  # the next listing shows it
        self._looked_at = {key: at for key, at in self._looked_at.items() if now - at < PATIENCE}
        self._looked_at[change.key] = now
        return replace(change, edited=True)
