"""What to do for a server that should not run: `running: false`, deleted, or placed on another toolbox."""

from __future__ import annotations

from dataclasses import replace

from toolkeeper.planning.force import misspelt
from toolkeeper.planning.lifecycle import ALIVE, Stage
from toolkeeper.planning.plan import Step
from toolkeeper.planning.situation import Situation, Verdict


def stop(s: Situation) -> Verdict:
    """Keep one container, stopped: the one that had proven itself. Candidates and leftovers go."""
    match, keeper = s.match, s.keeper
    candidate = match is None or (keeper is not None and not s.proven)
    kept, at, surplus = (keeper, s.kept_at, match) if candidate else (match, s.at, keeper)
    steps = s.remove([surplus, *s.strays], "it should not run and another one is kept")
    if kept is not None and at in ALIVE:
        steps += (s.step("stop", kept, "spec.running is false", drain=s.spec.rollout.drain_seconds),)
    elif kept is not None and kept.state != "exited":
        steps += s.remove([kept], "spec.running is false")
    if steps or at is Stage.REMOVING:
        return Verdict(False, "Stopping", "spec.running is false", steps=steps)
    return Verdict(False, "Stopped", "spec.running is false", "resting")


def delete(s: Situation) -> Verdict:
    """Remove everything of it, and let the object go once nothing of it was seen."""
    meta = s.wanted.server.metadata
    going = Verdict(s.at in ALIVE, "Deleting")
    if s.spec.deletion_policy == "Orphan":
        known = f"{meta.namespace}/{meta.name}" in s.toolbox.status.disowned
        return replace(going, message="its containers stay", released=known or not s.present, wake_after=0.0)
    if s.present:
        steps = s.remove(s.present, "its MCPServer is deleted")
        return replace(going, message=f"its containers are being removed{misspelt(meta)}", steps=steps)
    if s.spec.reclaim == "Delete" and s.volumes:
        return replace(going, message=f"its volumes are being removed{misspelt(meta)}", steps=_reclaim(s))
    if s.wanted.elsewhere and not meta.given_up:
        return replace(going, message=f"another toolbox may still have a container of it{misspelt(meta)}")
    return replace(going, message="nothing of it is left", released=True)


def _reclaim(s: Situation) -> tuple[Step, ...]:
    return tuple(
        Step(
            "remove-volume",
            s.wanted.server.key,
            volume,
            "its MCPServer is deleted and spec.reclaim is Delete",
        )
        for volume in s.volumes
    )


def leave(s: Situation) -> tuple[Step, ...]:
    """What to remove here of a server that belongs to another toolbox now."""
    if s.wanted.server.metadata.deletion_timestamp is not None:
        if s.spec.deletion_policy == "Orphan":
            return ()
        return s.remove(s.present, "its MCPServer is deleted")
    if s.wanted.same_host:
        return ()
    if s.wanted.ready_elsewhere:
        return s.remove(s.present, "it is ready on its new toolbox")
    if s.never_twice:
        return s.remove(s.present, "it moves to another toolbox and must not run twice")
    return ()
