"""The log of control actions: who did what to which object, why, when, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from toolkeeper.telemetry.logs import Log

Outcome = Literal["accepted", "refused", "unreachable", "conflict", "skipped"]


@dataclass(frozen=True, slots=True)
class Action:
    """One control action. Holds names and causes, never values."""

    at: datetime
    action: str
    """`create`, `remove`, `restart`, `claim`, `release`, `pause`, …"""
    kind: str
    namespace: str
    name: str
    because: str
    toolbox: str = ""
    """`<namespace>/<name>`."""
    container: str = ""
    actor: str = "operator"
    outcome: Outcome = "accepted"
    detail: str = ""
    """What the other side said when it did not accept."""
    seconds: float = 0.0


class ActionLog(Protocol):
    """Where actions are kept. Recording never fails and never waits."""

    def record(self, action: Action) -> None:
        """Keep one action."""
        ...


class Nowhere:
    """Keeps nothing."""

    def record(self, action: Action) -> None:
        pass


class Logged:
    """Writes each action as a log record, and hands it on."""

    def __init__(self, log: Log, then: Callable[[Action], None] | None = None) -> None:
        self._log, self._then = log, then

    def record(self, action: Action) -> None:
        say = self._log.info if action.outcome == "accepted" else self._log.warning
        say(
            "action",
            action=action.action,
            kind=action.kind,
            namespace=action.namespace,
            name=action.name,
            toolbox=action.toolbox,
            container=action.container,
            because=action.because,
            actor=action.actor,
            outcome=action.outcome,
            detail=action.detail,
        )
        if self._then is not None:
            self._then(action)
