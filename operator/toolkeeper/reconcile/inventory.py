"""What the loop believes the stores hold, and how a new listing changes that belief."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from toolkeeper.reconcile.ports import Listing, Resource
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox


@dataclass(frozen=True, slots=True)
class Difference:
    """What a listing changed."""

    changed: tuple[Resource, ...] = ()
    """New or other than before, as they are now."""
    removed: tuple[Resource, ...] = ()
    """Gone, as they were."""


class Inventory:
    """All resources. An outdated belief does no harm: every write is guarded by the version that it is based on."""

    def __init__(self) -> None:
        self.toolboxes: dict[Key, Toolbox] = {}
        self.servers: dict[Key, MCPServer] = {}
        self.connections: dict[Key, AgentConnection] = {}
        self.complete = False
        """Whether the absence of a resource means anything."""
        self._ticks = 0
        self._touched: dict[Key, int] = {}

    def get(self, key: Key) -> Resource | None:
        """The resource as it was last seen."""
        return self._shelf(key).get(key)

    def begin(self) -> int:
        """A listing begins now; to be handed to `take` with it."""
        return self._ticks

    def take(self, listing: Listing, began: int) -> Difference:
        """Believe a listing, except about what we wrote since it began: that may be older.

        From an incomplete one, nothing is concluded about what it does not show.
        """
        known = [each for each in listing.resources if self._touched.get(each.key, 0) <= began]
        changed = tuple(each for each in known if _version(each) != _version(self.get(each.key)))
        removed: tuple[Resource, ...] = ()
        if listing.complete:
            shown = {each.key for each in listing.resources}
            removed = tuple(
                each for each in self if each.key not in shown and self._touched.get(each.key, 0) <= began
            )
        for each in changed:
            self._shelf(each.key)[each.key] = each
        for each in removed:
            self.forget(each.key)
        self.complete = listing.complete
        return Difference(changed, removed)

    def put(self, resource: Resource, *, instead_of: Resource) -> bool:
        """We wrote this version over that one. False: a listing showed yet another meanwhile; the next one tells."""
        if _version(self.get(resource.key)) not in (_version(instead_of), _version(resource)):
            return False
        self._ticks += 1
        self._touched[resource.key] = self._ticks
        self._shelf(resource.key)[resource.key] = resource
        return True

    def forget(self, key: Key) -> None:
        """It is gone."""
        self._shelf(key).pop(key, None)
        self._touched.pop(key, None)

    def __iter__(self) -> Iterator[Resource]:
        yield from self.toolboxes.values()
        yield from self.servers.values()
        yield from self.connections.values()

    def _shelf(self, key: Key) -> dict[Key, Resource]:
        shelf = {"Toolbox": self.toolboxes, "MCPServer": self.servers, "AgentConnection": self.connections}[
            key.kind
        ]
        return cast("dict[Key, Resource]", shelf)  # each kind has a shelf of its own


def _version(resource: Resource | None) -> tuple[str, str] | None:
    return None if resource is None else (resource.metadata.uid, resource.metadata.resource_version)
