"""A tiny model of hosts, without time of its own: what a plan's steps do, and what becomes of it all.

How a container behaves is told by its image (the part after the last `/`): `crashes:…`, `silent:…`, `missing:…`,
`unpullable:…`, `exits:…`, `forgetful:…` (loses a memory limit again and again), `guarded:…` (asks for a credential of
any version but `stale`), anything else works.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from toolkeeper.planning.decide import decide
from toolkeeper.planning.drift import expected
from toolkeeper.planning.instance import Instance
from toolkeeper.planning.observed import Container, Handshake, Observation, Snapshot, Unreachable
from toolkeeper.planning.placement import Placement, place
from toolkeeper.planning.plan import Plan, Step
from toolkeeper.planning.report import unplaced
from toolkeeper.planning.world import Decision, Policy, Wanted, World
from toolkeeper.resources.events import Event
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.testing.builders import NOW, make_handshake, make_snapshot, make_wanted

TOOLS = ("echo",)
UNABLE: Mapping[str, Any] = {"probe": None, "missing_secrets": ()}
"""Of a server on a host whose probes can show no credential."""


@dataclass(slots=True)
class Host:
    """One toolbox's containers, and what was done to them."""

    snapshot: Snapshot
    silence: Unreachable | None = None
    instances: dict[str, Instance] = field(default_factory=dict)
    done: list[Step] = field(default_factory=list)
    runs: int = 1

    @property
    def observation(self) -> Observation:
        if self.silence is None or self.silence.reason == "NeverSeen":
            return self.silence or self.snapshot
        held = frozenset((each.namespace, each.server) for each in self.snapshot.containers)
        return replace(self.silence, held=held)

    def container(self, name: str) -> Container | None:
        return next((each for each in self.snapshot.containers if each.name == name), None)

    def apply(self, step: Step, installation: str) -> None:
        """Do what the step says, at once."""
        assert self.silence is None, f"nobody is there to {step}"
        self.done.append(step)
        present = self.container(step.container)
        match step.verb:
            case "create":
                if present is None or present.state == "failed":
                    self._put(self._created(step, installation))
                elif present.state in ("exited", "created"):
                    self._put(self._started(present))
            case "start":
                assert present is not None, f"nothing to {step}"
                self._put(self._started(present))
            case "stop":
                assert present is not None, f"nothing to {step}"
                self._put(replace(present, state="exited", exit_code=143, handshake=None, probe_failures=0))
            case "restart":
                assert present is not None, f"nothing to {step}"
                assert present.run_id == step.run_id, f"another run than that of {step}"
                self._put(self._started(present))
            case "remove":
                assert present is None or present.container_id == step.container_id, (
                    f"another one than that of {step}"
                )
                self._drop(step.container)
            case "remove-volume":
                assert all(step.container not in each.volumes for each in self.snapshot.containers), (
                    "it is in use"
                )
                kept = tuple(each for each in self.snapshot.volumes if each != step.container)
                self.snapshot = replace(self.snapshot, volumes=kept)
            case "give-credential" | "take-credential":
                self._lend(present, step)

    def _lend(self, present: Container | None, step: Step) -> None:
        assert present is not None, f"nothing to {step}"
        assert step.container_id in ("", present.container_id), f"another one than that of {step}"
        assert (step.verb == "give-credential") == (step.secret is not None), f"nothing to {step}"
        self._put(replace(present, probe_credential=step.secret.version if step.secret else ""))

    def settle(self) -> None:
        """Let everything happen that happens within a second or a crash loop."""
        for each in self.snapshot.containers:
            if each.state in ("pending", "pulling", "building", "created"):
                self._put(self._started(each))
            elif each.state == "removing":
                self._drop(each.name)
        for each in self.snapshot.containers:
            asked = each.handshake is not None and each.handshake.ok
            if each.state in ("running", "restarting") and not (
                asked and each.handshake is not None and each.handshake.credential == each.probe_credential
            ):
                self._put(_behaving(each))

    def pass_time(self, seconds: float) -> None:
        aged = tuple(replace(each, age=each.age + seconds) for each in self.snapshot.containers)
        self.snapshot = replace(self.snapshot, containers=aged)

    def _created(self, step: Step, installation: str) -> Container:
        instance = step.instance
        assert instance is not None, f"nothing to {step}"
        self.instances[step.container] = instance
        self.runs += 1
        volumes = tuple(each.volume for each in instance.volumes)
        made = Container(
            name=step.container,
            installation=installation,
            namespace=step.server.namespace,
            server=step.server.name,
            hash=step.hash,
            renderer=instance.renderer,
            state="running",
            image=instance.image,
            volumes=volumes,
        )
        behaviour = _behaviour(instance.image)
        if behaviour in ("missing", "unpullable"):
            reason = "ImageNotFound" if behaviour == "missing" else "ImagePullFailed"
            return replace(
                made, state="failed", error_reason=reason, error=f"{instance.image}: no such image"
            )
        known = {*self.snapshot.volumes, *volumes}
        self.snapshot = replace(self.snapshot, volumes=tuple(sorted(known)))
        live = expected(instance)
        if behaviour == "forgetful":
            live = replace(live, memory=0)
        http = f"http://10.0.0.9:{instance.port}{instance.path}" if instance.port else ""
        return replace(
            made, container_id=f"new-{self.runs}", run_id=f"run-{self.runs}", live=live, address=http
        )

    def _started(self, container: Container) -> Container:
        self.runs += 1
        return replace(
            container,
            state="running",
            run_id=f"run-{self.runs}",
            age=0.0,
            restarts=0,
            exit_code=None,
            handshake=None,
            probe_failures=0,
            error_reason="",
            error="",
        )

    def _put(self, container: Container) -> None:
        others = [each for each in self.snapshot.containers if each.name != container.name]
        self.snapshot = replace(self.snapshot, containers=(*others, container))

    def _drop(self, name: str) -> None:
        kept = tuple(each for each in self.snapshot.containers if each.name != name)
        self.snapshot = replace(self.snapshot, containers=kept)


