"""One run: the real operator, a store and hosts that misbehave by schedule, and the laws watching."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random
from typing import Any, TypeVar, cast

from prometheus_client import CollectorRegistry

from simulation.deeds import Deeds
from simulation.oracles import INSTALLATION, Oracles, Violation
from simulation.schedule import BROKEN, IMAGES, ONE_AT_A_TIME, SETTLED, STORM, Schedule, Spec
from simulation.witnesses import LogOfRun, WatchedStore, Watching
from toolkeeper.errors import Conflict, Fenced
from toolkeeper.planning.desired import RENDERERS, Rendered, render, secret_uses
from toolkeeper.planning.drift import expected
from toolkeeper.planning.instance import Instance
from toolkeeper.planning.naming import hash8
from toolkeeper.planning.world import Policy
from toolkeeper.reconcile.keyring import digest
from toolkeeper.reconcile.observe import WatchSettings
from toolkeeper.reconcile.operator import Operator
from toolkeeper.reconcile.planner import Planner
from toolkeeper.reconcile.ports import InstanceRequest, ToolboxClient
from toolkeeper.reconcile.recorder import Telemetry
from toolkeeper.reconcile.settings import OperatorSettings
from toolkeeper.resources.agentconnection import AgentConnection, AgentConnectionSpec
from toolkeeper.resources.conditions import find
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import RESTARTED_AT, Key, Metadata
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.telemetry.actions import Action
from toolkeeper.telemetry.metrics import OperatorMetrics
from toolkeeper.testing.builders import make_server, make_toolbox
from toolkeeper.testing.fake_toolbox import FakeToolbox
from toolkeeper.testing.faults import (
    Armed,
    FakeLease,
    FaultyStore,
    LeaseOffice,
    Process,
    StoreFaults,
)
from toolkeeper.testing.virtual import VirtualClock

T = TypeVar("T")
QUIET = 480.0
"""Seconds without faults or edits after which everything must be as declared: the slowest retry takes 300."""
IDLE = 200.0
"""Seconds after that in which nothing may be written."""
RESYNC = 120.0
DIGEST_KEY = b"simulation"
METRICS = OperatorMetrics(CollectorRegistry())

Wrap = Callable[[ToolboxClient], ToolboxClient]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is put to the test: normally the real thing, in a mutant with one part broken."""

    planner: Planner = field(default_factory=Planner)
    wrap: Wrap = lambda client: client
    """Around every toolbox client."""
    wrap_store: Callable[[Any], Any] = lambda store: store


