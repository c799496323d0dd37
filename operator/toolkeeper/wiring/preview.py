"""What the operator would do, found by letting it decide and nothing more: no store and no toolbox is written to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from toolkeeper.clock import SystemClock
from toolkeeper.planning.observed import Snapshot
from toolkeeper.planning.plan import Plan
from toolkeeper.planning.world import Decision, Policy, World
from toolkeeper.reconcile.operator import Operator
from toolkeeper.reconcile.ports import (
    Change,
    Claim,
    InstanceRequest,
    Listing,
    ProbeCredential,
    Resource,
    Secret,
    ToolboxClient,
)
from toolkeeper.reconcile.recorder import Telemetry
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.events import Event
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox

PATIENCE_SECONDS = 10.0


@dataclass(slots=True)
class Preview:
    """What came of it."""

    plans: dict[Key, Plan] = field(default_factory=dict)
    unseen: dict[Key, str] = field(default_factory=dict)
    """Toolbox → why nothing can be said about it."""
    unplaced: dict[Key, str] = field(default_factory=dict)
    """Server → why it belongs nowhere."""
    assumed: tuple[Key, ...] = ()
    """Toolboxes that do not exist yet and were taken as empty."""


class Shown(Protocol):
    """What a preview asks of a store."""

    async def list(self) -> Listing: ...
    async def secret(self, namespace: str, name: str) -> Secret: ...


async def preview(
    store: Shown,
    wanted: Sequence[Resource],
    connect: Callable[[Toolbox], ToolboxClient],
    *,
    installation: str,
    digest_key: bytes,
    allow_prune: bool = False,
) -> Preview:
    """Decide once for each toolbox, as if `wanted` had been applied. Raises Unreachable when the store is."""
    listing = _merged(await store.list(), wanted)
    listing, assumed = _with_assumed(listing)
    found = Preview(assumed=assumed)
    toolboxes = {each.key for each in listing.resources if isinstance(each, Toolbox)}
    complete = asyncio.Event()

    def decided(world: World, decision: Decision) -> None:
        key = world.toolbox.key
        if isinstance(world.observation, Snapshot):
            found.plans.setdefault(key, decision.plan)
        elif world.observation.reason != "NeverSeen":
            found.unseen.setdefault(key, world.observation.message)
        if toolboxes <= found.plans.keys() | found.unseen.keys():
            complete.set()

    frozen = _Frozen(store, listing, found)
    operator = Operator(
        frozen,
        lambda toolbox: _Empty() if toolbox.key in assumed else _ReadOnly(connect(toolbox)),
        _Leading(),
        policy=Policy(installation=installation, allow_prune=allow_prune),
        digest_key=digest_key,
        clock=SystemClock(),
        rng=random.Random(),  # noqa: S311 – jitter, not cryptography
        telemetry=Telemetry(on_pass=decided),
    )
    if toolboxes:
        await _until(operator, complete)
    for key in toolboxes - found.plans.keys() - found.unseen.keys():
        found.unseen[key] = f"it did not answer within {PATIENCE_SECONDS:g} s"
    return found


async def _until(operator: Operator, complete: asyncio.Event) -> None:
    running = asyncio.create_task(operator.run(), name="preview")
    waiting = asyncio.create_task(complete.wait())
    try:
        await asyncio.wait({running, waiting}, timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        # Servers that are placed nowhere are told after the toolboxes; give them their turn.
        await asyncio.sleep(0.1)
    finally:
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)


def _merged(listing: Listing, wanted: Sequence[Resource]) -> Listing:
    """The listing after an apply of these."""
    resources: dict[Key, Resource] = {each.key: each for each in listing.resources}
    for each in wanted:
        before = resources.get(each.key)
        metadata = each.metadata.model_copy(update={"uid": f"planned-{each.key.name}", "generation": 1})
        status = each.status
        if before is not None:
            changed = before.spec != each.spec
            metadata = before.metadata.model_copy(
                update={
                    "generation": before.metadata.generation + changed,
                    "labels": each.metadata.labels,
                    "annotations": each.metadata.annotations,
                }
            )
            status = before.status
        resources[each.key] = each.model_copy(update={"metadata": metadata, "status": status})
    return Listing(tuple(resources.values()), listing.complete, listing.problems, listing.revision)


def _with_assumed(listing: Listing) -> tuple[Listing, tuple[Key, ...]]:
    """With the toolbox `local` as an empty one where servers name it and nothing runs yet."""
    there = {each.key.name for each in listing.resources if isinstance(each, Toolbox)}
    named = {each.spec.toolbox_ref for each in listing.resources if isinstance(each, MCPServer)}
    if "local" not in named - there:
        return listing, ()
    local = Toolbox.model_validate(
        {
            "metadata": {"name": "local", "uid": "assumed", "resourceVersion": "1"},
            "spec": {"endpoint": "http://127.0.0.1:30000", "allowedNamespaces": ["*"]},
        }
    )
    return Listing((*listing.resources, local), listing.complete, listing.problems), (local.key,)


class _Frozen:
    """A store that shows one listing for ever and takes every write for granted."""

    def __init__(self, store: Shown, listing: Listing, found: Preview) -> None:
        self._store, self._listing, self._found = store, listing, found

    async def list(self) -> Listing:
        return self._listing

    async def watch(self) -> AsyncIterator[Change]:
        await asyncio.Event().wait()
        yield Change()

    async def write_status(self, resource: Resource) -> Resource:
        if isinstance(resource, MCPServer):
            placed = next((each for each in resource.status.conditions if each.type == "Placed"), None)
            if placed is not None and placed.status == "False":
                self._found.unplaced[resource.key] = f"{placed.reason}: {placed.message}"
        return resource

    async def set_finalizer(self, resource: Resource, *, present: bool) -> Resource:
        return resource

    async def secret(self, namespace: str, name: str) -> Secret:
        return await self._store.secret(namespace, name)

    async def issue_token(self, connection: AgentConnection) -> bool:
        return False

    async def emit(self, event: Event) -> None:
        """Nothing happened."""


class _ReadOnly:
    """A toolbox that is looked at. Every other call waits until the preview is over."""

    def __init__(self, client: ToolboxClient) -> None:
        self._client = client

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        return await self._client.state(installation, since=since, wait=wait)

    async def claim(self, installation: str, expected_epoch: int) -> Claim:
        return Claim(installation, expected_epoch)

    async def create(self, claim: Claim, container: str, request: InstanceRequest) -> None:
        await asyncio.Event().wait()

    async def start(self, claim: Claim, container: str) -> None:
        await asyncio.Event().wait()

    async def stop(self, claim: Claim, container: str, *, drain: int) -> None:
        await asyncio.Event().wait()

    async def restart(self, claim: Claim, container: str, *, run_id: str) -> None:
        await asyncio.Event().wait()

    async def remove(self, claim: Claim, container: str, *, container_id: str, drain: int) -> None:
        await asyncio.Event().wait()

    async def remove_volume(self, claim: Claim, volume: str) -> None:
        await asyncio.Event().wait()

    async def give_credential(
        self, claim: Claim, container: str, credential: ProbeCredential, *, container_id: str
    ) -> None:
        await asyncio.Event().wait()

    async def take_credential(self, claim: Claim, container: str, *, container_id: str) -> None:
        await asyncio.Event().wait()

    def logs(self, container: str, *, tail: int, follow: bool) -> AsyncIterator[str]:
        return self._client.logs(container, tail=tail, follow=follow)

    async def aclose(self) -> None:
        await self._client.aclose()


class _Empty(_ReadOnly):
    """A toolbox that does not exist yet, taken as one on which nothing runs."""

    def __init__(self) -> None:
        pass

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        if since:
            await asyncio.sleep(wait)
        return Snapshot("assumed:1", "docker")

    async def aclose(self) -> None:
        pass


class _Leading:
    """A lease for a process that writes nothing."""

    async def acquire(self) -> None:
        pass

    async def lost(self) -> None:
        await asyncio.Event().wait()

    async def release(self) -> None:
        pass


def documents(found: Preview) -> Mapping[str, object]:
    """The preview as `plan -o json` prints it. Values of secrets are nowhere in a plan."""
    return {
        "toolboxes": [
            {
                "toolbox": f"{key.namespace}/{key.name}",
                "steps": [
                    {
                        "verb": step.verb,
                        "container": step.container,
                        "server": f"{step.server.namespace}/{step.server.name}",
                        "because": step.because,
                    }
                    for step in plan.steps
                ],
            }
            for key, plan in sorted(found.plans.items())
        ],
        "unseen": {f"{key.namespace}/{key.name}": why for key, why in sorted(found.unseen.items())},
        "unplaced": {f"{key.namespace}/{key.name}": why for key, why in sorted(found.unplaced.items())},
    }
