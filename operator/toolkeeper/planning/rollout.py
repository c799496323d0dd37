"""From what is there to what is wanted, one re-decided step at a time: a crash between any two is harmless.

    absent ─create→ preparing → starting ─handshake→ serving ─→ the older one is removed
                        └────────────┴─ failed the gate ─remember→ removed ─→ the older one stays (RolledBack)

Each check looks at one situation and answers, or leaves it to the next. Their order is the policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from toolkeeper.planning import healing
from toolkeeper.planning.edits import change
from toolkeeper.planning.failures import crash_loop, ended, failed_create, gave_up, lost_contact, silence
from toolkeeper.planning.history import Outcome, record
from toolkeeper.planning.lending import lend
from toolkeeper.planning.lifecycle import ALIVE, Stage
from toolkeeper.planning.observed import Container
from toolkeeper.planning.plan import Step
from toolkeeper.planning.repair import drifted
from toolkeeper.planning.situation import ELSEWHERE, FRESH, Situation, Verdict
from toolkeeper.planning.toolpins import blocked
from toolkeeper.resources.conditions import Conditions, find

Check = Callable[[Situation], Verdict | None]
Failure = tuple[str, str]
"""(reason, message)."""
NOT_OURS_TO_REMOVE = frozenset(
    {"Completed", "CrashLoopBackOff", "Exited", "Frozen", "Restarting", "StoppedOutside"}
)
"""What status says of a container that does not run, and stays where it is as far as we are concerned."""


def roll_out(s: Situation) -> Verdict:
    """What to do for a server that should run here."""
    answers = (check(s) for check in CHECKS)
    verdict = next((each for each in answers if each is not None), None) or healing.BY_STAGE[s.at](s)
    if lent := tuple(lend(s, verdict.steps)):
        verdict = replace(verdict, steps=(*verdict.steps, *lent))
    if not s.strays:
        return verdict
    if verdict.mood == "resting":
        verdict = replace(
            verdict, reason="RollingOut", message="what is no longer wanted is being removed", mood="moving"
        )
    return replace(verdict, steps=(*s.remove(s.strays, "it is no longer wanted"), *verdict.steps))


def _rules_out_others(s: Situation) -> Verdict | None:
    """It must not run twice, so it is not created or started here while another toolbox may have it."""
    if not (s.wanted.elsewhere and s.never_twice) or s.at in ALIVE:
        return None
    return Verdict(False, ELSEWHERE, "it must not run twice, and another toolbox may still have it")


def _takes_over(s: Situation) -> Verdict | None:
    """The wanted one answers, so the older one may go."""
    if s.at is not Stage.SERVING or s.match is None or blocked(s.spec.tools, s.match.handshake):
        return None
    if s.unproven is not None:
        return None
    verdict = healing.serving(s)
    if s.keeper is None:
        return verdict
    steps = s.remove([s.keeper], f"the new version{_of(s, s.keeper)} answers and takes over")
    return replace(
        verdict,
        reason="RollingOut",
        message="the previous version is being retired",
        mood="moving",
        steps=steps,
    )


def _rolled_back(s: Situation) -> Verdict | None:
    """The wanted version is known to fail and an older one is there: that one stays, and is looked after."""
    if not s.failed or s.keeper is None:
        return None
    memory = s.memory
    verdict = Verdict(False, "RolloutFailed", f"{memory.failed_reason}: {memory.failed_message}", "stuck")
    if s.match is not None and s.spec.rollout.on_failure == "Keep":
        return verdict
    if s.match is not None:
        steps = s.remove([s.match], f"it failed ({memory.failed_reason}); the previous version stays")
        return replace(verdict, steps=steps)
    if s.kept_at is Stage.EXITED:
        care = healing.start(s, s.keeper)
        return replace(verdict, steps=care.steps, wake_after=care.wake_after)
    if s.kept_at is Stage.LOST:
        care = healing.restart(s, s.keeper, *lost_contact(s.keeper, s.spec.health.failure_threshold))
        return replace(verdict, steps=care.steps, memory=care.memory)
    return verdict


def _failed_the_gate(s: Situation) -> Verdict | None:
    """Remember the failure first; the next look removes the candidate. A crash in between forgets nothing."""
    failure = _failure(s) if s.keeper is not None else None
    if failure is None or s.match is None:
        return None
    reason, message = failure
    memory = s.memory.model_copy(
        update={"failed_hash": s.match.hash, "failed_reason": reason, "failed_message": message}
    )
    outcome: Outcome = "Failed" if s.spec.rollout.on_failure == "Keep" else "RolledBack"
    return Verdict(
        False,
        "RolloutFailed",
        f"{reason}: {message}",
        "stuck",
        memory=memory,
        wake_after=0.0,
        record=record(s.wanted.server, s.match.hash, outcome, reason, message),
    )


def _failure(s: Situation) -> Failure | None:
    """Why the candidate has failed its gate; None while it may still pass."""
    match, deadline = s.match, s.spec.rollout.deadline_seconds
    if match is None:
        return None
    match s.at:
        case Stage.FAILED if gave_up(s.memory, match):
            return failed_create(match)
        case Stage.EXITED if not s.proven or healing.stays_ended(s, match):
            # Otherwise it has served, was stopped for another version, and is wanted again.
            return ended(match)
        case Stage.CRASHING if s.crash_loops(match):
            return crash_loop(match)
        case Stage.STARTING | Stage.SILENT | Stage.FROZEN if s.age(match) >= deadline:
            return silence(match, deadline)
        case Stage.LOST if not s.proven:
            return lost_contact(match, s.spec.health.failure_threshold)
        case Stage.SERVING:
            late = s.age(match) >= deadline  # until then, a credential may still be put right
            return blocked(s.spec.tools, match.handshake) or (s.unproven if late else None)
        case _:
            return None


def _stands_alone(s: Situation) -> Verdict | None:
    """It must run alone and does not serve yet: whatever else runs makes room first."""
    if s.match is None or not s.one_at_a_time or s.at in (Stage.DEAD, Stage.REMOVING):
        return None
    if s.kept_at not in ALIVE and all(s.stage(each) not in ALIVE for each in s.strays):
        return None
    verdict = Verdict(s.at in ALIVE, "RollingOut", "what ran before makes room")
    if s.keeper is None or s.kept_at not in ALIVE:
        return verdict
    if s.proven:
        return replace(verdict, steps=s.remove([s.keeper], "the version before it is wanted again, alone"))
    return replace(verdict, steps=(_stop(s, s.keeper),))


def _stop(s: Situation, keeper: Container) -> Step:
    because = f"the new version{_of(s, keeper)} must not run beside it"
    return s.step("stop", keeper, because, drain=s.spec.rollout.drain_seconds)


def _absent(s: Situation) -> Verdict | None:
    """Nothing of the wanted version is there."""
    if s.at is not Stage.ABSENT:
        return None
    if s.one_at_a_time and any(s.stage(each) in ALIVE for each in s.strays):
        return Verdict(False, "RollingOut", "what ran before is being removed")
    if s.keeper is None:
        return _create_alone(s)
    if s.kept_at not in ALIVE:
        return _creating_anew(s, s.keeper)
    if s.one_at_a_time:
        steps = (_stop(s, s.keeper),)
        told = f"the previous version is being stopped for a new one{_of(s, s.keeper)}"
        return Verdict(False, "RollingOut", told, steps=steps)
    if not s.surge:
        return Verdict(
            False, "WaitingForSurge", "another rollout is under way on this toolbox", wants_surge=True
        )
    return _creating_anew(s, s.keeper)


def _create_alone(s: Situation) -> Verdict:
    status = s.wanted.server.status
    had_one = status.container_id != "" and status.toolbox == s.home
    verdict = _creating(s, "its container is gone" if had_one else "it is wanted and not there")
    if had_one and s.same_as_reported and _was_there(status.conditions):
        verdict = replace(
            verdict, reason="ContainerLost", message="its container is gone from the host, and is made again"
        )
    # The one that stood by is gone too, so there is nothing left to protect from trying again.
    return replace(verdict, memory=FRESH) if s.failed else verdict


def _was_there(conditions: Conditions) -> bool:
    """Whether the container that is gone was last seen in a state in which nobody of us removes it."""
    before = find(conditions, "Deployed")
    return before is not None and (before.status == "True" or before.reason in NOT_OURS_TO_REMOVE)


def _creating_anew(s: Situation, keeper: Container) -> Verdict:
    verdict = _creating(s, f"a new version is wanted{_of(s, keeper)}")
    return replace(verdict, message=f"a container of the new version{_of(s, keeper)} is being created")


def _creating(s: Situation, because: str) -> Verdict:
    return Verdict(False, "Creating", "the container is being created", steps=(s.create(because),))


def _of(s: Situation, keeper: Container) -> str:
    """What makes the wanted version another one than the keeper, in parentheses; empty if nobody remembers."""
    found = change(s.wanted.server, keeper.hash)
    return f" ({found})" if found else ""


CHECKS: tuple[Check, ...] = (
    _rules_out_others,
    drifted,
    _takes_over,
    _rolled_back,
    _failed_the_gate,
    _stands_alone,
    _absent,
)
