"""Operators that are broken on purpose, at least one per law. Each must be caught, or the laws are not watched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from simulation.world import Subject
from toolkeeper.errors import Fenced, NotFound, Unreachable
from toolkeeper.planning.decide import decide
from toolkeeper.planning.desired import Rendered, render
from toolkeeper.planning.observed import Snapshot
from toolkeeper.planning.plan import Step
from toolkeeper.planning.world import Decision, Wanted, World
from toolkeeper.reconcile.planner import Planner
from toolkeeper.reconcile.ports import Claim, Listing, Resource
from toolkeeper.resources.conditions import condition
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.testing.builders import make_handshake


def deciding(broken: Callable[[World], Decision]) -> Subject:
    """The real operator with another `decide`."""
    return Subject(planner=Planner(decide=broken))


# Law 1 ----------------------------------------------------------------------------------------------------------------


def keeps_the_old_one(world: World) -> Decision:
    """Never retires the version that was replaced."""
    return _without(decide(world), lambda step: "takes over" in step.because)


def forgets_exclusiveness(world: World) -> Decision:
    """Starts the next version beside the old one, whatever the spec says."""

    def careless(wanted: Wanted) -> Wanted:
        spec = wanted.server.spec.model_copy(update={"exclusive": False, "volumes": ()})
        return replace(wanted, server=wanted.server.model_copy(update={"spec": spec}), elsewhere=False)

    return decide(replace(world, servers=tuple(map(careless, world.servers))))


# Law 2 ----------------------------------------------------------------------------------------------------------------


def ignores_whose_it_is(world: World) -> Decision:
    """Names containers without the installation, so that those of another one are taken for its own."""
    decision = decide(world)
    steps = tuple(
        replace(step, container=step.container.replace("_test_", "_other_"), container_id="")
        for step in decision.plan.steps
    )
    return replace(decision, plan=replace(decision.plan, steps=steps))


# Law 3 ----------------------------------------------------------------------------------------------------------------


class TakesSilenceForEmptiness:
    """Believes that a host which does not answer has no containers."""

    def __init__(self, client: Any) -> None:
        self._client, self._epoch, self._count = client, 0, 0

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        try:
            snapshot: Snapshot = await self._client.state(installation, since=since, wait=wait)
        except Unreachable:
            await asyncio.sleep(1.0)
            self._count += 1
            return Snapshot(f"empty:{self._count}", "fake", epoch=self._epoch)
        self._epoch = snapshot.epoch
        return snapshot

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class TakesDockerForGranted:
    """Believes what is said about containers by an agent whose Docker does not answer."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        snapshot: Snapshot = await self._client.state(installation, since=since, wait=wait)
        return replace(snapshot, runtime_ok=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class BelievesPartialListings:
    """Concludes that what a partial listing does not show is gone."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def list(self) -> Listing:
        listing: Listing = await self._store.list()
        return replace(listing, complete=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class WritesOverWhateverIsThere:
    """Writes without saying which version it has read, so that nothing tells it how old that is."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def write_status(self, resource: Resource) -> Resource:
        try:
            present = await self._store._store.get(resource.key)
        except NotFound:
            return resource
        newest = resource.model_copy(update={"metadata": present.metadata})
        stored: Resource = await self._store.write_status(newest)
        return resource.model_copy(update={"status": stored.status})

    async def set_finalizer(self, resource: Resource, *, present: bool) -> Resource:
        try:
            newest = await self._store._store.get(resource.key)
        except NotFound:
            return resource
        await self._store.set_finalizer(newest, present=present)
        return resource

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


# Law 4 ----------------------------------------------------------------------------------------------------------------


def writes_every_time(world: World) -> Decision:
    """Says the same with other words in every pass."""
    decision = decide(world)
    servers = decision.servers or tuple(wanted.server for wanted in world.servers if wanted.assigned)
    return replace(
        decision, servers=tuple(_noted(each, f"looked at {world.clock:.3f} s") for each in servers)
    )


def _noted(server: MCPServer, message: str) -> MCPServer:
    kept = [each for each in server.status.conditions if each.type != "Seen"]
    status = server.status.model_copy(
        update={"conditions": (*kept, condition("Seen", True, "Seen", message))}
    )
    return server.model_copy(update={"status": status})


def acts_every_time(world: World) -> Decision:
    """Starts what runs already, to be sure."""
    decision = decide(world)
    seen = world.observation
    running = (
        [each for each in seen.containers if each.state == "running"] if isinstance(seen, Snapshot) else []
    )
    owned = {wanted.server.key: wanted for wanted in world.servers}
    steps = tuple(
        Step("start", key, each.name, "to be sure")
        for each in running
        for key in owned
        if (key.namespace, key.name) == (each.namespace, each.server)
    )
    return replace(decision, plan=replace(decision.plan, steps=(*decision.plan.steps, *steps)))


# Law 5 ----------------------------------------------------------------------------------------------------------------


def forgets_what_failed(world: World) -> Decision:
    """Does not remember that a version failed, and tries it again and again."""
    decision = decide(world)

    def forgetful(server: MCPServer) -> MCPServer:
        memory = server.status.memory.model_copy(update={"failed_hash": ""})
        return server.model_copy(update={"status": server.status.model_copy(update={"memory": memory})})

    return replace(decision, servers=tuple(map(forgetful, decision.servers)))


def never_repairs(world: World) -> Decision:
    """Creates what is new, and lets be what somebody stopped or edited."""
    return _without(decide(world), lambda step: step.verb == "start" or "edited" in step.because)


def gives_a_credential_once(world: World) -> Decision:
    """Never gives a probe another credential than its first, nor again to a node that has forgotten it."""
    decision = decide(world)
    created = {step.container for step in decision.plan.steps if step.verb == "create"}
    return _without(decision, lambda step: step.verb == "give-credential" and step.container not in created)


# Law 6 ----------------------------------------------------------------------------------------------------------------


def lets_go_early(world: World) -> Decision:
    """Drops the finalizer as soon as removal was asked for."""
    decision = decide(world)
    deleted = tuple(
        wanted.server.key
        for wanted in world.servers
        if wanted.assigned and wanted.server.metadata.deletion_timestamp is not None
    )
    return replace(decision, released=deleted)


def forgets_volumes(world: World) -> Decision:
    """Takes a removed container for the end of it."""

    def careless(wanted: Wanted) -> Wanted:
        spec = wanted.server.spec.model_copy(update={"reclaim": "Retain"})
        return replace(wanted, server=wanted.server.model_copy(update={"spec": spec}))

    return decide(replace(world, servers=tuple(map(careless, world.servers))))


# Law 7 ----------------------------------------------------------------------------------------------------------------


def trusts_a_running_process(world: World) -> Decision:
    """Takes *running* for *ready*."""
    seen = world.observation
    if not isinstance(seen, Snapshot):
        return decide(world)
    trusted = tuple(
        replace(each, handshake=make_handshake()) if each.state == "running" else each
        for each in seen.containers
    )
    return decide(replace(world, observation=replace(seen, containers=trusted)))


def never_takes_it_back(world: World) -> Decision:
    """Once Ready, a status stays Ready."""
    decision = decide(world)
    before = {wanted.server.key: wanted.server for wanted in world.servers}
    kept = tuple(each for each in decision.servers if not _was_ready(before[each.key]))
    return replace(decision, servers=kept)


def _was_ready(server: MCPServer) -> bool:
    return any(each.type == "Ready" and each.status == "True" for each in server.status.conditions)


# Law 10 ---------------------------------------------------------------------------------------------------------------


class IgnoresFencing:
    """When a newer leader has claimed a host, claims it back."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._claim: Claim | None = None

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        snapshot: Snapshot = await self._client.state(installation, since=since, wait=wait)
        return snapshot if self._claim is None else replace(snapshot, epoch=self._claim.epoch)

    async def claim(self, installation: str, expected_epoch: int) -> Claim:
        present = (await self._client.state(installation)).epoch
        claim: Claim = await self._client.claim(installation, present)
        self._claim = claim
        return claim

    def __getattr__(self, name: str) -> Any:
        return partial(self._insist, getattr(self._client, name))

    async def _insist(self, write: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        if not args or not isinstance(args[0], Claim):
            await write(*args, **kwargs)
            return
        try:
            await write(self._claim, *args[1:], **kwargs)
        except Fenced:
            await self.claim(args[0].installation, 0)
            await write(self._claim, *args[1:], **kwargs)


# Law 11 ---------------------------------------------------------------------------------------------------------------

_LOCKS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class OneAtATime:
    """Speaks to one toolbox after the other."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        if since:
            return await self._client.state(installation, since=since, wait=wait)  # type: ignore[no-any-return]
        async with _LOCKS.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            return await self._client.state(installation, since=since, wait=wait)  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


# Law 12 ---------------------------------------------------------------------------------------------------------------


def compares_with_the_newest(server: MCPServer, **how: Any) -> Rendered:
    """Takes a container that an older renderer made for an outdated one."""
    drawn: Rendered = render(server, **how)
    return replace(drawn, hashes=dict.fromkeys(drawn.hashes, drawn.hash))


def _without(decision: Decision, unwanted: Callable[[Step], bool]) -> Decision:
    steps = tuple(step for step in decision.plan.steps if not unwanted(step))
    return replace(decision, plan=replace(decision.plan, steps=steps))


@dataclass(frozen=True, slots=True)
class Mutant:
    """One of them, and the laws under which it may be caught."""

    laws: frozenset[int]
    subject: Subject = field(repr=False)


MUTANTS: Mapping[str, Mutant] = {
    "keeps the old one": Mutant(frozenset({1}), deciding(keeps_the_old_one)),
    "forgets exclusiveness": Mutant(frozenset({1}), deciding(forgets_exclusiveness)),
    "ignores whose it is": Mutant(frozenset({2}), deciding(ignores_whose_it_is)),
    "takes silence for emptiness": Mutant(frozenset({3}), Subject(wrap=TakesSilenceForEmptiness)),
    "takes Docker for granted": Mutant(frozenset({3}), Subject(wrap=TakesDockerForGranted)),
    "believes partial listings": Mutant(frozenset({3, 5}), Subject(wrap_store=BelievesPartialListings)),
    "writes over whatever is there": Mutant(
        frozenset({1, 3, 4, 5, 6, 7}), Subject(wrap_store=WritesOverWhateverIsThere)
    ),
    "writes every time": Mutant(frozenset({4}), deciding(writes_every_time)),
    "acts every time": Mutant(frozenset({4}), deciding(acts_every_time)),
    "forgets what failed": Mutant(frozenset({4, 5, 7}), deciding(forgets_what_failed)),
    "never repairs": Mutant(frozenset({5}), deciding(never_repairs)),
    "gives a credential once": Mutant(frozenset({5}), deciding(gives_a_credential_once)),
    "lets go early": Mutant(frozenset({6}), deciding(lets_go_early)),
    "forgets volumes": Mutant(frozenset({6}), deciding(forgets_volumes)),
    "trusts a running process": Mutant(frozenset({7}), deciding(trusts_a_running_process)),
    "never takes it back": Mutant(frozenset({7}), deciding(never_takes_it_back)),
    "ignores fencing": Mutant(frozenset({10}), Subject(wrap=IgnoresFencing)),
    "one toolbox at a time": Mutant(frozenset({11}), Subject(wrap=OneAtATime)),
    "compares with the newest": Mutant(
        frozenset({12}), Subject(planner=Planner(render=compares_with_the_newest))
    ),
}
