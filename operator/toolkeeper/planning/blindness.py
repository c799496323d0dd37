"""What is decided about a toolbox that cannot be observed: nothing is done, and little is said."""

from __future__ import annotations

from toolkeeper.planning.force import misspelt
from toolkeeper.planning.lifecycle import Stage
from toolkeeper.planning.observed import Observation, Unreachable
from toolkeeper.planning.situation import Situation, Verdict
from toolkeeper.planning.world import Policy, Wanted
from toolkeeper.resources.meta import FORCE_DELETE
from toolkeeper.resources.toolbox import Toolbox


def unobserved(observation: Observation) -> Unreachable | None:
    """Why nothing is known about the containers; None when they were seen."""
    if isinstance(observation, Unreachable):
        return observation
    if not observation.runtime_ok:
        return Unreachable(
            "RuntimeUnavailable", observation.runtime_message or "the toolbox's runtime does not answer"
        )
    return None


def unseen(wanted: Wanted, toolbox: Toolbox, policy: Policy) -> Situation:
    """A situation in which nothing is known of containers."""
    return Situation(
        wanted=wanted,
        toolbox=toolbox,
        policy=policy,
        elapsed=0.0,
        match=None,
        at=Stage.UNKNOWN,
        keeper=None,
        kept_at=Stage.UNKNOWN,
        strays=(),
        memory=wanted.server.status.memory,
        volumes=(),
    )


def wait(s: Situation, why: Unreachable) -> Verdict:
    """Nothing is concluded from silence. A deleted server stays, unless somebody gives up on cleaning."""
    meta = s.wanted.server.metadata
    if meta.deletion_timestamp is None:
        return Verdict(None, why.reason, why.message, quoted=True)
    if meta.given_up:
        return Verdict(
            None, "ForceDeleted", f"let go without cleaning: {why.message or why.reason}", released=True
        )
    if s.spec.deletion_policy == "Orphan":
        known = f"{meta.namespace}/{meta.name}" in s.toolbox.status.disowned
        return Verdict(
            None, "Deleting", "its containers stay", released=known, wake_after=None if known else 0.0
        )
    sentence = (
        f"cleaning waits for the toolbox ({why.reason}); annotate {FORCE_DELETE}=true to let go without it"
    )
    return Verdict(None, "DeletionBlocked", f"{sentence}{misspelt(meta)}", "stuck")
