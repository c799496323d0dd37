"""A toolbox in memory: a small model of a node agent and the Docker under it, in the event loop's own time.

It knows pulls, starts, handshakes, crashes, restart policies, volumes, epochs, and strangers who stop, remove or edit
containers by hand. The host can die, come back, come back wiped; its Docker can go away under a living agent.
What goes wrong between operator and toolbox is not here: see `toolkeeper.testing.faults`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from toolkeeper.errors import Conflict, Fenced, NotFound, Refused, Unreachable
from toolkeeper.planning.drift import expected
from toolkeeper.planning.instance import Instance
from toolkeeper.planning.observed import Container, DockerState, Handshake, Live, Snapshot
from toolkeeper.reconcile.ports import Claim, InstanceRequest
from toolkeeper.testing.builders import ENFORCED, make_handshake

WORK: frozenset[DockerState] = frozenset({"pending", "pulling", "building", "failed"})
"""States without a container: the agent's own notes, lost when it restarts."""
STOPPING_SECONDS = 0.2
PROBE_SECONDS = 0.2
RESTART_DELAYS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 60.0)
"""Docker doubles the pause before every restart of a crashing container, up to a minute."""
LONG_ENOUGH = 10.0
"""A run of so many seconds makes Docker forget earlier crashes."""


@dataclass(frozen=True, slots=True)
class FakeImage:
    """How containers of one image behave. Seconds throughout."""

    pull: float = 1.0
    start: float = 0.2
    handshake: float | None = 0.5
    """From start to the first answer; None = it never answers."""
    exits_after: float | None = None
    """It ends by itself so long after each start, with `exit_code`."""
    exit_code: int = 1
    missing: bool = False
    """The registry does not know it."""
    tools: tuple[str, ...] = ("echo",)


GOOD = FakeImage()


