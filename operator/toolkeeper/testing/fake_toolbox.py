"""A toolbox in memory: a small model of a node agent, over the Docker of `fake_docker`, in the event loop's own time.

It knows handshakes, epochs and revisions, and whose container is whose. The host can die, come back, come back wiped;
its Docker can go away under a living agent. What goes wrong between operator and
toolbox is not here: see `toolkeeper.testing.faults`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Literal

from toolkeeper.errors import Conflict, Fenced, NotFound, Refused, Unreachable
from toolkeeper.planning.observed import Snapshot
from toolkeeper.reconcile.ports import Claim, InstanceRequest, ProbeCredential
from toolkeeper.testing.builders import ENFORCED
from toolkeeper.testing.fake_container import WORK, FakeContainer, FakeImage
from toolkeeper.testing.fake_docker import PROBE_SECONDS, STOPPING_SECONDS, FakeDocker

__all__ = ["FakeContainer", "FakeImage", "FakeToolbox"]


class FakeToolbox(FakeDocker):
    """A host with its agent. Fits `reconcile.ports.ToolboxClient`."""

    def __init__(
        self,
        name: str = "box",
        *,
        images: Mapping[str, FakeImage] | None = None,
        changed: Callable[[FakeToolbox], None] | None = None,
        features: tuple[str, ...] = ENFORCED,
    ) -> None:
        super().__init__(name, images or {})
        self.features = features
        self.epochs: dict[str, int] = {}
        self.powered = True
        self.mood: Literal["answers", "refuses", "silent"] = "answers"
        """To whoever connects: the host is up, its port is closed, or packets vanish."""
        self._changed = changed
        self._boot = self._first_epoch = 1
        self._number = 0
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
        if run_id != found.run_id:
            raise Conflict(f"{container} is in run {found.run_id}, not {run_id}")
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
        if any(volume in each.volumes for each in self.containers.values()):
            raise Conflict(f"the volume {volume} is in use")
        if self.volumes.pop(volume, None) is not None:
            self._bump()

    async def give_credential(
        self, claim: Claim, container: str, credential: ProbeCredential, *, container_id: str
    ) -> None:
        """Probe that very container with it, soon and from then on."""
        self._lend(await self._held(claim, container, container_id, "give-credential"), credential)

    async def take_credential(self, claim: Claim, container: str, *, container_id: str) -> None:
        """Probe that very container without any."""
        await self._admit(claim)
        if container in self.containers:
            self._lend(await self._held(claim, container, container_id, "take-credential"), None)

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
            containers=tuple(each.report(self.name, self._loop.time()) for each in ours) if visible else (),
            foreign=foreign if visible else 0,
            capacity_memory=64 << 30,
            capacity_nano_cpus=64_000_000_000,
            epoch=self.epochs.get(installation, 0),
            volumes=tuple(sorted(v for v, owner in self.volumes.items() if owner == installation))
            if visible
            else (),
        )

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
            each.credential = None
            if each.state in WORK:
                each.life += 1
                del self.containers[each.name]
            elif each.state == "removing":
                self._gone(each)
            elif each.handshake is not None:
                each.handshake, each.probe_failures = None, 0
                self._later(each, PROBE_SECONDS, self._probe)
        self._bump()

    # Mechanics.

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

    async def _held(self, claim: Claim, name: str, container_id: str, verb: str) -> FakeContainer:
        await self._admit(claim)
        self._ours(name, claim, verb)
        found = self.containers.get(name)
        if found is None:
            raise NotFound(f"there is no container {name}")
        if container_id and container_id != found.container_id:
            raise Conflict(f"{name} is {found.container_id or 'not created yet'}, not {container_id}")
        return found

    def _lend(self, found: FakeContainer, credential: ProbeCredential | None) -> None:
        found.credential = credential
        if found.serving:
            self._later(found, PROBE_SECONDS, self._probe)
        self._bump()

    async def _found(self, claim: Claim, name: str, verb: str) -> FakeContainer:
        await self._admit(claim)
        self._ours(name, claim, verb)
        found = self._existing(name)
        if found is None:
            raise NotFound(f"there is no container {name}")
        return found


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
