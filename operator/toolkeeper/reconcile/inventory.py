"""What the loop believes the stores hold, and how a new listing changes that belief."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from toolkeeper.reconcile.ports import Listing, Problem, Resource
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox

REMEMBERED = 20_000
"""Superseded versions that are kept in mind; a source does not lag behind by more."""


@dataclass(frozen=True, slots=True)
class Difference:
    """What a listing changed."""

    changed: tuple[Resource, ...] = ()
    """New or other than before, as they are now."""
    removed: tuple[Resource, ...] = ()
    """Gone, as they were."""


class Inventory:
    """All resources, never going back in time: a version that was seen replaced is not believed again."""

    def __init__(self) -> None:
        self.toolboxes: dict[Key, Toolbox] = {}
        self.servers: dict[Key, MCPServer] = {}
        self.connections: dict[Key, AgentConnection] = {}
        self.listed = False
        """Whether there ever was a listing."""
        self.complete = False
        """Whether the absence of a resource means anything."""
        self.problems: tuple[Problem, ...] = ()
        self._superseded: OrderedDict[tuple[Key, str, str], None] = OrderedDict()

    def get(self, key: Key) -> Resource | None:
        """The resource as it was last seen."""
        return self._shelf(key).get(key)

    def take(self, listing: Listing) -> Difference:
        """Believe a listing. From an incomplete one, nothing is concluded about what it does not show."""
        changed = [each for each in listing.resources if self._is_news(each)]
        for each in changed:
            self.put(each)
        removed: list[Resource] = []
        if listing.complete:
            shown = {each.key for each in listing.resources}
            removed = [each for each in self if each.key not in shown]
            for each in removed:
                self.forget(each.key)
        self.listed, self.complete, self.problems = True, listing.complete, listing.problems
        return Difference(tuple(changed), tuple(removed))

    def put(self, resource: Resource) -> None:
        """This version is newer than what was known: we wrote it, or a listing shows it."""
        before = self.get(resource.key)
        if before is not None and _version(before) != _version(resource):
            self._supersede(before)
        self._shelf(resource.key)[resource.key] = resource

    def forget(self, key: Key) -> None:
        """It is gone."""
        before = self._shelf(key).pop(key, None)
        if before is not None:
            self._supersede(before)

    def __iter__(self) -> Iterator[Resource]:
        yield from self.toolboxes.values()
        yield from self.servers.values()
        yield from self.connections.values()

    def _is_news(self, resource: Resource) -> bool:
        before, version = self.get(resource.key), _version(resource)
        if before is None or before.metadata.uid != resource.metadata.uid:
            return version not in self._superseded
        older = resource.metadata.generation < before.metadata.generation
        return not older and version != _version(before) and version not in self._superseded

    def _supersede(self, resource: Resource) -> None:
        self._superseded[_version(resource)] = None
        while len(self._superseded) > REMEMBERED:
            self._superseded.popitem(last=False)

    def _shelf(self, key: Key) -> dict[Key, Resource]:
        shelf = {"Toolbox": self.toolboxes, "MCPServer": self.servers, "AgentConnection": self.connections}[
            key.kind
        ]
        return cast("dict[Key, Resource]", shelf)  # each kind has a shelf of its own


def _version(resource: Resource) -> tuple[Key, str, str]:
    return resource.key, resource.metadata.uid, resource.metadata.resource_version
