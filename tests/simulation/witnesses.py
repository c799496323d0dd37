"""Where the oracles stand: between the operator and everything that it speaks to."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from simulation.oracles import Oracles
from toolkeeper.clock import Clock
from toolkeeper.errors import ToolkeeperError
from toolkeeper.planning.observed import Snapshot
from toolkeeper.reconcile.ports import Change, Claim, InstanceRequest, ProbeCredential, Resource
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.events import Event
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.stores.memory import MemoryStore
from toolkeeper.testing.fake_toolbox import FakeToolbox
from toolkeeper.testing.faults import FaultyClient, Process

if TYPE_CHECKING:
    from simulation.world import Run

T = TypeVar("T")


class Watched:
    """A toolbox under the eyes of the oracles, on the host's side of every fault."""

    def __init__(self, toolbox: FakeToolbox, process: Process, run: Run) -> None:
        self._toolbox, self._process, self._oracles = toolbox, process, run.oracles
        self._now = asyncio.get_running_loop().time

    async def _write(self, verb: str, name: str, call: Awaitable[T]) -> T:
        result = await call
        self._oracles.called(self._process.name, self._toolbox, verb, name, self._now())
        return result

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        return await self._toolbox.state(installation, since=since, wait=wait)

    async def claim(self, installation: str, expected_epoch: int) -> Claim:
        claim = await self._toolbox.claim(installation, expected_epoch)
        self._oracles.writer[self._toolbox.name] = self._process.name
        return claim

    async def create(self, claim: Claim, container: str, request: InstanceRequest) -> None:
        await self._write("create", container, self._toolbox.create(claim, container, request))

    async def start(self, claim: Claim, container: str) -> None:
        await self._write("start", container, self._toolbox.start(claim, container))

    async def stop(self, claim: Claim, container: str, *, drain: int) -> None:
        await self._write("stop", container, self._toolbox.stop(claim, container, drain=drain))

    async def restart(self, claim: Claim, container: str, *, run_id: str) -> None:
        await self._write("restart", container, self._toolbox.restart(claim, container, run_id=run_id))

    async def remove(self, claim: Claim, container: str, *, container_id: str, drain: int) -> None:
        call = self._toolbox.remove(claim, container, container_id=container_id, drain=drain)
        await self._write("remove", container, call)

    async def remove_volume(self, claim: Claim, volume: str) -> None:
        await self._write("remove-volume", volume, self._toolbox.remove_volume(claim, volume))

    async def give_credential(
        self, claim: Claim, container: str, credential: ProbeCredential, *, container_id: str
    ) -> None:
        call = self._toolbox.give_credential(claim, container, credential, container_id=container_id)
        await self._write("give-credential", container, call)

    async def take_credential(self, claim: Claim, container: str, *, container_id: str) -> None:
        call = self._toolbox.take_credential(claim, container, container_id=container_id)
        await self._write("take-credential", container, call)

    logs: Any = None

    async def aclose(self) -> None:
        """Nothing to give back."""


