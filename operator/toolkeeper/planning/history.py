"""The rollouts that ended, newest last. Specs are kept as they were declared: going back needs them."""

from __future__ import annotations

from typing import Literal

from toolkeeper.resources.mcpserver import MCPServer, RolloutRecord
from toolkeeper.resources.meta import RESTARTED_AT

KEPT = 5
LONGEST_RESTART = 64
Outcome = Literal["Succeeded", "RolledBack", "Failed"]


def record(
    server: MCPServer,
    spec_hash: str,
    outcome: Outcome,
    reason: str = "",
    message: str = "",
) -> RolloutRecord | None:
    """The end of the rollout of `spec_hash`; None if the newest record already says so. Its time is filled in later."""
    newest = server.status.history[-1] if server.status.history else None
    if newest is not None and newest.hash == spec_hash and newest.outcome == outcome:
        return None
    spec = server.spec
    source = spec.image or (
        f"{spec.package.registry}:{spec.package.name}@{spec.package.version}" if spec.package else ""
    )
    return RolloutRecord(
        hash=spec_hash,
        outcome=outcome,
        reason=reason,
        message=message,
        generation=server.metadata.generation,
        image=source,
        restart=restart_of(server),
        # Without defaults: to go back is to declare the same again, and a status is paid for by its size.
        spec=spec.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True),
    )


def extended(history: tuple[RolloutRecord, ...], latest: RolloutRecord | None) -> tuple[RolloutRecord, ...]:
    """The history with one more record, and the oldest dropped; but never the last one that succeeded."""
    if latest is None:
        return history
    revision = history[-1].revision + 1 if history else 1
    longer = (*history, latest.model_copy(update={"revision": revision}))
    kept, dropped = longer[-KEPT:], longer[:-KEPT]
    if any(each.outcome == "Succeeded" for each in kept):
        return kept
    good = [each for each in dropped if each.outcome == "Succeeded"][-1:]
    return (*good, *kept[len(good) :])


def restart_of(server: MCPServer) -> str:
    """What tells one requested restart from another."""
    return server.metadata.annotations.get(RESTARTED_AT, "")[:LONGEST_RESTART]
