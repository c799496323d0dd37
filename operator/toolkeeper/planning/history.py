"""The rollouts that ended, newest last. Specs are kept as they were declared, as far as there is room: going back needs
them.
"""

from __future__ import annotations

import json
from typing import Literal

from toolkeeper.resources.mcpserver import MCPServer, RolloutRecord
from toolkeeper.resources.meta import RESTARTED_AT

KEPT = 5
ROOM = 512 * 1024
"""Bytes that the specs on record may take together, as JSON. etcd takes 1.5 MiB for all of an object."""
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
        spec=spec.as_declared(nulls=False),
    )


def extended(history: tuple[RolloutRecord, ...], latest: RolloutRecord | None) -> tuple[RolloutRecord, ...]:
    """The history with one more record, and the oldest dropped; but never the last one that succeeded."""
    if latest is None:
        return history
    revision = history[-1].revision + 1 if history else 1
    longer = (*history, latest.model_copy(update={"revision": revision}))
    kept, dropped = longer[-KEPT:], longer[:-KEPT]
    if not any(each.outcome == "Succeeded" for each in kept):
        good = [each for each in dropped if each.outcome == "Succeeded"][-1:]
        kept = (*good, *kept[len(good) :])
    return _fitting(kept)


def _fitting(history: tuple[RolloutRecord, ...]) -> tuple[RolloutRecord, ...]:
    """The same records, some without their specs where all of them take too much room.

    The newest keeps its own, for people go back to it from the next; then the one that they go back to from it.
    """
    newest = history[-1]
    before = [each for each in history if each.outcome == "Succeeded" and each.hash != newest.hash][-1:]
    others = [each for each in reversed(history[:-1]) if each not in before]
    left, kept = ROOM, set[int]()
    for each in (newest, *before, *others):
        size = len(json.dumps(each.spec))
        if size <= left:
            left -= size
            kept.add(each.revision)
    if len(kept) == len(history):
        return history
    return tuple(each if each.revision in kept else each.model_copy(update={"spec": {}}) for each in history)


def restart_of(server: MCPServer) -> str:
    """What tells one requested restart from another."""
    return server.metadata.annotations.get(RESTARTED_AT, "")[:LONGEST_RESTART]