def _behaviour(image: str) -> str:
    return image.rpartition("/")[2].partition(":")[0]


def _behaving(container: Container) -> Container:
    match _behaviour(container.image):
        case "crashes":
            told = ("Traceback (most recent call last):", "KeyError: 'TOKEN'")
            return replace(
                container, state="restarting", restarts=5, exit_code=1, last_log=told, age=0.0, handshake=None
            )
        case "exits":
            return replace(container, state="exited", exit_code=0, handshake=None)
        case "guarded" if container.probe_credential in ("", "stale"):
            shown = container.probe_credential
            reason = "CredentialsRefused" if shown else "AuthRequired"
            answer = Handshake(ok=True, reason=reason, message="HTTP 401: it says no", credential=shown)
            return replace(container, state="running", handshake=answer, probe_failures=0)
        case "silent":
            return replace(container, handshake=make_handshake(ok=False))
        case _:
            return replace(
                container,
                state="running",
                handshake=make_handshake(tools=TOOLS, credential=container.probe_credential),
                probe_failures=0,
            )


@dataclass(slots=True)
class Pass:
    """What one look at everything came to."""

    decisions: dict[Key, Decision]
    placements: Mapping[Key, Placement]
    servers: dict[Key, MCPServer]
    """Those whose status changed."""
    toolboxes: dict[Key, Toolbox]
    released: set[Key]
    wake_after: float | None

    @property
    def steps(self) -> list[Step]:
        return [step for decision in self.decisions.values() for step in decision.plan.steps]

    @property
    def events(self) -> list[Event]:
        return [event for decision in self.decisions.values() for event in decision.events]

    @property
    def quiet(self) -> bool:
        """Whether nothing is written, nothing is done, nothing is told."""
        return not (self.steps or self.servers or self.toolboxes or self.released or self.events)

    @property
    def plans(self) -> list[Plan]:
        return [decision.plan for decision in self.decisions.values()]

    def __str__(self) -> str:
        return "\n".join(map(str, self.plans))


