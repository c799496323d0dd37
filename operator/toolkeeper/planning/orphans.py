"""Containers of ours that nobody owns any more. Removed late, few at a time, and only if nothing is in doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from toolkeeper.planning.observed import Container
from toolkeeper.planning.plan import Step
from toolkeeper.planning.world import World
from toolkeeper.resources.meta import Key


@dataclass(frozen=True, slots=True)
class Orphans:
    """What was found, what to remove of it, and what to remember for the next look."""

    names: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    seen: Mapping[str, float] = field(default_factory=dict)
    wake_after: float | None = None


def prune(world: World, ours: Sequence[Container], ownerless: Sequence[Container]) -> Orphans:
    """Remove what was ownerless at two looks at least `orphan_seconds` apart, at most a share of `ours` at a time.

    After removing some, the others are looked at anew: a mistake upstream must take long to empty a host.
    Nothing is concluded while the stores were not listed whole.
    """
    disowned = set(world.toolbox.status.disowned)
    found = sorted(
        (each for each in ownerless if f"{each.namespace}/{each.server}" not in disowned),
        key=lambda each: each.name,
    )
    names = tuple(each.name for each in found)
    if not world.complete:
        return Orphans(names, seen={name: at for name, at in world.orphans.items() if name in names})
    seen = {name: world.orphans.get(name, world.clock) for name in names}
    patience = world.policy.orphan_seconds
    due = [each for each in found if world.clock - seen[each.name] >= patience]
    if world.toolbox.spec.paused:
        due = []
    cap = len(due) if world.policy.allow_prune else max(1, int(world.policy.orphan_cap * len(ours)))
    chosen = sorted(due, key=lambda each: (seen[each.name], each.name))[:cap]
    if len(chosen) < len(due):
        kept = {each.name for each in due} - {each.name for each in chosen}
        seen |= dict.fromkeys(kept, world.clock)
    waits = [
        patience - (world.clock - at) for name, at in seen.items() if name not in {e.name for e in chosen}
    ]
    return Orphans(
        names=names,
        steps=tuple(_remove(each, patience) for each in chosen if each.state != "removing"),
        seen=seen,
        wake_after=max(min(waits), 0.0) if waits else None,
    )


def _remove(container: Container, patience: float) -> Step:
    return Step(
        verb="remove",
        server=Key("MCPServer", container.namespace, container.server),
        container=container.name,
        because=f"nobody has owned it for {patience:g} s",
        container_id=container.container_id,
    )
