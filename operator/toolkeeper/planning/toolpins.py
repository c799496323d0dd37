"""Whether the tools that a server lists are the approved ones."""

from __future__ import annotations

from toolkeeper.planning.observed import Handshake
from toolkeeper.resources.mcpserver import ToolPinning

Fact = tuple[bool | None, str, str]
"""(status, reason, message) of a condition."""


def pinned(pinning: ToolPinning, handshake: Handshake | None, last_seen: str) -> Fact:
    """What `ToolsPinned` says: of the handshake, or of what was last seen while there is none."""
    seen = handshake.tools_hash if handshake is not None and handshake.ok else last_seen
    if pinning.pin == "Off":
        return None, "PinOff", "spec.tools.pin is Off"
    if not seen:
        return None, "NotSeen", "no tool definitions were seen yet"
    if pinning.approved is None:
        return None, "NotApproved", f"nothing was approved yet; found {seen}"
    if pinning.approved == seen:
        return True, "Approved", ""
    return False, "ToolsChanged", f"approved {pinning.approved}, found {seen}"


def blocked(pinning: ToolPinning, handshake: Handshake | None) -> tuple[str, str] | None:
    """(reason, message) if these tools must not be served: `Enforce`, and they are not the approved ones."""
    if pinning.pin != "Enforce":
        return None
    status, reason, message = pinned(pinning, handshake, "")
    return (reason, message) if status is False else None