@dataclass(slots=True)
class FakeContainer:
    """One container, or the agent's work on one."""

    name: str
    installation: str
    request: InstanceRequest
    state: DockerState
    since: float
    container_id: str = ""
    run: int = 0
    restarts: int = 0
    crashes: int = 0
    exit_code: int | None = None
    error_reason: str = ""
    error: str = ""
    live: Live | None = None
    handshake: Handshake | None = None
    probe_failures: int = 0
    stopped_by_hand: bool = False
    life: int = 0
    """Counts changes of state; a timer of an earlier life does nothing."""

    @property
    def instance(self) -> Instance:
        return self.request.instance

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, server)."""
        return self.request.namespace, self.request.server

    @property
    def serving(self) -> bool:
        """Whether an agent that calls it now gets an answer."""
        return self.state == "running" and self.handshake is not None and self.handshake.ok


@dataclass(slots=True)
class Stranger:
    """A container that is none of ours. Any write to it is a crime, and recorded as one."""

    name: str
    touched: list[str] = field(default_factory=list)


class FakeToolbox:
    """A host with its agent. Fits `reconcile.ports.ToolboxClient`."""

    def __init__(
        self,
        name: str = "box",
        *,
        images: Mapping[str, FakeImage] | None = None,
        changed: Callable[[FakeToolbox], None] | None = None,
        features: tuple[str, ...] = ENFORCED,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.name, self.images, self.features = name, dict(images or {}), features
        self.containers: dict[str, FakeContainer] = {}
        self.strangers: dict[str, Stranger] = {}
        self.volumes: dict[str, str] = {}
        """Volume → installation."""
        self.epochs: dict[str, int] = {}
        self.pulled: set[str] = set()
        self.docker_ok = self.powered = True
        self.mood: Literal["answers", "refuses", "silent"] = "answers"
        """To whoever connects: the host is up, its port is closed, or packets vanish."""
        self._changed = changed
        self._boot = self._first_epoch = 1
        self._number = self._ids = 0
        self._waiting: list[asyncio.Future[None]] = []

    # What operators call.

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        """The state, as `ToolboxClient.state` promises."""
        await self._answer()
        if since == self.revision and wait > 0:
            woken = self._loop.create_future()
            self._waiting.append(woken)
            timer = self._loop.call_later(wait, _wake, woken)
            try:
                await woken
            finally:
                timer.cancel()
            await self._answer()
        return self.snapshot(installation)

    async def claim(self, installation: str, expected_epoch: int) -> Claim:
        """Grant the next epoch to whoever knows the present one."""
        await self._answer()
        present = self.epochs.get(installation, 0)
        if expected_epoch != present:
            raise Fenced(f"the epoch of {installation} is {present}, not {expected_epoch}")
        granted = self.epochs[installation] = present + 1 if present else self._first_epoch
        self._bump()
        return Claim(installation, granted)

    async def create(self, claim: Claim, container: str, request: InstanceRequest) -> None:
        """Pull, create and start in the background; what exists already stays as it is."""
        await self._admit(claim)
        self._ours(container, claim, "create")
        known = self.containers.get(container)
        if known is not None and known.state != "failed":
            return
        made = FakeContainer(container, claim.installation, request, "pending", self._loop.time())
        self.containers[container] = made
        self._later(made, 0.0, self._pull)
        self._bump()

    async def start(self, claim: Claim, container: str) -> None:
        """Start a stopped container."""
        found = await self._found(claim, container, "start")
        if found.state in {"created", "exited", "dead"}:
            self._start(found)

    async def stop(self, claim: Claim, container: str, *, drain: int) -> None:
        """Stop a running container for good."""
        found = await self._found(claim, container, "stop")
        found.stopped_by_hand = True
        if found.state in {"running", "restarting", "paused"}:
            self._later(found, min(drain, STOPPING_SECONDS), self._stopped)

    async def restart(self, claim: Claim, container: str, *, run_id: str) -> None:
        """Restart that very run."""
        found = await self._found(claim, container, "restart")
        if run_id != _run_id(found):
            raise Conflict(f"{container} is in run {_run_id(found)}, not {run_id}")
        self._start(found)

    async def remove(self, claim: Claim, container: str, *, container_id: str, drain: int) -> None:
        """Remove that very container, in the background."""
        await self._admit(claim)
        self._ours(container, claim, "remove")
        found = self.containers.get(container)
        if found is None or found.state == "removing":
            return
        if container_id and container_id != found.container_id:
            raise Conflict(f"{container} is {found.container_id or 'not created yet'}, not {container_id}")
        if found.state in WORK:
            self._gone(found)
        else:
            self._turn(found, "removing")
            self._later(found, min(drain, STOPPING_SECONDS), self._gone)

    async def remove_volume(self, claim: Claim, volume: str) -> None:
        """Remove a volume that no container uses."""
        await self._admit(claim)
        if self.volumes.get(volume, claim.installation) != claim.installation:
            raise Refused(f"the volume {volume} belongs to somebody else", reason="NotOurs")
        if any(volume in _volumes(each.instance) for each in self.containers.values()):
            raise Conflict(f"the volume {volume} is in use")
        if self.volumes.pop(volume, None) is not None:
            self._bump()

    async def logs(self, container: str, *, tail: int, follow: bool) -> AsyncIterator[str]:
        """One line that says whose log it is."""
        await self._answer()
        yield f"log of {container}"

    async def aclose(self) -> None:
        """Nothing to give back."""

    # What a test sees.

    @property
    def revision(self) -> str:
        return f"{self.name}-boot{self._boot}:{self._number}"

    def snapshot(self, installation: str) -> Snapshot:
        """What an operator of that installation is told."""
        ours = [each for each in self.containers.values() if each.installation == installation]
        foreign = len(self.strangers) + len(self.containers) - len(ours)
        visible = self.docker_ok
        return Snapshot(
            revision=self.revision,
            runtime="fake",
            runtime_ok=visible,
            runtime_message="" if visible else "Docker does not answer",
            agent_version="0",
            features=self.features,
            containers=tuple(self._report(each) for each in ours) if visible else (),
            foreign=foreign if visible else 0,
            capacity_memory=64 << 30,
            capacity_nano_cpus=64_000_000_000,
            epoch=self.epochs.get(installation, 0),
            volumes=tuple(sorted(v for v, owner in self.volumes.items() if owner == installation))
            if visible
            else (),
        )

    def of(self, namespace: str, server: str) -> list[FakeContainer]:
        """The containers of one server, whatever their state."""
        return [each for each in self.containers.values() if each.key == (namespace, server)]

    # What happens to hosts.

    def die(self, *, silently: bool = False) -> None:
        """The host is gone: nothing runs, nothing answers."""
        self.mood = "silent" if silently else "refuses"
        self.powered = False
        for each in self.containers.values():
            each.life += 1
        self._bump()

    def unplug(self, *, silently: bool = False) -> None:
        """The network is gone; containers go on."""
        self.mood = "silent" if silently else "refuses"
        self._wake_all()

    def plug(self) -> None:
        """The network is back."""
        self.mood = "answers"
        self._wake_all()

    def come_back(self, *, wiped: bool = False) -> None:
        """The host boots. Docker starts what it was told to keep running; wiped, it knows nothing at all."""
        if wiped:
            self.containers.clear()
            self.volumes.clear()
            self.epochs.clear()
            self.pulled.clear()
            self._first_epoch += 1000
        self.mood, self.powered, self.docker_ok = "answers", True, True
        self._restart_everything()
        self.restart_agent()

    def restart_agent(self) -> None:
        """The agent starts anew: its notes are gone, what labels say is not; nothing is probed yet."""
        self._boot += 1
        for each in list(self.containers.values()):
            if each.state in WORK:
                each.life += 1
                del self.containers[each.name]
            elif each.state == "removing":
                self._gone(each)
            elif each.handshake is not None:
                each.handshake, each.probe_failures = None, 0
                self._later(each, PROBE_SECONDS, self._probe)
        self._bump()

    def docker_down(self) -> None:
        """Docker stops answering under a living agent."""
        self.docker_ok = False
        self._bump()

    def docker_up(self) -> None:
        """Docker is back, and starts what it was told to keep running."""
        self.docker_ok = True
        self._restart_everything()
        self._bump()

    # What strangers do with `docker` in their hands.

    def add_stranger(self, name: str) -> Stranger:
        """A container that is none of ours."""
        self.strangers[name] = Stranger(name)
        self._bump()
        return self.strangers[name]

    def stop_by_hand(self, name: str) -> None:
        """docker stop"""
        if (found := self._existing(name)) is not None and found.state in {"running", "restarting"}:
            found.stopped_by_hand = True
            self._stopped(found)

    def remove_by_hand(self, name: str) -> None:
        """docker rm -f"""
        if (found := self._existing(name)) is not None:
            self._gone(found)

    def edit_by_hand(self, name: str, *, memory: int) -> None:
        """docker update --memory"""
        if (found := self._existing(name)) is not None and found.live is not None:
            found.live = replace(found.live, memory=memory)
            self._bump()

    def kill_process(self, name: str) -> None:
        """kill -9 of the server's process; Docker restarts it by its policy."""
        if (found := self._existing(name)) is not None and found.state == "running":
            self._exited(found, 137)

    def fall_ill(self, name: str, failures: int) -> None:
        """The server hangs: probes fail from now on."""
        if (found := self._existing(name)) is not None and found.serving:
            found.handshake = make_handshake(False, "Timeout", message="no answer")
            found.probe_failures = failures
            self._bump()

    # How containers live.

    def _pull(self, each: FakeContainer) -> None:
        image = self._image(each)
        source = _source(each.instance)
        if image.missing:
            each.error_reason, each.error = "ImageNotFound", f"{source} does not exist"
            self._turn(each, "failed")
        elif source in self.pulled:
            self._make(each)
        else:
            self._turn(each, "pulling" if each.instance.package is None else "building")
            self._later(each, image.pull, self._pull_done)

    def _pull_done(self, each: FakeContainer) -> None:
        self.pulled.add(_source(each.instance))
        self._make(each)

    def _make(self, each: FakeContainer) -> None:
        self._ids += 1
        each.container_id = f"{self.name}-{self._ids}"
        each.live = expected(each.instance)
        for volume in _volumes(each.instance):
            self.volumes.setdefault(volume, each.installation)
        self._turn(each, "created")
        self._later(each, self._image(each).start, self._start)

    def _start(self, each: FakeContainer) -> None:
        image = self._image(each)
        each.run += 1
        each.exit_code, each.handshake, each.stopped_by_hand = None, None, False
        each.probe_failures = 0
        self._turn(each, "running")
        if image.exits_after is not None:
            self._later(each, image.exits_after, self._ends)
        if image.handshake is None:
            self._later(each, PROBE_SECONDS, self._deaf)
        elif image.exits_after is None or image.handshake < image.exits_after:
            self._later(each, image.handshake, self._probe)

    def _probe(self, each: FakeContainer) -> None:
        image = self._image(each)
        if image.handshake is None:
            self._deaf(each)
            return
        each.handshake = make_handshake(tools=image.tools)
        self._bump()

    def _deaf(self, each: FakeContainer) -> None:
        each.handshake = make_handshake(ok=False)
        self._bump()

    def _ends(self, each: FakeContainer) -> None:
        self._exited(each, self._image(each).exit_code)

    def _exited(self, each: FakeContainer, code: int) -> None:
        lasted = self._loop.time() - each.since
        each.exit_code, each.handshake = code, None
        policy = each.instance.restart
        if policy == "Never" or (policy == "OnFailure" and code == 0) or each.stopped_by_hand:
            self._turn(each, "exited")
            return
        each.crashes = 1 if lasted >= LONG_ENOUGH else each.crashes + 1
        each.restarts += 1
        self._turn(each, "restarting")
        self._later(each, RESTART_DELAYS[min(each.crashes, len(RESTART_DELAYS)) - 1], self._start)

    def _stopped(self, each: FakeContainer) -> None:
        each.exit_code, each.handshake = 143, None
        self._turn(each, "exited")

    def _gone(self, each: FakeContainer) -> None:
        each.life += 1
        if self.containers.get(each.name) is each:
            del self.containers[each.name]
        self._bump()

    def _restart_everything(self) -> None:
        for each in self.containers.values():
            if each.state in {"running", "restarting", "paused"}:
                kept = each.instance.restart != "Never" and not each.stopped_by_hand
                self._start(each) if kept else self._stopped(each)
            elif each.state == "created":
                self._later(each, self._image(each).start, self._start)

    # Mechanics.

    def _turn(self, each: FakeContainer, state: DockerState) -> None:
        each.state, each.since = state, self._loop.time()
        each.life += 1
        self._bump()

    def _later(self, each: FakeContainer, delay: float, what: Callable[[FakeContainer], None]) -> None:
        self._loop.call_later(delay, self._if_still, each, each.life, what)

    def _if_still(self, each: FakeContainer, life: int, what: Callable[[FakeContainer], None]) -> None:
        if each.life == life and self.containers.get(each.name) is each:
            what(each)

    def _bump(self) -> None:
        self._number += 1
        if self._changed is not None:
            self._changed(self)
        self._wake_all()

    def _wake_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            _wake(each)

    async def _answer(self) -> None:
        while self.mood == "silent":
            woken = self._loop.create_future()
            self._waiting.append(woken)
            await woken
        if self.mood == "refuses":
            raise Unreachable(f"{self.name}: connection refused")

    async def _admit(self, claim: Claim) -> None:
        await self._answer()
        present = self.epochs.get(claim.installation, 0)
        if claim.epoch != present:
            raise Fenced(f"the epoch of {claim.installation} is {present}, not {claim.epoch}")
        if not self.docker_ok:
            raise Unreachable("Docker does not answer", reason="RuntimeUnavailable")

    def _ours(self, name: str, claim: Claim, verb: str) -> None:
        stranger = self.strangers.get(name)
        if stranger is not None:
            stranger.touched.append(verb)
            raise Refused(f"{name} exists and is not ours", reason="NameConflict")
        found = self.containers.get(name)
        if found is not None and found.installation != claim.installation:
            raise Refused(f"{name} belongs to {found.installation}", reason="NameConflict")

    async def _found(self, claim: Claim, name: str, verb: str) -> FakeContainer:
        await self._admit(claim)
        self._ours(name, claim, verb)
        found = self._existing(name)
        if found is None:
            raise NotFound(f"there is no container {name}")
        return found

    def _existing(self, name: str) -> FakeContainer | None:
        found = self.containers.get(name)
        return None if found is None or found.state in WORK else found

    def _image(self, each: FakeContainer) -> FakeImage:
        return self.images.get(_source(each.instance), GOOD)

    def _report(self, each: FakeContainer) -> Container:
        request, made = each.request, each.state not in WORK
        http = each.instance.transport != "stdio"
        return Container(
            name=each.name,
            installation=each.installation,
            namespace=request.namespace,
            server=request.server,
            hash=request.hash,
            renderer=each.instance.renderer,
            state=each.state,
            container_id=each.container_id,
            run_id=_run_id(each) if made else "",
            image=_source(each.instance),
            image_digest="sha256:" + "0" * 64 if made else "",
            age=self._loop.time() - each.since,
            restarts=each.restarts,
            exit_code=each.exit_code,
            progress="pulling" if each.state == "pulling" else "",
            error_reason=each.error_reason,
            error=each.error,
            last_log=("the last words",) if each.exit_code else (),
            address=f"http://{self.name}/{each.name}" if http and made else "",
            live=each.live if made else None,
            handshake=each.handshake,
            probe_failures=each.probe_failures,
            volumes=_volumes(each.instance),
        )


def _source(instance: Instance) -> str:
    package = instance.package
    return instance.image if package is None else f"{package.registry}:{package.name}@{package.version}"


def _volumes(instance: Instance) -> tuple[str, ...]:
    return tuple(each.volume for each in instance.volumes)


def _run_id(each: FakeContainer) -> str:
    return f"run-{each.run}" if each.run else ""


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
