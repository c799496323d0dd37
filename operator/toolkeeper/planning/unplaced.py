"""What status says about a server that belongs to no toolbox, yet or ever."""

from __future__ import annotations

from datetime import datetime

from toolkeeper.planning.placement import Placement
from toolkeeper.planning.statuses import Said, changed_conditions
from toolkeeper.resources.mcpserver import MCPServer

WAITING = frozenset({"WaitingForToolboxes", "ToolboxNotFound", "NoToolboxMatches"})
"""Reasons that end without an edit of the server: what is applied together does not arrive together."""


def unplaced(server: MCPServer, placement: Placement, now: datetime) -> MCPServer:
    """The server with its new status; the very same object when nothing changed."""
    generation = server.metadata.generation
    reason, message = placement.reason, placement.message
    mood = "Reconciling" if reason in WAITING else "Stalled"
    said = [
        Said("Accepted", "True", "Valid", "the spec is valid", generation),
        Said("Placed", "False", reason, message, generation),
        Said("SecretsResolved", "Unknown", "NotPlaced", "it is on no toolbox", generation),
        Said("Deployed", "Unknown", "NotPlaced", "it is on no toolbox", generation),
        Said("Reachable", "Unknown", "NotPlaced", "it is on no toolbox", generation),
        Said("ToolsPinned", "Unknown", "NotPlaced", "it is on no toolbox", generation),
        Said("Ready", "False", reason, message, generation),
        Said(mood, "True", reason, message, generation),
    ]
    status = server.status
    conditions = changed_conditions(status.conditions, said, now)
    settled = status.observed_generation == generation and status.phase == "unknown" and not status.endpoint
    if conditions is None and settled:
        return server
    update = {
        "observed_generation": generation,
        "phase": "unknown",
        "endpoint": "",
        "conditions": status.conditions if conditions is None else conditions,
    }
    return server.model_copy(update={"status": status.model_copy(update=update)})
