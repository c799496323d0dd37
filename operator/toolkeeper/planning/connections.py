"""What status says about one agent's connection. Nothing enforces connections until a gateway runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from toolkeeper.planning.globs import admits
from toolkeeper.planning.statuses import Said, changed_conditions
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.conditions import Status, is_true
from toolkeeper.resources.mcpserver import MOST_NAMED, MCPServer
from toolkeeper.resources.toolbox import Toolbox

Answer = tuple[Status, str, str]
"""(status, reason, message)."""

NO_GATEWAY = "no gateway runs on the toolbox yet, so nothing is granted and nothing is reachable through it"


def connection(
    resource: AgentConnection,
    servers: Sequence[MCPServer],
    toolboxes: Sequence[Toolbox],
    now: datetime,
    token: Answer | None = None,
) -> AgentConnection:
    """The connection with its new status; the very same object when nothing changed.

    `token` says whether the agent's token is there; None where it is not to have one.
    """
    generation = resource.metadata.generation
    meant = _meant(resource, servers)
    tools = tuple(sorted({tool for server in meant for tool in granted(resource, server)}))
    authorized = _authorized(resource, meant, toolboxes, now)
    said = [
        Said("ServerReady", *_server_ready(resource, meant), generation),
        Said("Authorized", *authorized, generation),
        Said("ToolsResolved", *_tools_resolved(meant, tools), generation),
        *([Said("TokenIssued", *token, generation)] if token is not None else []),
        Said("Enforced", "False", "NoGateway", NO_GATEWAY, generation),
    ]
    if resource.spec.active:
        # Who switched it off waits for nothing; who did not, waits in vain until somebody acts.
        why = authorized[1:] if authorized[0] == "False" else ("NoGateway", NO_GATEWAY)
        said += [
            Said("Ready", "False", "NoGateway", NO_GATEWAY, generation),
            Said("Stalled", "True", *why, generation),
        ]
    status, named = resource.status, tools[:MOST_NAMED]
    conditions = changed_conditions(status.conditions, said, now)
    if conditions is None and status.tools == named and status.observed_generation == generation:
        return resource
    update = {
        "observed_generation": generation,
        "tools": named,
        "conditions": status.conditions if conditions is None else conditions,
    }
    return resource.model_copy(update={"status": status.model_copy(update=update)})


def granted(resource: AgentConnection, server: MCPServer) -> tuple[str, ...]:
    """The tools of one server that the connection and the server's ceiling both admit."""
    rules, ceiling = resource.spec.tools, server.spec.access.tools
    return tuple(
        tool
        for tool in server.status.tools
        if admits(ceiling, tool) and admits(rules.allow, tool) and not admits(rules.deny, tool)
    )


def _meant(resource: AgentConnection, servers: Sequence[MCPServer]) -> list[MCPServer]:
    """The servers of its own namespace that it names."""
    spec, namespace = resource.spec, resource.metadata.namespace
    own = sorted(
        (each for each in servers if each.metadata.namespace == namespace), key=lambda each: each.key
    )
    if spec.server_ref is not None:
        return [each for each in own if each.metadata.name == spec.server_ref]
    wanted = (spec.server_selector or {}).items()
    return [each for each in own if wanted <= each.metadata.labels.items()]


def _server_ready(resource: AgentConnection, meant: Sequence[MCPServer]) -> Answer:
    if not meant:
        return (
            "False",
            "ServerNotFound",
            f"there is no MCPServer {resource.spec.server_ref or 'with these labels'}",
        )
    waiting = [each.metadata.name for each in meant if not is_true(each.status.conditions, "Ready")]
    if waiting:
        return "False", "ServerNotReady", f"not ready: {', '.join(waiting)}"
    return "True", "Ready", f"ready: {', '.join(each.metadata.name for each in meant)}"


def _authorized(
    resource: AgentConnection, meant: Sequence[MCPServer], toolboxes: Sequence[Toolbox], now: datetime
) -> Answer:
    """Every level must admit the agent; the first that does not is the reason."""
    spec = resource.spec
    agent = f"{resource.metadata.namespace}/{spec.agent}"
    if not spec.active:
        return "False", "Inactive", "spec.active is false"
    if spec.expires_at is not None and spec.expires_at <= now:
        return "False", "Expired", f"it ended at {spec.expires_at.isoformat()}"
    for server in meant:
        if not admits(server.spec.access.agents, agent):
            return (
                "False",
                "AgentNotAdmitted",
                f"spec.access.agents of {server.metadata.name} does not admit {agent}",
            )
        toolbox = _toolbox_of(server, toolboxes)
        if toolbox is not None and not admits(toolbox.spec.agents, agent):
            return (
                "False",
                "AgentNotAdmitted",
                f"spec.agents of toolbox {toolbox.metadata.name} does not admit {agent}",
            )
    if not meant:
        return "Unknown", "ServerNotFound", "there is no server to be admitted to"
    return "True", "Authorized", "the toolbox and the server admit the agent"


def _toolbox_of(server: MCPServer, toolboxes: Sequence[Toolbox]) -> Toolbox | None:
    namespace, _, name = server.status.toolbox.partition("/")
    return next((t for t in toolboxes if (t.metadata.namespace, t.metadata.name) == (namespace, name)), None)


def _tools_resolved(meant: Sequence[MCPServer], tools: tuple[str, ...]) -> Answer:
    if not any(each.status.tools for each in meant):
        return "Unknown", "NotSeen", "no tools were seen yet"
    if not tools:
        return (
            "False",
            "NoToolGranted",
            "no tool is both granted here and within spec.access.tools of the server",
        )
    return "True", "Resolved", f"{len(tools)} granted"