class Watching(FaultyClient):
    """A faulty client under the eyes of the oracles, on the operator's side of every fault."""

    def __init__(self, toolbox: FakeToolbox, process: Process, rng: Random, run: Run) -> None:
        super().__init__(Watched(toolbox, process, run), process, rng)
        self._box, self._run, self._name = toolbox, run, process.name
        self._now = asyncio.get_running_loop().time

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        self._run.oracles.polls[self._box.name] += 1
        try:
            snapshot = await super().state(installation, since=since, wait=wait)
        except (ToolkeeperError, TimeoutError):
            self._run.oracles.polled(self._name, self._box.name, None)
            raise
        self._run.oracles.polled(self._name, self._box.name, snapshot)
        return snapshot

    async def claim(self, installation: str, expected_epoch: int) -> Claim:
        await self._process.gate()
        leads = self._run.office.holder is self._process
        self._run.oracles.claiming(self._name, self._box.name, self._now(), leads=leads)
        return await super().claim(installation, expected_epoch)

    async def create(self, claim: Claim, container: str, request: InstanceRequest) -> None:
        self._calling("create", container)
        await super().create(claim, container, request)

    async def start(self, claim: Claim, container: str) -> None:
        self._calling("start", container)
        await super().start(claim, container)

    async def stop(self, claim: Claim, container: str, *, drain: int) -> None:
        self._calling("stop", container)
        await super().stop(claim, container, drain=drain)

    async def restart(self, claim: Claim, container: str, *, run_id: str) -> None:
        self._calling("restart", container)
        await super().restart(claim, container, run_id=run_id)

    async def remove(self, claim: Claim, container: str, *, container_id: str, drain: int) -> None:
        self._calling("remove", container)
        self._run.removing(self._box, container, container_id)
        await super().remove(claim, container, container_id=container_id, drain=drain)

    async def remove_volume(self, claim: Claim, volume: str) -> None:
        self._calling("remove-volume", volume)
        await super().remove_volume(claim, volume)

    async def give_credential(
        self, claim: Claim, container: str, credential: ProbeCredential, *, container_id: str
    ) -> None:
        self._calling("give-credential", container)
        await super().give_credential(claim, container, credential, container_id=container_id)

    async def take_credential(self, claim: Claim, container: str, *, container_id: str) -> None:
        self._calling("take-credential", container)
        await super().take_credential(claim, container, container_id=container_id)

    def _calling(self, verb: str, name: str) -> None:
        self._run.oracles.calling(self._name, self._box, verb, name, self._now())


class InOrder(dict[Any, None]):
    """A set that keeps its order."""

    def add(self, each: Any) -> None:
        self[each] = None


class WatchedStore(MemoryStore):
    """The true store, under the eyes of the oracles."""

    def __init__(self, clock: Clock, oracles: Oracles, judge: Callable[[MCPServer], None]) -> None:
        super().__init__(clock)
        self.oracles, self.judge, self.loop = oracles, judge, asyncio.get_running_loop()
        self._feed._watches = InOrder()  # type: ignore[assignment]  # told in the same order in every run

    async def write_status(self, resource: Resource) -> Resource:
        self.oracles.writes[f"status {resource.metadata.name}"] += 1
        before = self._objects.get(resource.key)
        stored = await super().write_status(resource)
        if stored is not before:
            self.oracles.wrote(stored, self.loop.time())
            if isinstance(stored, MCPServer):
                self.judge(stored)
        return stored

    async def set_finalizer(self, resource: Resource, *, present: bool) -> Resource:
        self.oracles.writes[f"finalizer {resource.metadata.name}"] += 1
        current = self._objects.get(resource.key)
        if not present and isinstance(current, MCPServer) and current.metadata.uid == resource.metadata.uid:
            self.oracles.releasing(current, self.loop.time())
        return await super().set_finalizer(resource, present=present)

    async def issue_token(self, connection: AgentConnection) -> bool:
        made = await super().issue_token(connection)
        self.oracles.writes[f"token {connection.metadata.name}"] += made
        return made

    async def emit(self, event: Event) -> None:
        self.oracles.writes[f"event {event.key.name}"] += 1
        self.oracles.said(event.message, f"event {event.reason}")
        await super().emit(event)

    def notify(self) -> None:
        """Something about the source changed."""
        self._feed.publish([Change(None)])

    def lose_status(self) -> None:
        """The status database is gone: statuses, finalizers, ids; what is declared is not."""
        for key, each in list(self._objects.items()):
            if each.metadata.deletion_timestamp is not None:
                self._forget(key)
                continue
            metadata = each.metadata.model_copy(
                update={
                    "uid": self._new_uid(),
                    "generation": 1,
                    "resource_version": self._next(),
                    "finalizers": (),
                }
            )
            fresh: Any = MCPServerStatus() if isinstance(each, MCPServer) else type(each.status)()
            self._put(each, each.model_copy(update={"metadata": metadata, "status": fresh}), edited=True)


class LogOfRun:
    """The operator's log: no secret in it, and no error that nobody expected."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def info(self, event: str, /, **keys: Any) -> None:
        self._run.oracles.said(f"{event} {keys}", "the log")

    debug = warning = info

    def error(self, event: str, /, **keys: Any) -> None:
        self.info(event, **keys)
        error = keys.get("exc_info")
        self._run.note("".join(traceback.format_exception(error)) if isinstance(error, Exception) else event)
        self._run.oracles.violated(11, f"{event}: {keys}")
