"""The decisions that the loop asks for, as one value: tests hand in planners that are broken on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from toolkeeper.planning import connections, desired, placement
from toolkeeper.planning import decide as deciding
from toolkeeper.planning import unplaced as nowhere
from toolkeeper.planning.connections import Answer
from toolkeeper.planning.desired import Rendered
from toolkeeper.planning.observed import Observation
from toolkeeper.planning.placement import Placement
from toolkeeper.planning.world import Decision, Policy, Wanted, World
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
        token: Answer | None,
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


Broken = tuple[Key, Exception]
"""A server that cannot be decided on, and why."""


def decide_around(decide: Decide, world: World) -> tuple[Decision, list[Broken]]:
    """The decision, without the servers that make `decide` fail; then nothing is concluded from their absence."""
    try:
        return decide(world), []
    except Exception:
        broken = [
            (each.server.key, error)
            for each in world.servers
            if (error := _error(decide, world, each)) is not None
        ]
        if not broken:
            raise
        keys = {key for key, _ in broken}
        rest = tuple(each for each in world.servers if each.server.key not in keys)
        return decide(replace(world, servers=rest, complete=False)), broken


def _error(decide: Decide, world: World, alone: Wanted) -> Exception | None:
    try:
        decide(replace(world, servers=(alone,), complete=False))
    except Exception as error:  # noqa: BLE001 - it is reported with the name of the server
        return error
    return None
