"""The kinds that Toolkeeper keeps, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.toolbox import Toolbox

Resource = Toolbox | MCPServer | AgentConnection

KINDS: Final[Mapping[str, type[Toolbox] | type[MCPServer] | type[AgentConnection]]] = {
    "Toolbox": Toolbox,
    "MCPServer": MCPServer,
    "AgentConnection": AgentConnection,
}