@dataclass(slots=True)
class Run:
    """The state of one run."""

    schedule: Schedule
    subject: Subject
    office: LeaseOffice = field(default_factory=LeaseOffice)
    faults: StoreFaults = field(default_factory=StoreFaults)
    declared: dict[str, Spec | None] = field(default_factory=dict)
    """Server → the spec that people want; None = deleted."""
    trace: list[str] = field(default_factory=list)
    upgraded: bool = False
    over: bool = False
    secret: str = "s3cr3t-one"
    incarnation: int = 0
    boxes: dict[str, FakeToolbox] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    supervisors: list[asyncio.Task[None]] = field(default_factory=list)
    clients: list[Watching] = field(default_factory=list)
    edits: list[tuple[float, str]] = field(default_factory=list)
    """(when, server) of edits that a calm toolbox must accept promptly."""
    lost_status: bool = False
    changed: dict[str, float] = field(default_factory=dict)
    """Server → when people last changed it."""
    _drawn: dict[tuple[object, ...], tuple[object, Rendered]] = field(default_factory=dict)
    """With each the spec, so that its id stays its own."""
    _wanted: dict[tuple[object, ...], frozenset[str]] = field(default_factory=dict)
    restless: set[str] = field(default_factory=set)
    """Servers that once ran a version which serves for a while and crashes: with it there is no rest."""
    wiped: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.rng = Random(self.schedule.seed)
        self.deeds = Deeds(self)
        self.loop = asyncio.get_running_loop()
        self.clock = VirtualClock()
        for name in self.schedule.boxes:
            self.boxes[name] = FakeToolbox(name, images=IMAGES, changed=self._host_changed)
        never_twice = frozenset(n for n, (kind, _) in self.schedule.servers.items() if kind in ONE_AT_A_TIME)
        self.oracles = Oracles(self.boxes, never_twice, frozenset({"s3cr3t-one", "s3cr3t-two"}))
        self.store = WatchedStore(self.clock, self.oracles, self._is_of_its_generation)

    # Attributes that dataclass slots need to know.
    rng: Random = field(init=False)
    loop: asyncio.AbstractEventLoop = field(init=False)
    clock: VirtualClock = field(init=False)
    store: WatchedStore = field(init=False)
    oracles: Oracles = field(init=False)
    deeds: Deeds = field(init=False)

    def _host_changed(self, toolbox: FakeToolbox) -> None:
        self.oracles.host_changed(toolbox, self.loop.time())

    def note(self, text: str) -> None:
        """A line of the trace that a failing run prints."""
        self.trace.append(f"{self.loop.time():8.2f} {text}")

    async def play(self) -> None:
        """The whole run, up to the idle end."""
        await self._declare_everything()
        for number in range(1, self.schedule.operators + 1):
            self.supervisors.append(self.loop.create_task(self._supervise(str(number))))
        for deed in self.schedule.deeds:
            await asyncio.sleep(max(0.0, deed.at - self.loop.time()))
            await self.deeds.do(deed)
            if deed.what == "upgrade":
                await self._nothing_restarts()
            if self.oracles.found:
                return
        await asyncio.sleep(max(0.0, SETTLED + STORM - self.loop.time()))
        await self.deeds.calm_down()
        await asyncio.sleep(QUIET)
        self.note("--- at rest")
        if not self.oracles.found:
            await self._idle()

    async def _nothing_restarts(self) -> None:
        """Law 12, where nothing else happens for a while."""
        before = len(self.oracles.accepted)
        await asyncio.sleep(SETTLED - 1.0)
        for _, box, verb, container in self.oracles.accepted[before:]:
            self.oracles.violated(12, f"an upgrade made the operator {verb} {container} on {box}")

    def removing(self, box: FakeToolbox, name: str, container_id: str) -> None:
        """Law 3 once more: nobody removes what serves and is wanted just so."""
        found = box.containers.get(name)
        if found is None or not found.serving or found.container_id != container_id:
            return
        server = self.store._objects.get(Key("MCPServer", *found.key))
        changed = self.changed.get(found.request.server, 0.0)
        if not isinstance(server, MCPServer) or server.metadata.deletion_timestamp is not None:
            return
        wanted = server.spec.running and found.request.hash in self.hashes(server)
        at_home = server.spec.toolbox_ref in (None, box.name)
        untouched = found.live == expected(found.instance)
        if wanted and at_home and untouched and self.loop.time() - changed > 20.0:
            self.oracles.violated(3, f"removes {name} on {box.name}, which serves and is wanted")

    def hashes(self, server: MCPServer, *secrets: str) -> frozenset[str]:
        """The hashes of what is wanted, under every renderer; with the secret as it is now, or as it ever was."""
        found: set[str] = set()
        for value in secrets or (self.secret,):
            versions = {
                f"{name}/{key}": digest(DIGEST_KEY, "default", name, key, value)
                for name, key in secret_uses(server.spec)
            }
            drawn = self.planner().render(server, installation=INSTALLATION, secrets=versions)
            found |= set(drawn.hashes.values())
        return frozenset(found)

    def _is_of_its_generation(self, server: MCPServer) -> None:
        """Law 7: who says that a generation is ready has seen a container of just that generation."""
        ready = find(server.status.conditions, "Ready")
        if ready is None or ready.status != "True" or ready.reason != "Available":
            return
        token = (
            server.metadata.uid,
            server.metadata.generation,
            server.metadata.annotations.get(RESTARTED_AT),
        )
        if (known := self._wanted.get(token)) is None:
            known = self._wanted[token] = self.hashes(server, "s3cr3t-one", "s3cr3t-two")
        if server.status.container.rpartition("_")[2] not in map(hash8, known):
            self.oracles.violated(7, f"{server.key} is said to be Ready with a version that is not wanted")

    async def stop(self) -> None:
        """End all processes."""
        self.over = True
        for process in self.processes.values():
            process.crash()
        for ended in await asyncio.gather(*self.supervisors, return_exceptions=True):
            if isinstance(ended, Exception):
                self.oracles.violated(5, f"the simulation itself broke: {ended!r}")

    async def _declare_everything(self) -> None:
        self.store.put_secret("default", "creds", {"token": self.secret})
        for name in self.schedule.boxes:
            await self.store.apply(make_toolbox(name, labels={"pool": "a"}))
            box = self.boxes[name]
            box.add_stranger(f"someone-elses-{name}")
            other = make_server("plain0")
            instance = render(other, installation="other", secrets={}).instance
            assert instance is not None
            request = InstanceRequest("default", "plain0", "v1:sha256:0", "", instance)
            await box.create(await box.claim("other", 0), "tk_other_default_plain0_00000000", request)
        await asyncio.sleep(3.0)
        for name, (_, spec) in self.schedule.servers.items():
            await self.apply(name, spec)
            grant = AgentConnectionSpec(agent="agent", server_ref=name)
            await self.store.apply(AgentConnection(metadata=Metadata(name=name), spec=grant))
        self.remember()

    def remember(self) -> None:
        """The past that old listings show."""
        self.faults.history.append(tuple(self.store._objects.values()))

    async def apply(self, name: str, spec: Spec, **metadata: Any) -> None:
        """Somebody declares a server."""
        before = self.declared.get(name)
        self.declared[name], self.changed[name] = spec, self.loop.time()
        if spec["image"] == "img/late-crash:1":
            self.restless.add(name)
        if not await self._declare(name, spec, metadata):
            self.supervisors.append(self.loop.create_task(self._apply_when_gone(name)))
        if before is not None and before != spec and spec.get("toolbox_ref") in self.schedule.calm:
            self.edits.append((self.loop.time(), name))
        self.remember()

    async def _apply_when_gone(self, name: str) -> None:
        """What `kubectl replace` does: wait until the deleted object is gone, then create it."""
        while not self.over:
            await asyncio.sleep(1.0)
            spec = self.declared.get(name)
            if spec is None or await self._declare(name, spec, {}):
                self.remember()
                return

    async def _declare(self, name: str, spec: Spec, metadata: Mapping[str, Any]) -> bool:
        """Whether it could be declared: not while its former self is still being deleted."""
        try:
            stored = await self.store.apply(make_server(name, **metadata, **spec))
        except Conflict:
            return False
        return stored.metadata.deletion_timestamp is None

    # Processes.

    async def _supervise(self, name: str) -> None:
        """What systemd does: start the operator again whenever it ends."""
        while not self.over:
            self.incarnation += 1
            process = Process(f"{name}#{self.incarnation}")
            if self.incarnation == 1 and self.schedule.first is not None:
                process.armed.append(Armed(**self.schedule.first))
            self.processes[name] = process
            task = self.loop.create_task(self._operator(process).run())
            process.on_crash = partial(_cancel_soon, self.loop, task)
            self.note(f"{process.name} starts")
            try:
                await task
            except Fenced as fenced:
                self.note(f"{process.name} is fenced: {fenced}")
                process.alive = False
            except asyncio.CancelledError:
                self.note(f"{process.name} is dead")
            except BaseException as error:  # noqa: BLE001 - whatever an operator dies of is a finding
                self.oracles.violated(5, f"{process.name} broke: {error!r}")
                return
            await asyncio.sleep(self.rng.choice((0.2, 1.0, 5.0)))

    def _operator(self, process: Process) -> Operator:
        rng = Random(self.rng.random())
        store = self.subject.wrap_store(FaultyStore(self.store, process, self.faults, rng))
        telemetry = Telemetry(metrics=METRICS, actions=self, log=LogOfRun(self))
        return Operator(
            store,
            lambda toolbox: self._connect(toolbox, process, rng),
            FakeLease(self.office, process, unlucky=self.schedule.unlucky),
            policy=Policy(INSTALLATION),
            digest_key=DIGEST_KEY,
            clock=self.clock,
            rng=rng,
            planner=self.planner(),
            telemetry=telemetry,
            settings=OperatorSettings(resync=RESYNC, watch=WatchSettings()),
        )

    def _connect(self, toolbox: Toolbox, process: Process, rng: Random) -> ToolboxClient:
        client = Watching(self.boxes[toolbox.metadata.name], process, rng, self)
        self.clients.append(client)
        return self.subject.wrap(client)

    def record(self, action: Action) -> None:
        """The log of actions."""
        self.note(
            f"{action.toolbox} {action.action} {action.container} {action.outcome}: {action.because} {action.detail}"
        )
        self.oracles.said(f"{action.because} {action.detail}", "the log of actions")

    def planner(self) -> Planner:
        """What operators that start now decide with. Rendering is pure and slow: each spec is rendered once per run."""
        render: Any = self.subject.planner.render
        if self.upgraded:
            render = partial(render, renderers={**RENDERERS, 2: _render_2})

        def rendered(server: MCPServer, **how: Any) -> Rendered:
            secrets = tuple(sorted(how["secrets"].items()))
            restart = server.metadata.annotations.get(RESTARTED_AT)
            features = how.get("node_features", frozenset())
            token = (server.key, id(server.spec), restart, secrets, features, self.upgraded)
            if token not in self._drawn:
                self._drawn[token] = (server.spec, render(server, **how))
            return self._drawn[token][1]

        return replace(self.subject.planner, render=cast("Any", rendered))

    def _restless(self) -> bool:
        """Whether something keeps a host busy for ever: a crash loop, an image that is not there."""
        images = {each.instance.image for box in self.boxes.values() for each in box.containers.values()}
        declared = {str(spec["image"]) for spec in self.declared.values() if spec is not None}
        return bool((images | declared) & {*BROKEN, "img/late-crash:1"})

    def _crashes(self, name: str) -> bool:
        """Whether the host restarts it for ever: its exit code comes and goes."""
        return any(each.restarts > 3 for box in self.boxes.values() for each in box.of("default", name))

    async def _idle(self) -> None:
        """Nothing happens, so nothing is written and nobody is called."""
        before, polls = dict(self.oracles.writes), dict(self.oracles.polls)
        await asyncio.sleep(IDLE)
        for what, count in self.oracles.writes.items():
            # An image that is not there is looked for every five minutes: that is not rest.
            spec = self.declared.get(what.partition(" ")[2])
            retried = spec is not None and (
                spec["image"] == "img/missing:1" or self._crashes(what.partition(" ")[2])
            )
            if count != before.get(what, 0) and not retried:
                self.oracles.violated(4, f"{count - before.get(what, 0)} × {what} although nothing happens")
        for name, box in self.boxes.items():
            made = self.oracles.polls[name] - polls.get(name, 0)
            if box.mood == "answers" and made > IDLE / 30.0 + 2 and not self._restless():
                self.oracles.violated(4, f"{made} polls of {name} within {IDLE:g} idle seconds")


def _cancel_soon(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    loop.call_soon(task.cancel)


def _render_2(server: MCPServer, installation: str, secrets: Mapping[str, str]) -> Instance:
    """What a future version of Toolkeeper may render: other defaults."""
    instance = RENDERERS[1](server, installation, secrets)
    return replace(instance, renderer=2, hardening=replace(instance.hardening, nofile=2048))


@dataclass(frozen=True, slots=True)
class Finding:
    """What a run came to."""

    schedule: Schedule
    violations: tuple[Violation, ...]
    trace: tuple[str, ...]
    processes: int
    """How many operator processes it took."""

    def __str__(self) -> str:
        told = "\n".join(f"  {each}" for each in self.violations[:5])
        return f"{told}\n\n{self.schedule}\n\n" + "\n".join(self.trace[-200:])
