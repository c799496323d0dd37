"""One server on one toolbox, as it stands: what its checks look at, and what they answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from toolkeeper.planning.instance import Instance
from toolkeeper.planning.lifecycle import ALIVE, CRASH_LOOP, Stage, stage
from toolkeeper.planning.naming import container_name
from toolkeeper.planning.observed import Container
from toolkeeper.planning.plan import Step, Verb
from toolkeeper.planning.proving import believed, stood, unproven
from toolkeeper.planning.world import Policy, Wanted
from toolkeeper.resources.mcpserver import MCPServer, MCPServerSpec, RolloutRecord, ServerMemory
from toolkeeper.resources.toolbox import Toolbox

FRESH = ServerMemory()
ELSEWHERE = "WaitingForOtherToolbox"
"""The reason of a server that must not run twice and may still run on another toolbox."""

COMES_LATER = frozenset({"SecretMissing", "ReadingSecrets", "StoreUnreachable"})
"""Reasons for a missing secret that may end by themselves: it may be a moment later than its server."""

Mood = Literal["resting", "moving", "held", "stuck"]
"""Nothing to do; on its way; not on its way only because it is paused (both `Reconciling`); until somebody acts
(`Stalled`)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one check decided: what to do now, what to remember first, and what to say."""

    deployed: bool | None
    """Whether the wanted container exists and runs; None = unknown."""
    reason: str
    message: str = ""
    mood: Mood = "moving"
    steps: tuple[Step, ...] = ()
    memory: ServerMemory | None = None
    """What to remember from now on, if it changes."""
    wake_after: float | None = None
    record: RolloutRecord | None = None
    """A rollout that ended with this verdict."""
    quoted: bool = False
    """The message quotes the host: it is kept as it was while the reason stays the same."""
    barred: bool = False
    """What answers must not be called ready."""
    released: bool = False
    """The finalizer may go."""
    wants_surge: bool = False
    """It waits for a surge slot; asked again once one is granted."""


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything that the checks of one server may look at."""

    wanted: Wanted
    toolbox: Toolbox
    policy: Policy
    elapsed: float
    match: Container | None
    """The container that is wanted."""
    at: Stage
    """Where the match stands."""
    keeper: Container | None
    """An older one that must stay until the match has proven itself."""
    kept_at: Stage
    strays: tuple[Container, ...]
    """Any others."""
    memory: ServerMemory
    volumes: tuple[str, ...]
    """Volumes of this server on the host."""
    surge: bool = False
    """It may have a second container now."""

    @property
    def spec(self) -> MCPServerSpec:
        return self.wanted.server.spec

    @property
    def home(self) -> str:
        """The toolbox as status names it: `<namespace>/<name>`."""
        return f"{self.toolbox.metadata.namespace}/{self.toolbox.metadata.name}"

    @property
    def present(self) -> tuple[Container, ...]:
        """All containers of this server here, the wanted one first."""
        return tuple(each for each in (self.match, self.keeper, *self.strays) if each is not None)

    @property
    def serving(self) -> Container | None:
        """The one that agents should reach: the wanted one as soon as it answers, else the older one."""
        kept = self.keeper if self.kept_at is Stage.SERVING else None
        if self.at is not Stage.SERVING or (kept is not None and self.unproven is not None):
            return kept
        return self.match

    @property
    def failed(self) -> bool:
        """Whether the wanted version is remembered as failed."""
        failed = self.memory.failed_hash
        return failed != "" and (failed == self.wanted_hash or failed in self.wanted.hashes.values())

    @property
    def unproven(self) -> tuple[str, str] | None:
        """(reason, message) if the wanted one answers, and not with what its spec wants it to prove."""
        return unproven(self.wanted, self.match)

    @property
    def proven(self) -> bool:
        """Whether the wanted one has served before."""
        return self.match is not None and self.match.hash == self.wanted.server.status.running_hash

    @property
    def one_at_a_time(self) -> bool:
        """Whether the old one must be down before the new one may run."""
        return self.never_twice or self.spec.rollout.strategy == "Recreate"

    @property
    def wanted_hash(self) -> str:
        """The hash that status calls wanted: as the existing container has it, whatever renderer made it."""
        if self.match is not None:
            return self.match.hash
        reported = self.wanted.server.status.wanted_hash
        known = self.wanted.hashes.values()
        return reported if reported in known or not known else self.wanted.hash

    @property
    def same_as_reported(self) -> bool:
        """Whether status is already about the version that is wanted now."""
        return self.wanted_hash == self.wanted.server.status.wanted_hash

    @property
    def never_twice(self) -> bool:
        """Whether not even a move between toolboxes may have two of it."""
        return never_twice(self.spec)

    def stage(self, container: Container) -> Stage:
        """Where any of its containers stands."""
        return _stage(container, self.wanted.server, self.elapsed)

    def crash_loops(self, container: Container) -> bool:
        """Whether it was restarted again and again without having served in between."""
        return container.restarts - _lived_down(container, self.memory) >= CRASH_LOOP

    def age(self, container: Container) -> float:
        """Seconds since its start (or since the work on it began), now."""
        return container.age + self.elapsed

    def step(
        self, verb: Verb, container: Container, because: str, *, drain: int = 0, run_id: str = ""
    ) -> Step:
        """A call about an existing container; removal and restart hold only for the very one that was seen."""
        return Step(
            verb=verb,
            server=self.wanted.server.key,
            container=container.name,
            because=because,
            container_id=container.container_id if verb in ("remove", "take-credential") else "",
            run_id=run_id,
            drain=drain,
        )

    def create(self, because: str, *, like: Container | None = None) -> Step:
        """Make the wanted container exist: the newest rendering, or again the one that `like` was made from."""
        instance: Instance | None = self.wanted.instance
        spec_hash = self.wanted.hash
        if like is not None and like.renderer in self.wanted.instances:
            instance, spec_hash = self.wanted.instances[like.renderer], self.wanted.hashes[like.renderer]
        meta = self.wanted.server.metadata
        return Step(
            verb="create",
            server=self.wanted.server.key,
            container=container_name(self.policy.installation, meta.namespace, meta.name, spec_hash),
            because=because,
            instance=instance,
            hash=spec_hash,
            uid=meta.uid,
        )

    def remove(self, containers: Sequence[Container | None], because: str) -> tuple[Step, ...]:
        """Remove each that is there and not already going; a running one gets time to finish its calls."""
        drain = self.spec.rollout.drain_seconds
        return tuple(
            self.step("remove", each, because, drain=drain if each.state == "running" else 0)
            for each in containers
            if each is not None and each.state != "removing"
        )


