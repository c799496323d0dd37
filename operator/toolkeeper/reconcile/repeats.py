"""Steps that a toolbox did not take and that are planned again: each waits longer than the time before.

Acting is followed by a fresh look, and a look by a decision, so that without this what is refused would be asked
twice a second for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from toolkeeper.planning.plan import Step
from toolkeeper.planning.world import Hindrance
from toolkeeper.resources.meta import Key

LONGEST = 30.0
"""Seconds. No jitter: only the one leader calls a toolbox."""

Deed = tuple[Key, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class _Try:
    times: int
    not_before: float
    hindrance: Hindrance


@dataclass(slots=True)
class Repeats:
    """What was tried on one toolbox and is still to be done. Times are those of the monotonic clock."""

    _tries: dict[Deed, _Try] = field(default_factory=dict)

    def admitted(self, steps: Sequence[Step], now: float) -> list[Step]:
        """Those that may be taken now; a server's later steps wait for its earlier ones.

        What is not planned any more is forgotten.
        """
        planned = {_deed(step) for step in steps}
        self._tries = {deed: known for deed, known in self._tries.items() if deed in planned}
        held: set[Key] = set()
        free: list[Step] = []
        for step in steps:
            known = self._tries.get(_deed(step))
            if step.server in held or (known is not None and now < known.not_before):
                held.add(step.server)
            else:
                free.append(step)
        return free

    def failed(self, step: Step, message: str, now: float) -> None:
        """The toolbox did not take it."""
        known = self._tries.get(_deed(step))
        times = 1 if known is None else known.times + 1
        pause = min(LONGEST, 2.0 ** min(times - 1, 10))
        self._tries[_deed(step)] = _Try(times, now + pause, Hindrance(step.verb, step.container, message))

    def due(self, now: float) -> float | None:
        """Seconds until something may be tried again; None if nothing waits for that alone."""
        waits = (known.not_before - now for known in self._tries.values())
        return min((each for each in waits if each > 0), default=None)

    def hindrance(self, server: Key) -> Hindrance | None:
        """What stands in the way of a step of that server, and did so twice: what passes by itself is no news."""
        return next(
            (each.hindrance for deed, each in self._tries.items() if deed[0] == server and each.times > 1),
            None,
        )


def _deed(step: Step) -> Deed:
    return step.server, step.verb, step.container, step.container_id, step.run_id, step.version
