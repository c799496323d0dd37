"""Events: what became different between one status and the next. What merely continues is not told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

from toolkeeper.planning.edits import change
from toolkeeper.planning.situation import Verdict
from toolkeeper.planning.toolpins import changed_tools
from toolkeeper.resources.conditions import Condition, find
from toolkeeper.resources.events import Event
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.resources.toolbox import Toolbox

Told = tuple[Literal["Normal", "Warning"], str, str]
"""(type, reason, message)."""

DEEDS: dict[str, tuple[Literal["Normal", "Warning"], str]] = {
    # reason of Deployed → type and name of the event
    "Creating": ("Normal", "Creating"),
    "ContainerLost": ("Warning", "ContainerLost"),
    "Drifted": ("Warning", "DriftRepaired"),
    "Stopped": ("Normal", "Stopped"),
    "StoppedOutside": ("Warning", "StoppedOutside"),
    "Completed": ("Normal", "Completed"),
    "SecretMissing": ("Warning", "SecretMissing"),
    "WaitingForSurge": ("Normal", "WaitingForSurge"),
    "RollingOut": ("Normal", "RollingOut"),
}


ON_PURPOSE = frozenset({"Deleting", "Stopping", "Stopped"})
"""Reasons for not being ready that somebody asked for."""


def server_events(before: MCPServer, after: MCPServer, now: datetime) -> list[Event]:
    """One event for each transition between two statuses of a server."""
    told = (check(before.status, after) for check in SERVER_CHECKS)
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
    # A toolbox that nobody has asked yet is no news; one that does not answer soon has another reason.
    if new is not None and new.reason != "NeverSeen" and _became(old, new):
        told.append(("Normal" if new.status == "True" else "Warning", new.reason, new.message))
    found = [name for name in after.status.orphans if name not in before.status.orphans]
    told += [("Warning", "OrphanFound", f"{name} belongs to no MCPServer") for name in found]
    return [Event(after.key, *each, uid=after.metadata.uid, at=now) for each in told]


def _became(old: Condition | None, new: Condition) -> bool:
    return old is None or old.status != new.status or (new.status != "True" and old.reason != new.reason)


def _placed(before: MCPServerStatus, after: MCPServer) -> Told | None:
    if before.toolbox == after.status.toolbox:
        return None
    return "Normal", "Placed", f"on toolbox {after.status.toolbox}"


def _deed(before: MCPServerStatus, after: MCPServer) -> Told | None:
    old, new = find(before.conditions, "Deployed"), find(after.status.conditions, "Deployed")
    if new is None or new.reason not in DEEDS or (old is not None and old.reason == new.reason):
        return None
    kind, reason = DEEDS[new.reason]
    return kind, reason, new.message


def _stalled(before: MCPServerStatus, after: MCPServer) -> Told | None:
    old, new = find(before.conditions, "Stalled"), find(after.status.conditions, "Stalled")
    if new is None or (old is not None and old.reason == new.reason):
        return None
    return "Warning", new.reason, new.message


def _rolled_back(before: MCPServerStatus, after: MCPServer) -> Told | None:
    new = find(after.status.conditions, "RolledBack")
    if new is None or find(before.conditions, "RolledBack") is not None:
        return None
    version = f"the new version{_of(after, before.running_hash)}"
    return "Warning", "RolledBack", f"{version} failed ({new.reason}) and is removed; the previous one stays"


def _restarted(before: MCPServerStatus, after: MCPServer) -> Told | None:
    if after.status.memory.restarted_run in ("", before.memory.restarted_run):
        return None
    why = find(after.status.conditions, "Reachable")
    return "Warning", "HealthRestart", why.message if why is not None else ""


def _rolled_out(before: MCPServerStatus, after: MCPServer) -> Told | None:
    old, new = before.running_hash, after.status.running_hash
    if not old or not new or old == new:
        return None
    return "Normal", "RolledOut", f"the new version{_of(after, old)} serves"


def _of(server: MCPServer, old: str) -> str:
    found = change(server, old)
    return f" ({found})" if found else ""


def _tools(before: MCPServerStatus, after: MCPServer) -> Told | None:
    if not before.tools_hash or after.status.tools_hash in ("", before.tools_hash):
        return None  # no hash: it does not show its tools to a probe without the right credential
    return "Warning", "ToolsChanged", changed_tools(before.tools, after.status.tools)


def _ready(before: MCPServerStatus, after: MCPServer) -> Told | None:
    old, new = find(before.conditions, "Ready"), find(after.status.conditions, "Ready")
    was, now = old is not None and old.status == "True", new is not None and new.status == "True"
    if was == now or new is None or new.reason in ON_PURPOSE:
        return None
    return (
        "Normal" if now else "Warning",
        "Ready" if now else "NotReady",
        new.message if now else f"{new.reason}: {new.message}",
    )


SERVER_CHECKS: tuple[Callable[[MCPServerStatus, MCPServer], Told | None], ...] = (
    _placed,
    _deed,
    _restarted,
    _stalled,
    _rolled_back,
    _rolled_out,
    _tools,
    _ready,
)
