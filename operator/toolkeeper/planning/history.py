"""The rollouts that ended, newest last. Specs are whole: going back needs them."""

from __future__ import annotations

from typing import Literal

from toolkeeper.resources.mcpserver import MCPServer, RolloutRecord

KEPT = 5
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
        spec=spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    )


def extended(history: tuple[RolloutRecord, ...], latest: RolloutRecord | None) -> tuple[RolloutRecord, ...]:
    """The history with one more record, and the oldest dropped."""
    return history if latest is None else (*history, latest)[-KEPT:]
