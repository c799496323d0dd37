"""An operator with a store and toolboxes in memory, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from prometheus_client import CollectorRegistry

from toolkeeper.errors import Refused
from toolkeeper.planning.world import Decision, Policy, World
from toolkeeper.reconcile.operator import Operator
from toolkeeper.reconcile.planner import Planner
from toolkeeper.reconcile.ports import ToolboxClient
from toolkeeper.reconcile.recorder import Telemetry
from toolkeeper.resources.conditions import Condition, find
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.stores.memory import MemoryStore
from toolkeeper.telemetry.actions import Action
from toolkeeper.telemetry.metrics import OperatorMetrics
from toolkeeper.testing.builders import make_server, make_toolbox
from toolkeeper.testing.fake_toolbox import FakeImage, FakeToolbox
from toolkeeper.testing.faults import FakeLease, FaultyStore, LeaseOffice, Process, StoreFaults
from toolkeeper.testing.virtual import VirtualClock

NO_CA = "the certificate authority cannot be read"


class Rig:
    """Everything around one operator. Toolbox `box` exists from the start; others come with `add_box`."""

    def __init__(
        self,
        images: Mapping[str, FakeImage] | None = None,
        *,
        planner: Planner | None = None,
        faults: StoreFaults | None = None,
        former: Rig | None = None,
    ) -> None:
        """After a `former` one: the same store and toolboxes, another operator."""
        self.former = former
        self.clock: VirtualClock = former.clock if former is not None else VirtualClock()
        self.store: MemoryStore = former.store if former is not None else MemoryStore(self.clock)
        self.images = dict(images or {})
        self.boxes: dict[str, FakeToolbox] = {} if former is None else former.boxes
        self.connected: list[str] = []
        self.actions: list[Action] = []
        self.passes: list[tuple[World, Decision]] = []
        self.metrics = OperatorMetrics(CollectorRegistry())
        telemetry = Telemetry(metrics=self.metrics, actions=self, on_pass=self._on_pass)
        process = Process("test")
        self.operator = Operator(
            FaultyStore(self.store, process, faults or StoreFaults(), Random(1)),
            self._connect,
            FakeLease(LeaseOffice(), process),
            policy=Policy("test"),
            digest_key=b"key",
            clock=self.clock,
            rng=Random(1),
            planner=planner,
            telemetry=telemetry,
        )
        self.box: FakeToolbox = self._new_box("http://127.0.0.1:30000") if former is None else former.box

    def _new_box(self, endpoint: str) -> FakeToolbox:
        self.boxes[endpoint] = FakeToolbox(endpoint, images=self.images)
        return self.boxes[endpoint]

    async def add_box(self, name: str, endpoint: str, **spec: Any) -> FakeToolbox:
        await self.store.apply(make_toolbox(name, endpoint=endpoint, **spec))
        return self._new_box(endpoint)

    def _connect(self, toolbox: Toolbox) -> ToolboxClient:
        self.connected.append(toolbox.spec.endpoint)
        if toolbox.spec.endpoint not in self.boxes:
            raise Refused(NO_CA, reason="CertificateMismatch")
        return self.boxes[toolbox.spec.endpoint]

    def record(self, action: Action) -> None:
        self.actions.append(action)

    def _on_pass(self, world: World, decision: Decision) -> None:
        self.passes.append((world, decision))

    @asynccontextmanager
    async def running(self, *servers: MCPServer) -> AsyncIterator[Rig]:
        """With `box` and these servers declared, and the operator at work for ten seconds already."""
        if self.former is None:
            await self.store.apply(make_toolbox())
        for server in servers:
            await self.store.apply(server)
        task = asyncio.create_task(self.operator.run())
        try:
            await asyncio.sleep(10.0)
            yield self
            assert not task.done(), "the operator ended by itself"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def server(self, name: str = "time") -> MCPServer:
        found = await self.store.get(Key("MCPServer", "default", name))
        assert isinstance(found, MCPServer)
        return found

    async def condition(self, type: str, name: str = "time") -> Condition:
        found = find((await self.server(name)).status.conditions, type)
        assert found is not None, f"{name} has no condition {type}"
        return found

    async def is_ready(self, name: str = "time") -> bool:
        return (await self.condition("Ready", name)).status == "True"

    def serving(self, name: str = "time") -> list[str]:
        """The images of its containers on `box` that serve."""
        return [each.instance.image for each in self.box.of("default", name) if each.serving]

    def done(self, *verbs: str) -> Sequence[Action]:
        return [each for each in self.actions if each.action in verbs]

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


async def edit(rig: Rig, name: str = "time", **spec: Any) -> None:
    """Somebody declares the server anew."""
    await rig.store.apply(make_server(name, **spec))


def fast(server: MCPServer) -> MCPServer:
    """The server with short deadlines."""
    rollout = server.spec.rollout.model_copy(update={"deadline_seconds": 20})
    health = server.spec.health.model_copy(update={"startup_seconds": 15})
    return server.model_copy(
        update={"spec": server.spec.model_copy(update={"rollout": rollout, "health": health})}
    )
