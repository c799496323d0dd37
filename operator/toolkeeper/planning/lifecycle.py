"""What a container's state means, as tables: Docker's state and the handshake → a stage → the phase that people see."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import get_args

from toolkeeper.planning.observed import Container, DockerState
from toolkeeper.resources.mcpserver import Health, Phase

CRASH_LOOP = 3
"""Restarts by the host without a handshake, after which it is a crash loop."""


class Contact(Enum):
    """What is known about speaking MCP with a container since its current start."""

    NONE = "not probed"
    REFUSED = "never answered"
    OK = "answers"
    LOST = "stopped answering"


class Stage(Enum):
    """Where a container stands, as far as decisions are concerned."""

    ABSENT = "absent"
    PREPARING = "being prepared"
    STARTING = "running, not answering yet"
    SILENT = "running, not answering for too long"
    SERVING = "serving"
    LOST = "running, stopped answering"
    CRASHING = "crashing"
    EXITED = "exited"
    FROZEN = "frozen by somebody"
    FAILED = "could not be created"
    DEAD = "dead"
    REMOVING = "being removed"
    UNKNOWN = "not observed"


def _rows() -> dict[tuple[DockerState, Contact], Stage]:
    whatever_the_contact: dict[DockerState, Stage] = {
        "pending": Stage.PREPARING,
        "pulling": Stage.PREPARING,
        "building": Stage.PREPARING,
        "created": Stage.PREPARING,
        "restarting": Stage.CRASHING,
        "paused": Stage.FROZEN,
        "removing": Stage.REMOVING,
        "exited": Stage.EXITED,
        "dead": Stage.DEAD,
        "failed": Stage.FAILED,
    }
    rows = {(state, contact): stage for state, stage in whatever_the_contact.items() for contact in Contact}
    rows |= {
        ("running", Contact.NONE): Stage.STARTING,
        ("running", Contact.REFUSED): Stage.STARTING,
        ("running", Contact.OK): Stage.SERVING,
        ("running", Contact.LOST): Stage.LOST,
    }
    return rows


STAGES: Mapping[tuple[DockerState, Contact], Stage] = _rows()
"""Every state with every contact. Only `STARTING` is refined further, by time and by restarts."""

PHASES: Mapping[Stage, tuple[Phase, Phase]] = {
    # stage: (phase while it should run, phase while it should not)
    Stage.ABSENT: ("starting", "stopped"),
    Stage.PREPARING: ("starting", "starting"),
    Stage.STARTING: ("starting", "starting"),
    Stage.SILENT: ("error", "error"),
    Stage.SERVING: ("active", "active"),
    Stage.LOST: ("error", "error"),
    Stage.CRASHING: ("error", "error"),
    Stage.EXITED: ("stopped", "stopped"),
    Stage.FROZEN: ("stopped", "stopped"),
    Stage.FAILED: ("error", "stopped"),
    Stage.DEAD: ("error", "stopped"),
    Stage.REMOVING: ("starting", "stopped"),
    Stage.UNKNOWN: ("unknown", "unknown"),
}

ALIVE = frozenset({Stage.STARTING, Stage.SILENT, Stage.SERVING, Stage.LOST, Stage.CRASHING, Stage.FROZEN})
"""There is a process, or Docker is about to start one again."""

STATES: tuple[DockerState, ...] = get_args(DockerState)


def contact(container: Container, threshold: int) -> Contact:
    """A server that once answered keeps that standing until `threshold` probes in a row have failed."""
    handshake = container.handshake
    if handshake is None:
        return Contact.NONE
    if handshake.ok:
        return Contact.OK
    if container.probe_failures == 0:
        return Contact.REFUSED
    return Contact.OK if container.probe_failures < threshold else Contact.LOST


def stage(
    container: Container | None,
    health: Health,
    elapsed: float = 0.0,
    *,
    stood: bool = False,
    lived_down: int = 0,
) -> Stage:
    """Where the container stands `elapsed` seconds after it was observed.

    `stood`: status says that this very container answers. A restarted node agent has not probed anything yet, which
    takes nothing away from a container that has been running for longer than a start may take.
    `lived_down`: how many of its restarts are no crash loop any more, because it has served since.
    """
    if container is None:
        return Stage.ABSENT
    if container.error_reason and container.state in ("created", "exited"):
        return Stage.FAILED
    found = STAGES[container.state, contact(container, health.failure_threshold)]
    if found is not Stage.STARTING:
        return found
    if container.age + elapsed >= health.startup_seconds:
        return Stage.SERVING if stood and container.handshake is None else Stage.SILENT
    return Stage.CRASHING if container.restarts - lived_down >= CRASH_LOOP else Stage.STARTING


def phase(at: Stage, *, running: bool) -> Phase:
    """The one word that the platform expects."""
    return PHASES[at][0 if running else 1]
