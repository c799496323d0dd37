"""From what is there to what is wanted, one re-decided step at a time: a crash between any two is harmless.

    absent ─create→ preparing → starting ─handshake→ serving ─→ the older one is removed
                        └────────────┴─ failed the gate ─remember→ removed ─→ the older one stays (RolledBack)

Each check looks at one situation and answers, or leaves it to the next. Their order is the policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from toolkeeper.planning import healing
from toolkeeper.planning.drift import drifts
from toolkeeper.planning.failures import crash_loop, ended, failed_create, lost_contact, silence
from toolkeeper.planning.history import Outcome, record
from toolkeeper.planning.lifecycle import ALIVE, CRASH_LOOP, Stage
from toolkeeper.planning.naming import hash8
from toolkeeper.planning.situation import FRESH, Situation, Verdict
from toolkeeper.planning.toolpins import blocked

Check = Callable[[Situation], Verdict | None]
LONGEST = 1000
"""Characters of a drift that are remembered and told."""
Failure = tuple[str, str]
"""(reason, message)."""


def roll_out(s: Situation) -> Verdict:
    """What to do for a server that should run here."""
    answers = (check(s) for check in CHECKS)
    verdict = next((each for each in answers if each is not None), None) or healing.BY_STAGE[s.at](s)
    if not s.strays:
        return verdict
    mood = "moving" if verdict.mood == "resting" else verdict.mood
    return replace(verdict, mood=mood, steps=(*s.remove(s.strays, "it is no longer wanted"), *verdict.steps))


def _drifted(s: Situation) -> Verdict | None:
    """Somebody edited the running container: replace it, under the same name, by what is wanted."""
    match = s.match
    if match is None or match.live is None or match.state not in ("running", "exited"):
        return None
    instance = s.wanted.instances.get(match.renderer)
    found = drifts(instance, match) if instance is not None else ()
    if not found:
        return None
    text = "; ".join(map(str, found))[:LONGEST]
    if s.memory.drift == text and s.memory.drift_container != match.container_id:
        # A fresh container has it as well: the host cannot do what is wanted, and replacing would never end.
        sentence = f"the host makes it so again and again: {text}"
        return Verdict(True, "DriftPersists", sentence, "stuck") if s.at is Stage.SERVING else None
    memory = s.memory.model_copy(update={"drift": text, "drift_container": match.container_id})
    return Verdict(False, "Drifted", text, steps=s.remove([match], f"it was edited ({text})"), memory=memory)


def _takes_over(s: Situation) -> Verdict | None:
    """The wanted one answers, so the older one may go."""
    if s.at is not Stage.SERVING or s.match is None or blocked(s.spec.tools, s.match.handshake):
        return None
    verdict = healing.serving(s)
    if s.keeper is None:
        return verdict
    steps = s.remove([s.keeper], f"{hash8(s.match.hash)} answers and takes over")
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
    failure = _failure(s) if s.on_trial else None
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
        case Stage.FAILED:
            return failed_create(match)
        case Stage.EXITED:
            return ended(match)
        case Stage.CRASHING if match.restarts >= CRASH_LOOP:
            return crash_loop(match)
        case Stage.STARTING | Stage.SILENT | Stage.LOST if s.age(match) >= deadline:
            return silence(match, deadline)
        case Stage.SERVING:
            return blocked(s.spec.tools, match.handshake)
        case _:
            return None


def _makes_room(s: Situation) -> Verdict | None:
    """The wanted one is stopped, must run alone, and its replacement runs: it was wanted again meanwhile."""
    if s.at is not Stage.EXITED or not s.one_at_a_time:
        return None
    if s.kept_at not in ALIVE and all(s.stage(each) not in ALIVE for each in s.strays):
        return None
    steps = s.remove([s.keeper], "the version before it is wanted again, alone")
    return Verdict(False, "RollingOut", "what ran before is being removed", steps=steps)


def _absent(s: Situation) -> Verdict | None:
    """Nothing of the wanted version is there."""
    if s.at is not Stage.ABSENT:
        return None
    if s.wanted.elsewhere and s.never_twice:
        return Verdict(
            False, "WaitingForOtherToolbox", "it must not run twice, and another toolbox may still have it"
        )
    if s.one_at_a_time and any(s.stage(each) in ALIVE for each in s.strays):
        return Verdict(False, "RollingOut", "what ran before is being removed")
    if s.keeper is None:
        return _create_alone(s)
    if s.kept_at not in ALIVE:
        return _creating(s, "the previous version is stopped and this one is wanted")
    if s.one_at_a_time:
        because = "the new version must not run beside it"
        stop = s.step("stop", s.keeper, because, drain=s.spec.rollout.drain_seconds)
        return Verdict(False, "RollingOut", "the previous version is being stopped", steps=(stop,))
    if not s.surge:
        return Verdict(
            False, "WaitingForSurge", "another rollout is under way on this toolbox", wants_surge=True
        )
    return _creating(s, f"it is wanted instead of {hash8(s.keeper.hash)}")


def _create_alone(s: Situation) -> Verdict:
    had_one = s.wanted.server.status.container_id != ""
    verdict = _creating(s, "its container is gone" if had_one else "it is wanted and not there")
    # The one that stood by is gone too, so there is nothing left to protect from trying again.
    return replace(verdict, memory=FRESH) if s.failed else verdict


def _creating(s: Situation, because: str) -> Verdict:
    return Verdict(False, "Creating", "the container is being created", steps=(s.create(because),))


CHECKS: tuple[Check, ...] = (_drifted, _takes_over, _rolled_back, _failed_the_gate, _makes_room, _absent)
