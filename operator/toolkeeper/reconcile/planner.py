"""The decisions that the loop asks for, as one value: tests hand in planners that are broken on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from toolkeeper.planning import connections, desired, placement
from toolkeeper.planning import decide as deciding
from toolkeeper.planning import unplaced as nowhere
from toolkeeper.planning.desired import Rendered
from toolkeeper.planning.observed import Observation
from toolkeeper.planning.placement import Placement
from toolkeeper.planning.world import Decision, Policy, World
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox


class Decide(Protocol):
    def __call__(self, world: World, /) -> Decision: ...


class Render(Protocol):
    def __call__(
        self,
        server: MCPServer,
        /,
        *,
        installation: str,
        secrets: Mapping[str, str],
        node_features: frozenset[str] = frozenset(),
    ) -> Rendered: ...


class Place(Protocol):
    def __call__(
        self,
        servers: Sequence[MCPServer],
        toolboxes: Sequence[Toolbox],
        observations: Mapping[Key, Observation],
        policy: Policy,
        /,
    ) -> Mapping[Key, Placement]: ...


class Unplaced(Protocol):
    def __call__(self, server: MCPServer, placement: Placement, now: datetime, /) -> MCPServer: ...


class Connect(Protocol):
    def __call__(
        self,
        connection: AgentConnection,
        servers: Sequence[MCPServer],
        toolboxes: Sequence[Toolbox],
        now: datetime,
        /,
    ) -> AgentConnection: ...


@dataclass(frozen=True, slots=True)
class Planner:
    """Pure functions of `toolkeeper.planning`."""

    decide: Decide = deciding.decide
    render: Render = desired.render
    place: Place = placement.place
    unplaced: Unplaced = nowhere.unplaced
    connection: Connect = connections.connection
