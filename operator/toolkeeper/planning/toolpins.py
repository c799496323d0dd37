"""Whether the tools that a server lists are the approved ones."""

from __future__ import annotations

from collections.abc import Sequence

from toolkeeper.planning.observed import Handshake
from toolkeeper.resources.mcpserver import ToolPinning

Fact = tuple[bool | None, str, str]
"""(status, reason, message) of a condition."""


MOST_NAMES = 5


def pinned(pinning: ToolPinning, handshake: Handshake | None, last_seen: str) -> Fact:
    """What `ToolsPinned` says: of the handshake, or of what was last seen while there is none."""
    seen = handshake.tools_hash if handshake is not None and handshake.ok else last_seen
    if pinning.pin == "Off":
        return None, "PinOff", "spec.tools.pin is Off"
    if not seen:
        return None, "NotSeen", "no tool definitions were seen yet"
    if pinning.approved is None:
        return None, "NotApproved", f"its tools were never approved; their definitions are {_short(seen)}"
    if pinning.approved == seen:
        return True, "Approved", "its tools are those that were approved"
    told = f"its tools are not those that were approved: {_short(pinning.approved)} → {_short(seen)}"
    return False, "ToolsChanged", told


def changed_tools(before: Sequence[str], after: Sequence[str]) -> str:
    """What became of a server's tools, by name; for tools that changed inside, how many there are."""
    told = [("added", _names(after, before)), ("removed", _names(before, after))]
    words = "; ".join(f"{what}: {names}" for what, names in told if names)
    return words or f"its {len(after)} tools have the same names and other definitions"


def _names(these: Sequence[str], without: Sequence[str]) -> str:
    found = sorted(set(these).difference(without))
    more = f" and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
    return ", ".join(found[:MOST_NAMES]) + more


def _short(tools_hash: str) -> str:
    """Enough of it to tell two apart; `status.toolsHash` has the whole one, to be approved."""
    return tools_hash[: len("sha256:") + 12]


def blocked(pinning: ToolPinning, handshake: Handshake | None) -> tuple[str, str] | None:
    """(reason, message) if these tools must not be served: `Enforce`, and they are not the approved ones."""
    if pinning.pin != "Enforce":
        return None
    status, reason, message = pinned(pinning, handshake, "")
    return (reason, message) if status is False else None
