"""One toolbox, one decision: what to write, then what to do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from toolkeeper.planning.blindness import unobserved, unseen, wait
from toolkeeper.planning.lifecycle import Stage
from toolkeeper.planning.naming import volume_prefix
from toolkeeper.planning.observed import Container, Snapshot, Unreachable
from toolkeeper.planning.orphans import Orphans, prune
from toolkeeper.planning.plan import Plan, Step
from toolkeeper.planning.report import report
from toolkeeper.planning.rollout import roll_out
from toolkeeper.planning.situation import COMES_LATER, Mood, Situation, Verdict, survey
from toolkeeper.planning.stopping import delete, leave, stop
from toolkeeper.planning.toolboxes import describe
from toolkeeper.planning.transitions import farewell, server_events, toolbox_events
from toolkeeper.planning.world import Decision, Hindrance, Wanted, World
from toolkeeper.resources.events import Event
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key

PAUSE = 10.0
"""Seconds between two attempts at a container on which work has failed."""


def decide(world: World) -> Decision:
    """Everything that follows from this world. The order of its servers and containers does not matter."""
    why = unobserved(world.observation)
    if why is not None or isinstance(world.observation, Unreachable):
        return _blind(world, why or Unreachable("NeverSeen"))
    snapshot = world.observation
    ours = [each for each in snapshot.containers if each.installation == world.policy.installation]
    owned = _by_server(ours)
    situations = [_survey(world, snapshot, wanted, owned) for wanted in _sorted(world.servers)]
    verdicts = _judged(situations, world.policy.surges)
    ownerless = [each for group in owned.values() for each in group]
    orphans = prune(world, ours, ownerless) if ownerless or world.orphans else Orphans()
    return _decision(world, snapshot, situations, verdicts, orphans)


def _sorted(servers: tuple[Wanted, ...]) -> list[Wanted]:
    return sorted(servers, key=lambda wanted: wanted.server.key)


def _by_server(containers: Iterable[Container]) -> dict[tuple[str, str], list[Container]]:
    groups: dict[tuple[str, str], list[Container]] = {}
    for each in containers:
        groups.setdefault((each.namespace, each.server), []).append(each)
    return groups


def _survey(
    world: World, snapshot: Snapshot, wanted: Wanted, owned: dict[tuple[str, str], list[Container]]
) -> Situation:
    """The situation of one server; takes its containers out of `owned`, so that what is left there has no owner."""
    meta = wanted.server.metadata
    present = owned.pop((meta.namespace, meta.name), ())
    volumes: tuple[str, ...] = ()
    if meta.deletion_timestamp is not None:
        prefix = volume_prefix(world.policy.installation, meta.namespace, meta.name)
        volumes = tuple(sorted(each for each in snapshot.volumes if each.startswith(prefix)))
    return survey(wanted, world.toolbox, world.policy, present, elapsed=world.elapsed, volumes=volumes)


def judge(s: Situation) -> Verdict:
    """What to do for one server: the first of these that applies."""
    wanted = s.wanted
    if wanted.server.metadata.deletion_timestamp is not None:
        verdict = delete(s)
    elif wanted.refused is not None:
        verdict = _undrawn(s, *wanted.refused)
    elif wanted.instance is None:
        mood: Mood = "moving" if wanted.missing_reason in COMES_LATER else "stuck"
        verdict = _undrawn(s, wanted.missing_reason, "; ".join(wanted.missing_secrets), mood)
    elif not s.spec.running:
        verdict = stop(s)
    else:
        verdict = roll_out(s)
    if s.spec.paused or s.toolbox.spec.paused:
        return _paused(verdict)
    return _hindered(wanted.hindrance, _unhurried(s, verdict))


def _hindered(hindrance: Hindrance | None, verdict: Verdict) -> Verdict:
    """The same, with what keeps the host from it."""
    if hindrance is None or (hindrance.verb, hindrance.container) not in {
        (step.verb, step.container) for step in verdict.steps
    }:
        return verdict
    because = f"cannot {hindrance.verb} {hindrance.container}: {hindrance.message}"
    return replace(verdict, message="; ".join(filter(None, (verdict.message, because))))


def _unhurried(s: Situation, verdict: Verdict) -> Verdict:
    """Without the steps about a container on which work has just failed: it would fail again, and at once again."""
    waits = [
        (each.name, PAUSE - s.age(each))
        for each in s.present
        if each.error_reason and each.container_id and s.age(each) < PAUSE
    ]
    if not waits or not verdict.steps:
        return verdict
    names = {name for name, _ in waits}
    steps = tuple(step for step in verdict.steps if step.container not in names)
    return replace(
        verdict, steps=steps, wake_after=_soonest([verdict.wake_after, *(wait for _, wait in waits)])
    )


def _paused(verdict: Verdict) -> Verdict:
    """The same, but nothing of it is done; said instead."""
    idle = replace(verdict, steps=(), memory=None, record=None, wake_after=None, released=False)
    if not verdict.steps:
        return idle
    told = "; ".join(map(str, verdict.steps))
    return replace(idle, reason="Paused", message=f"not done while paused: {told}", mood="held", quoted=False)


def _undrawn(s: Situation, reason: str, message: str, mood: Mood = "stuck") -> Verdict:
    """Nobody can tell what is wanted, so what is there stays, and may or may not be it."""
    return Verdict(None if s.present else False, reason, message, mood)


def _judged(situations: Sequence[Situation], surges: int) -> list[Verdict | None]:
    """A verdict for each server that belongs here; free surge slots go to those that asked, in order."""
    verdicts = [judge(s) if s.wanted.assigned else None for s in situations]
    if any(verdict is not None and verdict.wants_surge for verdict in verdicts):
        free = surges - sum(map(_surging, situations))
        for index, (s, verdict) in enumerate(zip(situations, verdicts, strict=True)):
            if verdict is not None and verdict.wants_surge and free > 0:
                free -= 1
                verdicts[index] = judge(replace(s, surge=True))
    return verdicts


def _surging(s: Situation) -> bool:
    """Whether two containers of it may be running now.

    A preparation that takes longer than a rollout may gives its slot back, and so does a paused server: neither a slow
    registry nor a person who looks around must stop the others.
    """
    if not s.wanted.assigned or s.match is None or s.keeper is None:
        return False
    if s.one_at_a_time or s.failed or s.spec.paused:
        return False
    return s.at is not Stage.PREPARING or s.age(s.match) < s.spec.rollout.deadline_seconds


def _blind(world: World, why: Unreachable) -> Decision:
    situations = [unseen(wanted, world.toolbox, world.policy) for wanted in _sorted(world.servers)]
    verdicts = [wait(s, why) if s.wanted.assigned else None for s in situations]
    return _decision(world, why, situations, verdicts, Orphans(seen=world.orphans))


def _decision(
    world: World,
    seen: Snapshot | Unreachable,
    situations: Sequence[Situation],
    verdicts: Sequence[Verdict | None],
    orphans: Orphans,
) -> Decision:
    """What the verdicts come to: changed statuses, their events, the plan."""
    features = seen.features if isinstance(seen, Snapshot) else world.toolbox.status.features
    steps: list[Step] = []
    wakes = [orphans.wake_after]
    servers: list[MCPServer] = []
    changed: list[MCPServer] = []
    events: list[Event] = []
    released: list[Key] = []
    for s, verdict in zip(situations, verdicts, strict=True):
        before = s.wanted.server
        if verdict is None:
            steps += () if world.toolbox.spec.paused or s.spec.paused else leave(s)
            continue
        steps += verdict.steps
        wakes.append(verdict.wake_after)
        if verdict.released:
            released.append(before.key)
            events.append(farewell(before, verdict, world.now))
            continue
        after = report(s, verdict, features, world.now)
        servers.append(after)
        if after is not before:
            changed.append(after)
            events += server_events(before, after, world.now)
    toolbox = describe(world, seen, situations, servers, orphans)
    if toolbox is not world.toolbox:
        events += toolbox_events(world.toolbox, toolbox, world.now)
    return Decision(
        plan=Plan(world.toolbox.key, (*steps, *orphans.steps), _soonest(wakes)),
        servers=tuple(changed),
        toolbox=None if toolbox is world.toolbox else toolbox,
        released=tuple(released),
        orphans=orphans.seen,
        events=tuple(events),
    )


def _soonest(wakes: Iterable[float | None]) -> float | None:
    return min((each for each in wakes if each is not None), default=None)
