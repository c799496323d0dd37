"""Toolboxes that lead to one host: only the oldest counts. Acting through two, an operator would fence off itself, and
stop: one object could end it for all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from toolkeeper.clock import Clock
from toolkeeper.errors import Refused
from toolkeeper.planning.observed import Snapshot
from toolkeeper.resources.meta import Key

SAME_HOST = "SameHost"


@dataclass(slots=True)
class _Face:
    """What a toolbox showed of its host."""

    boot: str
    """Which start of its agent; no two agents share one."""
    held: frozenset[str]
    """Ids of the containers it showed; no two hosts share one."""
    since: float
    """When it first showed that."""
    seen_at: float
    twin_of: Key | None = None


@dataclass(slots=True, kw_only=True)
class Twins:
    """Which toolboxes lead where."""

    age: Callable[[Key], object]
    """Sorts toolboxes, the oldest first."""
    look: Callable[[Key], None]
    """Called with a toolbox that has to be looked at again: an older one leads to its host."""
    clock: Clock
    _faces: dict[Key, _Face] = field(default_factory=dict)

    def accept(self, toolbox: Key, snapshot: Snapshot) -> None:
        """Raises Refused when an older toolbox leads to the host that this one shows."""
        now, boot = self.clock.monotonic(), snapshot.revision.rpartition(":")[0]
        held = frozenset(each.container_id for each in snapshot.containers if each.container_id)
        face = self._faces.get(toolbox)
        if face is None:
            face = self._faces[toolbox] = _Face(boot, held, now, now)
        face.held = held
        if face.boot != boot:
            face.boot, face.since = boot, now
        face.seen_at = now
        face.twin_of = self._older_twin(toolbox, face)
        if face.twin_of is not None:
            raise Refused(self._told(face, face.twin_of), reason=SAME_HOST)
        for key, each in self._faces.items():
            if each.twin_of is not None or not self._is_older_twin(toolbox, key, each):
                continue
            if self._older_twin(key, each) == toolbox:
                each.twin_of = toolbox
                self.look(key)

    def is_one(self, toolbox: Key) -> bool:
        """Whether an older toolbox stands for its host."""
        face = self._faces.get(toolbox)
        return face is not None and face.twin_of is not None

    def forget(self, toolbox: Key) -> None:
        """It is gone, or leads elsewhere now."""
        self._faces.pop(toolbox, None)

    def _older_twin(self, toolbox: Key, face: _Face) -> Key | None:
        twins = (key for key in self._faces if self._is_older_twin(key, toolbox, face))
        return min(twins, key=str, default=None)

    def _is_older_twin(self, one: Key, toolbox: Key, face: _Face) -> bool:
        other = self._faces[one]
        # The agent was started again: until the older one was asked since, they lead to one host as before.
        unasked = face.twin_of == one and other.seen_at < face.since
        # The cheap question first: it is asked of every toolbox, whenever one answers.
        same = bool(face.boot) and (other.boot == face.boot or unasked)
        return (same or not other.held.isdisjoint(face.held)) and self._is_older(one, toolbox)

    def _told(self, face: _Face, twin: Key) -> str:
        said = f"toolbox {twin.namespace}/{twin.name} leads to the same host, and is the older one"
        if face.held.isdisjoint(self._faces[twin].held) or face.boot == self._faces[twin].boot:
            return said
        return f"{said}: two node agents run on one Docker"

    def _is_older(self, one: Key, other: Key) -> bool:
        return one != other and (self.age(one), one) < (self.age(other), other)
