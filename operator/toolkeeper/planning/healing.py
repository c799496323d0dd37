"""What to do about the wanted container, by the stage it is at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from toolkeeper.planning.failures import (
    CREATE_FAILURES,
    RETRY_SECONDS,
    crash_loop,
    ended,
    failed_create,
    lost_contact,
    retry_seconds,
    silence,
)
from toolkeeper.planning.history import record
from toolkeeper.planning.lifecycle import Stage
from toolkeeper.planning.observed import Container
from toolkeeper.planning.repair import persisting_drift
from toolkeeper.planning.situation import COMES_LATER, Mood, Situation, Verdict, ends_for_good
from toolkeeper.planning.toolpins import blocked
from toolkeeper.resources.conditions import find
from toolkeeper.resources.mcpserver import RolloutRecord, ServerMemory

SHORTEST_RUN = 10.0
"""Seconds from one start to the next: a process that ends at once is not started in a tight loop."""
LOST_START = 30.0
"""Seconds after which a container that was created but never started is started: the toolbox lost the thread."""
HEALTHY_RUN = 3600.0
"""Seconds of a run that cost nothing from the budget of health restarts, whatever its end was."""
OUR_STOPS = frozenset({"Stopped", "Stopping", "RollingOut"})
"""What status says of a container that we stopped ourselves."""

PREPARATION = {
    "pending": ("Pending", "the toolbox has taken it on"),
    "pulling": ("Pulling", "the image is being pulled"),
    "building": ("Building", "the image is being built"),
    "created": ("Creating", "the container is being started"),
}


def preparing(s: Situation) -> Verdict:
    """On its way; nothing to do but to look again."""
    match = _the(s.match)
    reason, message = PREPARATION[match.state]
    before = find(s.wanted.server.status.conditions, "Deployed")
    if before is not None and before.reason in CREATE_FAILURES and s.same_as_reported:
        # A retry is not progress until it gets further than the last time: status does not flicker with each.
        mood: Mood = "moving" if before.reason in RETRY_SECONDS else "stuck"
        return Verdict(False, before.reason, before.message, mood, quoted=True)
    if match.state != "created" or match.progress:
        return Verdict(False, reason, message)
    if s.age(match) < LOST_START:
        return Verdict(False, reason, message, wake_after=LOST_START - s.age(match))
    return Verdict(
        False, reason, message, steps=(s.step("start", match, "it was created but never started"),)
    )


def starting(s: Situation) -> Verdict:
    """Running; the handshake is awaited until a deadline."""
    match, spec = _the(s.match), s.spec
    deadline = spec.health.startup_seconds if s.keeper is None else spec.rollout.deadline_seconds
    wake = max(deadline - s.age(match), 0.0)
    return Verdict(True, "Starting", "waiting for the MCP handshake", wake_after=wake)


def silent(s: Situation) -> Verdict:
    """Running for long without an answer."""
    match = _the(s.match)
    if s.keeper is not None:
        return starting(s)
    reason, message = silence(match, s.spec.health.startup_seconds)
    if s.proven:
        return restart(s, match, reason, message)
    # This version has never answered anybody. Restarting would not teach it; somebody has to look.
    written = _first_failure(s, match, reason, message)
    return Verdict(True, reason, message, "stuck", record=written, quoted=True)


def serving(s: Situation) -> Verdict:
    """It answers. What is left is to say so, and to write down that this version made it."""
    match, server = _the(s.match), s.wanted.server
    refused = blocked(s.spec.tools, match.handshake)
    if refused is not None:
        return Verdict(True, *refused, "stuck", barred=True)
    if s.unproven is not None:
        return _unproven(s, match, *s.unproven)
    written = None if s.proven else record(server, match.hash, "Succeeded")
    drift = persisting_drift(s)
    if drift:
        return Verdict(True, "DriftPersists", f"replacing it did not help: {drift}", "stuck", record=written)
    return Verdict(True, "Running", mood="resting", memory=_proven(s.memory, match), record=written)


def _unproven(s: Situation, match: Container, reason: str, message: str) -> Verdict:
    """It lives, and somebody has to look at its credential; a new version has time for that until its deadline."""
    if s.keeper is None:
        mood: Mood = "moving" if reason in {*COMES_LATER, "CredentialsNotGiven"} else "stuck"
        return Verdict(True, reason, message, mood, barred=True, quoted=True)
    wake = max(s.spec.rollout.deadline_seconds - s.age(match), 0.0)
    return Verdict(True, reason, message, barred=True, quoted=True, wake_after=wake)


def _proven(memory: ServerMemory, match: Container) -> ServerMemory | None:
    """A container that answers ends what was remembered about failures, repairs and crashes; None if it is nothing."""
    calm = not (memory.failed_hash or memory.drift or memory.retries)
    if calm and (match.restarts == memory.served_restarts or not match.container_id):
        return None
    return ServerMemory(
        health_restarts=memory.health_restarts,
        restarted_run=memory.restarted_run,
        served_container=match.container_id,
        served_restarts=match.restarts,
    )


def lost(s: Situation) -> Verdict:
    """It answered once and stopped answering."""
    match = _the(s.match)
    return restart(s, match, *lost_contact(match, s.spec.health.failure_threshold))


def restart(s: Situation, container: Container, reason: str, message: str) -> Verdict:
    """Restart for failed health, as long as the budget lasts. Counted before the act, and once per run."""
    memory, budget = s.memory, s.policy.health_restarts
    if container.run_id != memory.restarted_run or not container.run_id:
        spent = 0 if s.age(container) >= HEALTHY_RUN else memory.health_restarts
        if spent >= budget:
            told = f"{budget} restarts did not help; {message}"
            return Verdict(True, "HealthBudgetSpent", told, "stuck", quoted=True)
        memory = memory.model_copy(update={"health_restarts": spent + 1, "restarted_run": container.run_id})
    step = s.step("restart", container, f"it does not answer ({reason})", run_id=container.run_id)
    return Verdict(True, reason, message, steps=(step,), memory=memory, quoted=True)


def crashing(s: Situation) -> Verdict:
    """The host restarts it; a second one who restarts would only hide the crash."""
    match = _the(s.match)
    reason, message = crash_loop(match)
    if not s.crash_loops(match):
        return Verdict(False, "Restarting", "the process ended and is being restarted by the host")
    wake = s.spec.health.startup_seconds - s.age(match) if match.state == "running" else None
    return Verdict(
        False,
        reason,
        message,
        "stuck",
        wake_after=wake,
        record=_first_failure(s, match, reason, message),
        quoted=True,
    )


def exited(s: Situation) -> Verdict:
    """The host does not start it again by itself; whether we do is the restart policy."""
    match = _the(s.match)
    if not stays_ended(s, match):
        return start(s, match)
    if s.spec.restart_policy == "OnFailure":
        return Verdict(False, "Completed", "the process ended with exit code 0", "resting")
    reason, message = ended(match)
    return Verdict(False, reason, message, "stuck", quoted=True)


def stays_ended(s: Situation, container: Container) -> bool:
    """Whether the restart policy wants a process that ended to stay so."""
    return ends_for_good(s.spec, container)


def start(s: Situation, container: Container) -> Verdict:
    """Start a stopped one: with `Always` Docker restarts crashes, so somebody stopped it, or we did."""
    before = find(s.wanted.server.status.conditions, "Deployed")
    if before is not None and before.reason in OUR_STOPS:
        stopped = Verdict(False, before.reason, "the container is being started again")
    else:
        stopped = Verdict(False, "StoppedOutside", "somebody stopped the container on the host")
    wait = SHORTEST_RUN - s.age(container)
    if wait > 0:
        return replace(stopped, wake_after=wait)
    return replace(stopped, steps=(s.step("start", container, "it is stopped and should run"),))


def frozen(s: Situation) -> Verdict:
    """Somebody froze it on the host (`docker pause`), which nothing does by accident: theirs to end."""
    return Verdict(False, "Frozen", "somebody paused the container on the host; unpause it there", "stuck")


def failed(s: Situation) -> Verdict:
    """It could not be created; tried again, slowly where time does not help."""
    match = _the(s.match)
    reason, message = failed_create(match)
    mood: Mood = "moving" if match.error_reason in RETRY_SECONDS else "stuck"
    wait = retry_seconds(match) - s.age(match)
    if wait > 0:
        written = _first_failure(s, match, reason, message) if mood == "stuck" else None
        return Verdict(False, reason, message, mood, wake_after=wait, record=written, quoted=True)
    if match.renderer not in s.wanted.instances:
        return Verdict(
            False, reason, message, steps=s.remove([match], "a newer Toolkeeper failed to create it")
        )
    if match.error_reason == "FilesUnavailable" and match.container_id:
        # They were in memory, and only a create brings them.
        return Verdict(
            False, reason, message, mood, steps=s.remove([match], "its files are gone"), quoted=True
        )
    again = s.create(f"trying again after {reason}", like=match)
    counted = s.memory.model_copy(update={"retries": s.memory.retries + 1}) if s.keeper is not None else None
    return Verdict(False, reason, message, mood, steps=(again,), memory=counted, quoted=True)


def dead(s: Situation) -> Verdict:
    """Docker could not remove or run it; only a new one helps."""
    return Verdict(False, "Dead", "the container is dead", steps=s.remove([s.match], "it is dead"))


def removing(s: Situation) -> Verdict:
    """On its way out; its successor has the same name."""
    return Verdict(False, "Removing", "the container is being removed")


def _first_failure(s: Situation, match: Container, reason: str, message: str) -> RolloutRecord | None:
    """The record of a first deployment that failed; None if this version has ever served."""
    return None if s.proven else record(s.wanted.server, match.hash, "Failed", reason, message)


def _the(match: Container | None) -> Container:
    assert match is not None
    return match


BY_STAGE: Mapping[Stage, Callable[[Situation], Verdict]] = {
    Stage.PREPARING: preparing,
    Stage.STARTING: starting,
    Stage.SILENT: silent,
    Stage.SERVING: serving,
    Stage.LOST: lost,
    Stage.CRASHING: crashing,
    Stage.EXITED: exited,
    Stage.FROZEN: frozen,
    Stage.FAILED: failed,
    Stage.DEAD: dead,
    Stage.REMOVING: removing,
}
