"""The statuses that need no look at a toolbox: of servers that are placed nowhere, and of connections."""

from __future__ import annotations

from toolkeeper.clock import Clock
from toolkeeper.errors import Conflict, NotFound
from toolkeeper.reconcile.homes import Homes
from toolkeeper.reconcile.inventory import Inventory
from toolkeeper.reconcile.planner import Planner
from toolkeeper.reconcile.ports import Resource, Store
from toolkeeper.reconcile.recorder import Recorder
from toolkeeper.reconcile.tokens import Tokens
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.conditions import is_true
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox


class Statuses:
    """Writes them, once per change. A version that is no longer the newest is looked at again after a listing."""

    def __init__(
        self,
        store: Store,
        inventory: Inventory,
        homes: Homes,
        planner: Planner,
        recorder: Recorder,
        clock: Clock,
    ) -> None:
        self._store, self._inventory, self._homes = store, inventory, homes
        self._planner, self._recorder, self._clock = planner, recorder, clock
        self._tokens = Tokens(store, recorder, clock)

    async def server(self, key: Key) -> bool:
        """Of a server that is placed nowhere. Returns False when our version of it is out of date."""
        server, placement = self._inventory.servers.get(key), self._homes.placement(key)
        if server is None or placement is None or placement.toolbox is not None:
            return True
        if placement.released and server.metadata.held:
            return await self._release(server)
        return await self._write(server, self._planner.unplaced(server, placement, self._clock.now()))

    async def connection(self, key: Key) -> bool:
        """Of a connection. Returns False when our version of it is out of date."""
        connection = self._inventory.connections.get(key)
        if connection is None:
            self._tokens.forget(key)
            return True
        token = await self._tokens.answer(connection)
        servers, toolboxes = self._inventory.servers.values(), self._inventory.toolboxes.values()
        now = self._clock.now()
        return await self._write(
            connection, self._planner.connection(connection, tuple(servers), tuple(toolboxes), now, token)
        )

    async def _write(self, before: Resource, after: Resource) -> bool:
        if after is before:
            return True
        try:
            stored = await self._store.write_status(after)
        except (Conflict, NotFound) as error:
            self._recorder.wrote(after, error)
            return False
        self._recorder.wrote(stored, None)
        return self._inventory.put(stored, instead_of=before)

    async def _release(self, server: MCPServer) -> bool:
        try:
            await self._store.set_finalizer(server, present=False)
        except (Conflict, NotFound):
            return False
        self._recorder.released(server)
        return False


def matters_to_connections(before: Resource | None, after: MCPServer) -> bool:
    """Whether a connection may read something else in the status of this server now."""
    return not isinstance(before, MCPServer) or _told(before) != _told(after)


def _told(server: MCPServer) -> tuple[object, ...]:
    status = server.status
    return is_true(status.conditions, "Ready"), status.toolbox, status.tools


def binds(connection: AgentConnection, resource: Resource) -> bool:
    """Whether a change of `resource` may change what is said about the connection."""
    if isinstance(resource, Toolbox):
        return True
    if not isinstance(resource, MCPServer) or resource.metadata.namespace != connection.metadata.namespace:
        return False
    if connection.spec.server_ref is not None:
        return connection.spec.server_ref == resource.metadata.name
    return (connection.spec.server_selector or {}).items() <= resource.metadata.labels.items()
