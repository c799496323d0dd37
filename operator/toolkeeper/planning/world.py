"""What a decision is made from, and what it consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from toolkeeper.planning.instance import Instance, SecretUse
from toolkeeper.planning.observed import Observation
from toolkeeper.planning.plan import Plan, Verb
from toolkeeper.resources.events import Event
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of this installation. Nothing here is per resource."""

    installation: str
    orphan_seconds: float = 60.0
    """Between the first and the second look at a container without an owner."""
    orphan_cap: float = 0.2
    """Share of a toolbox's containers of ours that one pass may remove as orphans (at least one)."""
    allow_prune: bool = False
    """Lifts the cap."""
    surges: int = 1
    """Rollouts per toolbox that may have a second container at the same time."""
    health_restarts: int = 3
    """Restarts for failed health that one hash may cost; then Stalled."""


class Hindrance(NamedTuple):
    """A step that could not be taken, again and again."""

    verb: Verb
    container: str
    message: str
    """Why, in the words of who refused it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One server as this toolbox should see it, already rendered (render once per spec, not once per pass)."""

    server: MCPServer
    instance: Instance | None
    """None when it cannot be rendered: `refused` or `missing_secrets` says why."""
    hash: str = ""
    hashes: Mapping[int, str] = field(default_factory=dict)
    """The hash under every known renderer version, so that an upgrade of Toolkeeper compares like with like."""
    instances: Mapping[int, Instance] = field(default_factory=dict)
    """The instance under every known renderer version: live fields are compared with the version that made them."""
    missing_secrets: tuple[str, ...] = ()
    """`<secret>/<key>: why`. With an instance: of the credential for its probes, without which it runs all the same."""
    missing_reason: str = "SecretMissing"
    """Why the first of them is missing, in one word."""
    refused: tuple[str, str] | None = None
    """(reason, message) of a spec that cannot run here at all."""
    probe: SecretUse | None = None
    """The credential that its probes show; its version is empty while it cannot be had. None: none is wanted, or the
    host does not know of such."""
    probe_not_taken: tuple[str, str] | None = None
    """(reason, message) of a host that refused that version of it."""
    hindrance: Hindrance | None = None
    assigned: bool = True
    """False: it belongs to another toolbox now; what is here retires when `ready_elsewhere`."""
    ready_elsewhere: bool = False
    same_host: bool = False
    """It belongs to another toolbox, which leads to this very host: what is here stays until that is put right."""
    elsewhere: bool = False
    """Containers of it may exist on another toolbox (last seen there, or never ruled out). A server that must not run
    twice waits for that to end before it is created here, and a deleted one is not released before."""


@dataclass(frozen=True, slots=True)
class World:
    """One toolbox and all servers that belong to it or have a container on it."""

    toolbox: Toolbox
    servers: tuple[Wanted, ...]
    observation: Observation
    policy: Policy
    now: datetime
    """Wall time, for transition times only."""
    clock: float
    """Monotonic seconds of this process, for orphans only."""
    elapsed: float = 0.0
    """Seconds since the observation was received; added to every age that the host reported."""
    complete: bool = True
    """Every store was listed whole; otherwise nothing is concluded from the absence of a resource."""
    orphans: Mapping[str, float] = field(default_factory=dict)
    """Container name → `clock` at which it was first seen without an owner."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What to write, then what to do. Writing comes first: it is the memory that explains the doing."""

    plan: Plan
    servers: tuple[MCPServer, ...] = ()
    """Servers whose status changes, with the new status in place."""
    toolbox: Toolbox | None = None
    """The toolbox, if its status changes."""
    released: tuple[Key, ...] = ()
    """Deleted servers whose absence was observed: their finalizer may go."""
    orphans: Mapping[str, float] = field(default_factory=dict)
    """To be handed back as `World.orphans` next time."""
    events: tuple[Event, ...] = ()
