"""What a status may tell a moment later: how far something has come. All else is written at once."""

from __future__ import annotations

from toolkeeper.resources.conditions import Condition, find
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Model
from toolkeeper.resources.toolbox import Toolbox

PASSING = frozenset({"conditions", "container", "container_id", "image", "image_digest"})
"""Fields of a server's status that follow each step on its way; all others are results or memory."""
MOVING = frozenset({"Deployed", "Reachable"})
"""Conditions that turn on its way; the words of the others change only with it."""
SUMS = frozenset({"servers", "ready", "allocated", "foreign"})
"""Fields of a toolbox's status that sum up what its servers say themselves."""


def is_progress(before: MCPServer | Toolbox, after: MCPServer | Toolbox) -> bool:
    """Whether the new status says no more than how far things have come.

    A result, a failure, a degradation, anything to remember: that is not progress.
    """
    if isinstance(before, Toolbox) or isinstance(after, Toolbox):
        return before.status.observed_generation >= 0 and _same_but(SUMS, before.status, after.status)
    if not before.status.phase == after.status.phase == "starting":
        return False
    old, new = before.status.conditions, after.status.conditions
    on_its_way = find(old, "Reconciling") is not None and find(new, "Reconciling") is not None
    return on_its_way and _settled(old) == _settled(new) and _same_but(PASSING, before.status, after.status)


def _settled(conditions: tuple[Condition, ...]) -> list[tuple[str, str]]:
    return [(each.type, each.status) for each in conditions if each.type not in MOVING]


def _same_but(excepted: frozenset[str], before: Model, after: Model) -> bool:
    names = type(before).model_fields.keys() - excepted
    return all(getattr(before, name) == getattr(after, name) for name in names)
