"""A toolbox that is deleted stays until the servers that are deleted with it are cleaned up: only there can they be."""

from __future__ import annotations

from dataclasses import dataclass, field

from toolkeeper.clock import Clock
from toolkeeper.errors import Conflict, NotFound
from toolkeeper.reconcile.homes import Homes
from toolkeeper.reconcile.inventory import Inventory
from toolkeeper.reconcile.ports import Store
from toolkeeper.reconcile.recorder import Recorder
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox


@dataclass(slots=True, kw_only=True)
class Tenancy:
    """How long our finalizer stays on a deleted toolbox. Servers that nobody deletes do not hold it."""

    store: Store
    inventory: Inventory
    homes: Homes
    recorder: Recorder
    clock: Clock
    last_call: float
    """Seconds that a deleted toolbox waits for its servers to be deleted, too: a folder is deleted object by object."""
    _deleted_at: dict[Key, tuple[str, float]] = field(default_factory=dict)
    """Toolbox → (uid, when its deletion was first seen)."""

    async def end(self, key: Key) -> tuple[bool, float | None]:
        """Let go of a deleted toolbox that nobody needs any more. Raises Unreachable.

        Returns whether its version here is out of date, and the seconds after which to ask again.
        """
        toolbox = self.inventory.toolboxes.get(key)
        if toolbox is None or toolbox.metadata.deletion_timestamp is None:
            self._deleted_at.pop(key, None)
            return False, None
        if not toolbox.metadata.held or self._is_needed(key):
            return False, None
        if (left := self._left(toolbox)) > 0:
            return False, left
        try:
            await self.store.set_finalizer(toolbox, present=False)
        except (Conflict, NotFound):
            return True, None
        self.recorder.released(toolbox)
        return True, None

    def _is_needed(self, key: Key) -> bool:
        servers = (self.inventory.servers.get(each) for each in self.homes.servers_of(key))
        return any(
            each is not None and each.metadata.deletion_timestamp is not None and each.metadata.held
            for each in servers
        )

    def _left(self, toolbox: Toolbox) -> float:
        """Seconds until nobody is waited for any more."""
        if toolbox.metadata.given_up:
            return 0.0
        uid, now = toolbox.metadata.uid, self.clock.monotonic()
        known = self._deleted_at.get(toolbox.key)
        if known is None or known[0] != uid:
            known = self._deleted_at[toolbox.key] = (uid, now)
        return known[1] + self.last_call - now
