"""Events: what became different between one status and the next. What merely continues is not told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

from toolkeeper.planning.naming import hash8
from toolkeeper.planning.situation import Verdict
from toolkeeper.resources.conditions import Condition, find
from toolkeeper.resources.events import Event
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.resources.toolbox import Toolbox

Told = tuple[Literal["Normal", "Warning"], str, str]
"""(type, reason, message)."""

DEEDS: dict[str, tuple[Literal["Normal", "Warning"], str]] = {
    # reason of Deployed → type and name of the event
    "Creating": ("Normal", "Creating"),
    "Drifted": ("Warning", "DriftRepaired"),
    "Stopped": ("Normal", "Stopped"),
    "StoppedOutside": ("Warning", "StoppedOutside"),
    "Completed": ("Normal", "Completed"),
    "WaitingForSurge": ("Normal", "WaitingForSurge"),
    "RollingOut": ("Normal", "RollingOut"),
}


ON_PURPOSE = frozenset({"Deleting", "Stopping", "Stopped"})
"""Reasons for not being ready that somebody asked for."""


def server_events(before: MCPServer, after: MCPServer, now: datetime) -> list[Event]:
    """One event for each transition between two statuses of a server."""
    told = (check(before.status, after.status) for check in SERVER_CHECKS)
    return [Event(after.key, *each, uid=after.metadata.uid, at=now) for each in told if each is not None]


def farewell(server: MCPServer, verdict: Verdict, now: datetime) -> Event:
    """The last event of a server that is let go."""
    forced = verdict.reason == "ForceDeleted"
    reason = "ForceDeleted" if forced else "Deleted"
    return Event(
        server.key,
        "Warning" if forced else "Normal",
        reason,
        verdict.message,
        uid=server.metadata.uid,
        at=now,
    )


def toolbox_events(before: Toolbox, after: Toolbox, now: datetime) -> list[Event]:
    """One event for each transition between two statuses of a toolbox."""
    told: list[Told] = []
    old, new = find(before.status.conditions, "Ready"), find(after.status.conditions, "Ready")
    if new is not None and _became(old, new):
        told.append(("Normal" if new.status == "True" else "Warning", new.reason, new.message))
    found = [name for name in after.status.orphans if name not in before.status.orphans]
    told += [("Warning", "OrphanFound", f"{name} belongs to no MCPServer") for name in found]
    return [Event(after.key, *each, uid=after.metadata.uid, at=now) for each in told]


def _became(old: Condition | None, new: Condition) -> bool:
    return old is None or old.status != new.status or (new.status != "True" and old.reason != new.reason)


def _placed(before: MCPServerStatus, after: MCPServerStatus) -> Told | None:
    if before.toolbox == after.toolbox:
        return None
    return "Normal", "Placed", f"on toolbox {after.toolbox}"


def _deed(before: MCPServerStatus, after: MCPServerStatus) -> Told | None:
    old, new = find(before.conditions, "Deployed"), find(after.conditions, "Deployed")
    if new is None or new.reason not in DEEDS or (old is not None and old.reason == new.reason):
        return None
    kind, reason = DEEDS[new.reason]
    return kind, reason, new.message


def _stalled(before: MCPServerStatus, after: MCPServerStatus) -> Told | None:
    old, new = find(before.conditions, "Stalled"), find(after.conditions, "Stalled")
    if new is None or (old is not None and old.reason == new.reason):
        return None
    return "Warning", new.reason, new.message


def _rolled_back(before: MCPServerStatus, after: MCPServerStatus) -> Told | None:
    new = find(after.conditions, "RolledBack")
    if new is None or find(before.conditions, "RolledBack") is not None:
        return None
    stays = f"; {hash8(after.running_hash)} stays" if after.running_hash else ""
    return (
        "Warning",
        "RolledBack",
        f"{hash8(after.memory.failed_hash)} failed ({new.reason}) and is removed{stays}",
    )


def _restarted(before: MCPServerStatus, after: MCPServerStatus) -> Told | None:
    if after.memory.restarted_run in ("", before.memory.restarted_run):
        return None
    why = find(after.conditions, "Reachable")
    return "Warning", "HealthRestart", why.message if why is not None else ""


def _rolled_out(before: MCPServerStatus, after: MCPServerStatus) -> Told | None:
    if not before.running_hash or not after.running_hash or before.running_hash == after.running_hash:
        return None
    return "Normal", "RolledOut", f"{hash8(before.running_hash)} → {hash8(after.running_hash)}"


def _tools(before: MCPServerStatus, after: MCPServerStatus) -> Told | None:
    if not before.tools_hash or before.tools_hash == after.tools_hash:
        return None
    return "Warning", "ToolsChanged", f"{before.tools_hash} → {after.tools_hash}"


def _ready(before: MCPServerStatus, after: MCPServerStatus) -> Told | None:
    old, new = find(before.conditions, "Ready"), find(after.conditions, "Ready")
    was, now = old is not None and old.status == "True", new is not None and new.status == "True"
    if was == now or new is None or new.reason in ON_PURPOSE:
        return None
    return (
        "Normal" if now else "Warning",
        "Ready" if now else "NotReady",
        "" if now else f"{new.reason}: {new.message}",
    )


SERVER_CHECKS: tuple[Callable[[MCPServerStatus, MCPServerStatus], Told | None], ...] = (
    _placed,
    _deed,
    _restarted,
    _stalled,
    _rolled_back,
    _rolled_out,
    _tools,
    _ready,
)
