"""The plan: immutable steps in order, each one call to one host, each with its cause. Its text is its test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from toolkeeper.planning.instance import Instance, SecretUse
from toolkeeper.resources.meta import Key

Verb = Literal[
    "create", "start", "stop", "restart", "remove", "remove-volume", "give-credential", "take-credential"
]


@dataclass(frozen=True, slots=True)
class Step:
    """One call to the toolbox.

    create: make the container exist and run (idempotent by name). start, stop: the same container.
    restart: only while `run_id` is still its current run. remove: only that `container_id` (empty = whatever has
    the name), giving it `drain` seconds. remove-volume: `container` is the volume's name. give-credential,
    take-credential: what the probes of that `container_id` (empty likewise) show; `secret` says where its value is.
    """

    verb: Verb
    server: Key
    container: str
    because: str
    instance: Instance | None = None
    hash: str = ""
    uid: str = ""
    container_id: str = ""
    run_id: str = ""
    drain: int = 0
    secret: SecretUse | None = None

    @property
    def version(self) -> str:
        """Of what the host is given: the hash of a container, the digest of a credential; empty for other steps."""
        return self.hash if self.secret is None else self.secret.version

    def __str__(self) -> str:
        return f"{self.verb} {self.container} because {self.because}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do on one toolbox, in order. Steps of different servers are independent of each other."""

    toolbox: Key
    steps: tuple[Step, ...] = ()
    wake_after: float | None = None
    """Seconds until time alone may change the decision (a deadline, an orphan's second look); None = never."""

    def __str__(self) -> str:
        lines = [f"{self.toolbox.namespace}/{self.toolbox.name}:"]
        lines += [f"  {step}" for step in self.steps] or ["  nothing to do"]
        return "\n".join(lines)
