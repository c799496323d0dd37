"""A runtime in memory, for tests of the node above it: as slow and as bad as it is told to be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

from toolkeeper.errors import Conflict, NotFound, Refused, Unreachable
from toolkeeper.node.runtime import ByteStream, Capacity, Seen, Sight, Step, Usage
from toolkeeper.planning.observed import Container, DockerState
from toolkeeper.reconcile.ports import InstanceRequest


class Nobody:
    """A stdio server that has gone."""

    async def send(self, chunk: bytes) -> None:
        raise Unreachable("nobody is there")

    async def receive(self) -> bytes:
        return b""


@dataclass(slots=True)
class FakeRuntime:
    """Fits `node.runtime.Runtime`. Nobody answers the handshake unless `address` is that of a real server."""

    name: Literal["docker", "process"] = "docker"
    features: frozenset[str] = frozenset({"memory", "network"})
    steps: tuple[tuple[DockerState, str], ...] = (("pulling", "50 %"), ("created", ""))
    """What a create reports, before each of which it passes `gate`."""
    refusal: Refused | None = None
    """A create fails with it after its last step."""
    down: bool = False
    """The daemon does not answer."""
    containers: dict[str, Seen] = field(default_factory=dict)
    volumes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    """The log of every container."""
    address: str = "http://127.0.0.1:9/mcp"
    """Of every HTTP container. Port 9 of the loopback is closed everywhere, so the prober finds nobody."""
    since: float | None = None
    """When every container started; None: now."""
    probe_interval: int = 15
    loopback: bool | None = None
    """What `listening_on_loopback` says."""
    calls: list[str] = field(default_factory=list)
    """What was done, in order: `create NAME`, `start NAME`, …; and every step as `step NAME STATE`."""
    looks: list[str] = field(default_factory=list)
    """The containers that were looked at one by one, in order."""
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Closed, it holds every create before its next step, and every stop, drain or removal."""
    holds: dict[str, asyncio.Event] = field(default_factory=dict)
    """State → what a create waits for before it goes on to that state."""
    creating: int = 0
    most_creating: int = 0
    """Creates that were past their first gate at the same time."""
    _queues: set[asyncio.Queue[str | None]] = field(default_factory=set)
    _ids: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    # What a test does to the host

    def change(self, name: str, **fields: object) -> None:
        """Somebody changed a container by hand."""
        seen = self.containers[name]
        self.containers[name] = replace(seen, container=replace(seen.container, **fields))  # type: ignore[arg-type]
        self._tell(name)

    def vanish(self, name: str) -> None:
        """Somebody removed a container by hand."""
        del self.containers[name]
        self._tell(name)

    def go_down(self) -> None:
        """The daemon stops answering."""
        self.down = True
        for queue in self._queues:
            queue.put_nowait(None)

    def come_up(self) -> None:
        """The daemon answers again."""
        self.down = False

    # What the node does

    async def open(self) -> None:
        self._answer()

    async def aclose(self) -> None:
        return None

    async def leave(self, installation: str) -> None:
        """Nothing was made beside the containers."""

    async def capacity(self) -> Capacity:
        return Capacity(64 << 30, 64_000_000_000)

    async def look(self) -> Sight:
        self._answer()
        return Sight(dict(self.containers), 0, dict(self.volumes))

    async def look_at(self, name: str) -> Seen | None:
        self._answer()
        self.looks.append(name)
        return self.containers.get(name)

    async def changes(self) -> AsyncIterator[str]:
        self._answer()
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield ""
            while True:
                name = await queue.get()
                queue.task_done()
                if name is None:
                    break
                yield name
        finally:
            self._queues.discard(queue)
        self._answer()

    async def create(self, name: str, installation: str, request: InstanceRequest, step: Step) -> None:
        self._answer()
        self.calls.append(f"create {name}")
        self.creating += 1
        self.most_creating = max(self.most_creating, self.creating)
        try:
            for state, text in self.steps:
                await self.gate.wait()
                if state in self.holds:
                    await self.holds[state].wait()
                step(state, text)
                self.calls.append(f"step {name} {state}")
            if self.refusal is not None:
                raise self.refusal
            await self.gate.wait()
            step("created", "starting")
        finally:
            self.creating -= 1
        self.containers[name] = self._made(name, installation, request)
        self._tell(name)
        for queue in tuple(self._queues):  # Docker, too, tells whoever listens before it answers
            await queue.join()

    async def start(self, name: str) -> None:
        self._run(name, "start", "running")

    async def stop(self, name: str, drain: int) -> None:
        await self.gate.wait()
        self._run(name, "stop", "exited")

    async def restart(self, name: str) -> None:
        self._run(name, "restart", "running")

    async def remove(self, name: str, drain: int) -> None:
        self._answer()
        await self.gate.wait()
        self.calls.append(f"remove {name}")
        self.containers.pop(name, None)
        self._tell(name)

    async def remove_volume(self, installation: str, volume: str) -> None:
        self._answer()
        if any(volume in seen.container.volumes for seen in self.containers.values()):
            raise Conflict(f"{volume} is in use")
        self.calls.append(f"remove-volume {volume}")
        self.volumes[installation] = tuple(
            each for each in self.volumes.get(installation, ()) if each != volume
        )

    async def logs(self, name: str, *, tail: int, follow: bool) -> AsyncIterator[str]:
        self._found(name)
        for line in self.lines[-tail:]:
            yield line

    async def usage(self, names: frozenset[str]) -> Mapping[str, Usage]:
        self._answer()
        return {name: Usage(0.5, 1 << 20, 1 << 29, 3) for name in names & self.containers.keys()}

    @asynccontextmanager
    async def attach(self, name: str) -> AsyncIterator[ByteStream]:
        self._found(name)
        yield Nobody()

    async def listening_on_loopback(self, name: str) -> bool | None:
        return self.loopback

    # How it is done

    def _answer(self) -> None:
        if self.down:
            raise Unreachable("the daemon does not answer", reason="RuntimeUnavailable")

    def _found(self, name: str) -> Seen:
        self._answer()
        if name not in self.containers:
            raise NotFound(f"there is no {name}")
        return self.containers[name]

    def _run(self, name: str, verb: str, state: DockerState) -> None:
        seen = self._found(name)
        self.calls.append(f"{verb} {name}")
        self._ids += 1
        container = replace(seen.container, state=state, run_id=f"run-{self._ids}")
        self.containers[name] = replace(seen, container=container)
        self._tell(name)

    def _made(self, name: str, installation: str, request: InstanceRequest) -> Seen:
        self._ids += 1
        container = Container(
            name=name,
            installation=installation,
            namespace=request.namespace,
            server=request.server,
            hash=request.hash,
            renderer=request.instance.renderer,
            state="running",
            container_id=f"id-{self._ids}",
            run_id=f"run-{self._ids}",
            image=request.instance.image,
            volumes=tuple(mount.volume for mount in request.instance.volumes),
        )
        address = self.address if request.instance.port else ""
        return Seen(
            replace(container, address=address),
            transport=request.instance.transport,
            since=self.since,
            probe_interval=self.probe_interval,
            port=request.instance.port,
            secrets=frozenset(request.secrets.values()),
        )

    def _tell(self, name: str) -> None:
        for queue in self._queues:
            queue.put_nowait(name)