def never_twice(spec: MCPServerSpec) -> bool:
    """Whether two containers of it must never run at a time, wherever they are."""
    return spec.exclusive or any(not volume.read_only for volume in spec.volumes)


def survey(
    wanted: Wanted,
    toolbox: Toolbox,
    policy: Policy,
    present: Sequence[Container],
    *,
    elapsed: float = 0.0,
    volumes: tuple[str, ...] = (),
) -> Situation:
    """Sort the containers of one server into the wanted one, the one to keep meanwhile, and the others."""
    server = wanted.server
    match = max(
        (each for each in present if _is_wanted(each, wanted)),
        key=lambda each: (each.renderer, each.name),
        default=None,
    )
    others = sorted((each for each in present if each is not match), key=lambda each: each.name)
    match = None if match is None else believed(match, wanted, elapsed)
    keeper = min(others, key=lambda each: _rank(each, wanted, elapsed), default=None)
    if keeper is not None and _rank(keeper, wanted, elapsed) == UNWORTHY:
        keeper = None
    return Situation(
        wanted=wanted,
        toolbox=toolbox,
        policy=policy,
        elapsed=elapsed,
        match=match,
        at=_stage(match, server, elapsed),
        keeper=keeper,
        kept_at=_stage(keeper, server, elapsed),
        strays=tuple(each for each in others if each is not keeper),
        memory=_memory(wanted, match),
        volumes=volumes,
    )


def _stage(container: Container | None, server: MCPServer, elapsed: float) -> Stage:
    if container is None:
        return Stage.ABSENT
    gone = container.error_reason == "FilesUnavailable" and container.state == "exited"
    if gone and ends_for_good(server.spec, container):
        # It had done its work before its files went with a reboot, and is not wanted again.
        return Stage.EXITED
    lived_down = _lived_down(container, server.status.memory)
    return stage(
        container, server.spec.health, elapsed, stood=stood(container, server), lived_down=lived_down
    )


def ends_for_good(spec: MCPServerSpec, container: Container) -> bool:
    """Whether the restart policy wants a process that ended to stay so."""
    policy = spec.restart_policy
    return policy == "Never" or (policy == "OnFailure" and container.exit_code == 0)


def _lived_down(container: Container, memory: ServerMemory) -> int:
    """How many of its restarts lie before the last time that it served."""
    return memory.served_restarts if container.container_id == memory.served_container else 0


def _is_wanted(container: Container, wanted: Wanted) -> bool:
    """Compared under the renderer version that made the container: an upgrade of Toolkeeper changes nothing."""
    known = wanted.hashes.get(container.renderer)
    if known is not None:
        return container.hash == known
    if not wanted.hashes:
        return False
    # Made by a newer Toolkeeper than this one. It judged the container to fit the spec, and we cannot; so it fits until
    # the spec is edited, also when nothing is remembered.
    server = wanted.server
    if server.status.observed_generation == -1:
        return True
    return (
        container.hash == server.status.wanted_hash
        and server.status.observed_generation == server.metadata.generation
    )


UNWORTHY = 3


def _rank(container: Container, wanted: Wanted, elapsed: float) -> int:
    """How much an older container deserves to be kept until the wanted one has proven itself; 0 is most."""
    at = _stage(container, wanted.server, elapsed)
    if at in (Stage.PREPARING, Stage.FAILED, Stage.DEAD, Stage.REMOVING):
        return UNWORTHY
    running_hash = wanted.server.status.running_hash
    if container.hash == running_hash:
        return 0
    if at is Stage.SERVING:
        return 1
    # With nothing remembered, a container that was not probed yet may be the one that served.
    return 2 if not running_hash and container.handshake is None and at in ALIVE else UNWORTHY


def _memory(wanted: Wanted, match: Container | None) -> ServerMemory:
    """What is remembered, as long as it is about the version that is wanted."""
    status = wanted.server.status
    about_this = (
        not wanted.hashes
        or status.wanted_hash in wanted.hashes.values()
        or (match is not None and match.hash == status.wanted_hash)
    )
    return status.memory if about_this else FRESH