@dataclass(slots=True)
class Fleet:
    """Everything there is, and the loop around the planning functions without its I/O."""

    servers: dict[Key, MCPServer]
    toolboxes: dict[Key, Toolbox]
    hosts: dict[Key, Host]
    policy: Policy
    complete: bool = True
    secrets: Mapping[str, str] | None = None
    clock: float = 1000.0
    orphans: dict[Key, Mapping[str, float]] = field(default_factory=dict)

    def look(self, *, backwards: bool = False) -> Pass:
        """Decide about everything; change nothing."""
        servers, boxes = list(self.servers.values()), list(self.toolboxes.values())
        if backwards:
            servers.reverse()
            boxes.reverse()
        placements = place(
            servers, boxes, {key: host.observation for key, host in self.hosts.items()}, self.policy
        )
        decisions = {
            key: decide(self._world(key, servers, placements, backwards=backwards))
            for key in sorted(self.hosts)
        }
        changed = {each.key: each for decision in decisions.values() for each in decision.servers}
        released = {key for decision in decisions.values() for key in decision.released}
        for server in servers:
            placement = placements[server.key]
            if placement.released:
                released.add(server.key)
            elif placement.toolbox is None:
                after = unplaced(server, placement, self._now())
                if after is not server:
                    changed[server.key] = after
        wakes = [each.plan.wake_after for each in decisions.values() if each.plan.wake_after is not None]
        return Pass(
            decisions=decisions,
            placements=placements,
            servers=changed,
            toolboxes={key: each.toolbox for key, each in decisions.items() if each.toolbox is not None},
            released=released,
            wake_after=min(wakes, default=None),
        )

    def carry_out(self, found: Pass) -> None:
        """Write first, then do."""
        self.servers |= found.servers
        self.toolboxes |= found.toolboxes
        for key in found.released:
            self.servers.pop(key, None)
        for key, decision in found.decisions.items():
            self.orphans[key] = decision.orphans
            for step in decision.plan.steps:
                self.hosts[key].apply(step, self.policy.installation)

    def pass_time(self, seconds: float) -> None:
        self.clock += seconds
        for host in self.hosts.values():
            host.pass_time(seconds)

    def settle(self) -> None:
        for host in self.hosts.values():
            host.settle()

    def _now(self) -> datetime:
        return NOW + timedelta(seconds=int(self.clock) - 1000)

    def _world(
        self,
        key: Key,
        servers: Sequence[MCPServer],
        placements: Mapping[Key, Placement],
        *,
        backwards: bool,
    ) -> World:
        host = self.hosts[key]
        observation = host.observation
        if isinstance(observation, Snapshot) and backwards:
            observation = replace(observation, containers=observation.containers[::-1])
        here = {(each.namespace, each.server) for each in host.snapshot.containers}
        concerned = [
            each
            for each in servers
            if placements[each.key].toolbox == key or (each.metadata.namespace, each.metadata.name) in here
        ]
        return World(
            toolbox=self.toolboxes[key],
            servers=tuple(self._wanted(each, key, placements[each.key]) for each in concerned),
            observation=observation,
            policy=self.policy,
            now=self._now(),
            clock=self.clock,
            complete=self.complete,
            orphans=self.orphans.get(key, {}),
        )

    def _wanted(self, server: MCPServer, key: Key, placement: Placement) -> Wanted:
        home = placement.toolbox
        able = "probe-credentials" in self.hosts[key].snapshot.features
        wanted = make_wanted(
            server, installation=self.policy.installation, secrets=self.secrets, **({} if able else UNABLE)
        )
        return replace(
            wanted,
            assigned=home == key,
            ready_elsewhere=home is not None and home != key and self._answers(wanted, self.hosts[home]),
            elsewhere=any(_of(server, host) for other, host in self.hosts.items() if other != key),
        )

    @staticmethod
    def _answers(wanted: Wanted, host: Host) -> bool:
        return any(
            each.hash == wanted.hashes.get(each.renderer) and each.handshake is not None and each.handshake.ok
            for each in _of(wanted.server, host)
        )


def _of(server: MCPServer, host: Host) -> list[Container]:
    meta = server.metadata
    return [
        each
        for each in host.snapshot.containers
        if (each.namespace, each.server) == (meta.namespace, meta.name)
    ]


def fleet(
    servers: Iterable[MCPServer],
    toolboxes: Iterable[Toolbox],
    observed: Mapping[Key, Sequence[Container]] | None = None,
    *,
    policy: Policy | None = None,
) -> Fleet:
    """Servers, toolboxes and what runs on them."""
    boxes = {each.key: each for each in toolboxes}
    return Fleet(
        servers={each.key: each for each in servers},
        toolboxes=boxes,
        hosts={key: Host(make_snapshot(*(observed or {}).get(key, ()))) for key in boxes},
        policy=policy or Policy("test"),
    )
