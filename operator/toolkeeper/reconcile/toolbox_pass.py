"""The pass over one toolbox: gather what is wanted, decide, write it down, act, and leave the rest to the next look.

World ─► decide ─► Decision ─► finalizers ─► statuses ─► calls ─► events
                               (memory first: what could not be written is not done)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from toolkeeper.clock import Clock
from toolkeeper.errors import Conflict, Fenced, NotFound, NotReadyYet, ToolkeeperError
from toolkeeper.planning.observed import Snapshot
from toolkeeper.planning.plan import Step
from toolkeeper.planning.progress import is_progress
from toolkeeper.planning.world import Decision, World
from toolkeeper.reconcile.executor import Executor, Outcome, Target
from toolkeeper.reconcile.gathering import Gathering
from toolkeeper.reconcile.homes import Home, Homes
from toolkeeper.reconcile.inventory import Inventory
from toolkeeper.reconcile.keyring import Keyring
from toolkeeper.reconcile.leadership import Leadership
from toolkeeper.reconcile.planner import Planner, decide_around
from toolkeeper.reconcile.ports import Claim, InstanceRequest, Resource, Store, ToolboxClient
from toolkeeper.reconcile.recorder import Recorder
from toolkeeper.reconcile.statuses import matters_to_connections
from toolkeeper.reconcile.tenancy import Tenancy
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import FINALIZER, Key
from toolkeeper.resources.toolbox import Toolbox

LINGER_SECONDS = {"MCPServer": 1.0, "Toolbox": 2.0}
"""How long a status may wait that tells only how far something has come: most often it has come further by then. That
of a toolbox sums up what its servers said at once, so nobody waits for it."""
REFUSAL_SECONDS = 300.0
"""How long a toolbox's refusal of a container is believed before it is asked again."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the loop does after a pass."""

    again: bool = False
    """Something failed on the way: try again after a back-off."""
    relist: bool = False
    """What we believe of the store is out of date."""
    after: float | None = None
    """Seconds after which time alone may decide otherwise."""


@dataclass(slots=True)
class _Notes:
    """What happened to each server's writes in this pass."""

    servers: dict[Key, MCPServer] = field(default_factory=dict)
    """The versions that were decided on, and then those that we wrote over them."""
    toolbox: Toolbox | None = None
    """The toolbox likewise, once it is held."""
    dropped: set[Key] = field(default_factory=set)
    again_after: float | None = None
    """Seconds until what was left unsaid in this pass must be said."""
    relist: bool = False
    again: bool = False

    def newest(self, key: Key) -> MCPServer | Toolbox | None:
        """The newest version of a resource of this pass that we know."""
        return self.servers.get(key) or (self.toolbox if self.toolbox and self.toolbox.key == key else None)

    def drop(self, key: Key, error: ToolkeeperError) -> None:
        self.dropped.add(key)
        if isinstance(error, Conflict | NotFound):
            self.relist = True
        else:
            self.again = True


@dataclass(slots=True, kw_only=True)
class ToolboxPass:
    """Everything that a pass needs; `run` is one pass."""

    store: Store
    inventory: Inventory
    homes: Homes
    gathering: Gathering
    planner: Planner
    keyring: Keyring
    executor: Executor
    leadership: Leadership
    tenancy: Tenancy
    recorder: Recorder
    relist: Callable[[], Awaitable[bool]]
    """Lists the store now; whether it shows everything."""
    wrote: Callable[[Resource], None]
    """Called with each server whose status now says something else to those who are connected."""
    clock: Clock

    async def run(self, key: Key) -> Result:
        """One pass. Raises Fenced when this process may no longer act."""
        home = self.homes.get(key)
        if home is None:
            return Result()
        relist, again_after = await self.tenancy.end(key)
        if relist or not await self.gathering.ready(key, home):
            return Result(relist=relist, after=again_after)
        world, broken = self.gathering.gather(self.inventory.toolboxes[key], home)
        observed_at = home.watch.observed_at
        decision, undecided = decide_around(self.planner.decide, world)
        for server, error in (*broken, *undecided):
            self.recorder.failed(server, error)
        self.recorder.decided(world, decision)
        home.orphans = decision.orphans
        notes = _Notes(again=bool(broken or undecided))
        await self._write(world, self._urgent(world, decision, home, notes), decision, notes)
        await self._act(world, decision, home, notes)
        for event in decision.events:
            if event.key not in notes.dropped:
                await self.store.emit(event)
                self.recorder.emitted(event)
        wakes = (again_after, notes.again_after, self._wake(key, home, decision, observed_at))
        after = min((each for each in wakes if each is not None), default=None)
        return Result(notes.again, notes.relist, after)

    # Writing it down.

    def _urgent(
        self, world: World, decision: Decision, home: Home, notes: _Notes
    ) -> dict[Key, MCPServer | Toolbox]:
        """The changed statuses that must be written now. What tells only of progress may wait for more of it."""
        now, before = self.clock.monotonic(), home.unsaid
        told = {event.key for event in decision.events} | {step.server for step in decision.plan.steps}
        old: dict[Key, MCPServer | Toolbox] = {each.server.key: each.server for each in world.servers}
        old[world.toolbox.key] = world.toolbox
        home.unsaid, urgent = {}, dict[Key, MCPServer | Toolbox]()
        changed: list[MCPServer | Toolbox] = list(decision.servers)
        if decision.toolbox is not None:
            changed.append(decision.toolbox)
        for each in changed:
            until = before.get(each.key, now + LINGER_SECONDS[each.kind])
            if each.key in told or now >= until or not is_progress(old[each.key], each):
                urgent[each.key] = each
            else:
                home.unsaid[each.key] = until
        if home.unsaid:
            notes.again_after = max(SHORTEST_WAKE, min(home.unsaid.values()) - now)
        return urgent

    async def _write(
        self,
        world: World,
        changing: dict[Key, MCPServer | Toolbox],
        decision: Decision,
        notes: _Notes,
    ) -> None:
        """Every status that changes; and of every server that is acted upon, so that acting on an old version fails.

        What is to be held is held first: an object costs its store less as long as it has no status.
        """
        acted_upon = {step.server for step in decision.plan.steps}
        notes.servers = {each.server.key: each.server for each in world.servers}
        if held := _with_containers(world, decision):
            await self._hold_toolbox(world.toolbox, notes)
            await _each(self._hold(key, notes) for key in held)
        written = dict[Key, Resource](changing)
        written |= {
            key: server for key, server in notes.servers.items() if key in acted_upon and key not in changing
        }
        await _each(
            self._write_status(_over(notes.newest(key), each), notes)
            for key, each in written.items()
            if key not in notes.dropped
        )
        await _each(self._release(key, notes) for key in decision.released if key not in notes.dropped)

    async def _write_status(self, resource: Resource, notes: _Notes) -> None:
        before = notes.servers.get(resource.key, resource)
        try:
            stored = await self.store.write_status(resource)
        except ToolkeeperError as error:
            notes.drop(resource.key, error)
            self.recorder.wrote(resource, error)
            return
        self._keep(stored, resource, notes)
        self.recorder.wrote(stored, None, before=before)
        if isinstance(stored, MCPServer) and matters_to_connections(before, stored):
            self.wrote(stored)

    async def _hold_toolbox(self, toolbox: Toolbox, notes: _Notes) -> None:
        try:
            notes.toolbox = await self.tenancy.begin(toolbox)
        except ToolkeeperError as error:
            notes.drop(toolbox.key, error)
        else:
            self._keep(notes.toolbox, toolbox, notes)

    async def _hold(self, key: Key, notes: _Notes) -> None:
        """Our finalizer, before the first create, and where it was taken away: whatever is deleted is cleaned up."""
        server = notes.servers[key]
        if FINALIZER in server.metadata.finalizers or server.metadata.deletion_timestamp is not None:
            return
        try:
            stored = await self.store.set_finalizer(server, present=True)
        except ToolkeeperError as error:
            notes.drop(key, error)
        else:
            self._keep(stored, server, notes)

    async def _release(self, key: Key, notes: _Notes) -> None:
        """Let go of the very version that was decided on: what has its name by now may be another one."""
        server = notes.servers[key]
        try:
            await self.store.set_finalizer(server, present=False)
        except ToolkeeperError as error:
            notes.drop(key, error)
        else:
            self.recorder.released(server)
            notes.relist = True

    def _keep(self, stored: Resource, before: Resource, notes: _Notes) -> None:
        if isinstance(stored, MCPServer):
            notes.servers[stored.key] = stored
        if not self.inventory.put(stored, instead_of=before):
            notes.relist = True

    # Acting.

    async def _act(self, world: World, decision: Decision, home: Home, notes: _Notes) -> None:
        snapshot, client, toolbox = world.observation, home.watch.client, world.toolbox
        if not isinstance(snapshot, Snapshot) or client is None or toolbox.spec.paused:
            return
        if self.executor.waits(toolbox.key) > 0 or not home.watch.settled:
            return
        claim = await self._claim(toolbox.key, client, snapshot, home, notes)
        steps = await self._admitted(world, decision, notes)
        if claim is None or not steps:
            return
        servers = {each.server.key: each.server for each in world.servers}

        async def request(step: Step) -> InstanceRequest:
            return await self._request(step, servers[step.server])

        with home.watch.acting():
            outcomes = await self.executor.run(
                Target(toolbox.key, client, claim, home.watch.answers, request), steps
            )
        for outcome in outcomes:
            self._conclude(toolbox.key, home, outcome, notes)

    async def _claim(
        self, toolbox: Key, client: ToolboxClient, snapshot: Snapshot, home: Home, notes: _Notes
    ) -> Claim | None:
        """The right to act. Asked for as soon as a toolbox is seen: from then on no former leader can write to it."""
        held = self.leadership.held(toolbox, snapshot)
        if held is not None:
            return held
        try:
            with home.watch.acting():
                claim = await self.leadership.claim(toolbox, client, snapshot)
        except Fenced:
            raise
        except (ToolkeeperError, TimeoutError) as error:
            self.recorder.claimed(toolbox, error)
            notes.again = notes.again or not isinstance(error, Conflict)
            return None
        self.recorder.claimed(toolbox, None)
        return claim

    async def _admitted(self, world: World, decision: Decision, notes: _Notes) -> Sequence[Step]:
        """The steps that may be taken: their memory is written, and an owner's absence was checked again just now."""
        steps = [step for step in decision.plan.steps if step.server not in notes.dropped]
        known = {each.server.key for each in world.servers}
        if all(step.server in known for step in steps):
            return steps
        sure = await self.relist()
        return [
            step
            for step in steps
            if step.server in known or (sure and self.inventory.get(step.server) is None)
        ]

    async def _request(self, step: Step, server: MCPServer) -> InstanceRequest:
        assert step.instance is not None, "a create without what to create"
        secrets = [each.secret for each in step.instance.env] + [each.secret for each in step.instance.files]
        expected = {f"{each.name}/{each.key}": each.version for each in secrets if each is not None}
        namespace, uses = server.metadata.namespace, self.gathering.uses(server)
        try:
            values = dict(await self.keyring.values(namespace, uses, expected))
        except NotReadyYet:
            raise
        except ToolkeeperError as exc:
            raise NotReadyYet(f"the secrets of {server.key} cannot be read: {exc}") from exc
        pull = server.spec.pull_secret_ref
        return InstanceRequest(
            namespace=namespace,
            server=server.metadata.name,
            hash=step.hash,
            uid=step.uid,
            instance=step.instance,
            secrets={name: value for name, value in values.items() if name in expected},
            registry_username=values.get(f"{pull}/username", ""),
            registry_password=values.get(f"{pull}/password", ""),
        )

    def _conclude(self, toolbox: Key, home: Home, outcome: Outcome, notes: _Notes) -> None:
        step = outcome.step
        self.recorder.acted(toolbox, outcome)
        if outcome.result == "refused" and step.verb == "create":
            until = self.clock.monotonic() + REFUSAL_SECONDS
            home.refusals[step.server] = (step.hash, outcome.reason, outcome.message, until)
        elif outcome.result in {"refused", "unreachable"} or (outcome.result, step.verb) == (
            "conflict",
            "create",
        ):
            notes.again = True

    def _wake(self, key: Key, home: Home, decision: Decision, observed_at: float) -> float | None:
        """When to decide again. What time alone decides about containers, it decides on a fresh look at them.

        Returns the seconds after which to decide without one, because nobody answers there.
        """
        now, waits = self.clock.monotonic(), self.executor.waits(key)
        after = decision.plan.wake_after
        times = [] if after is None else [max(SHORTEST_WAKE, after - (now - observed_at))]
        if waits > 0:
            times.append(waits)
        home.refusals = {key: known for key, known in home.refusals.items() if known[-1] > now}
        times += [until - now for *_, until in home.refusals.values()]
        wake = min(times, default=None)
        home.watch.wake(wake)
        return None if home.watch.answers() else wake


SHORTEST_WAKE = 0.25
"""Seconds: looking again sooner would be polling."""


def _with_containers(world: World, decision: Decision) -> set[Key]:
    """The servers of this pass that get a container now, or have one here: also one that an earlier operator made."""
    created = {step.server for step in decision.plan.steps if step.verb == "create"}
    there = world.observation.containers if isinstance(world.observation, Snapshot) else ()
    adopted = {Key("MCPServer", each.namespace, each.server) for each in there}
    return created | (adopted & {each.server.key for each in world.servers})


def _over(held: MCPServer | Toolbox | None, resource: Resource) -> Resource:
    """What is to be written, over the version that it has since it is held."""
    return resource if held is None else resource.model_copy(update={"metadata": held.metadata})


async def _each(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of them; beside each other, if there is more than one."""
    waiting = list(calls)
    if len(waiting) == 1:
        await waiting[0]
    elif waiting:
        async with asyncio.TaskGroup() as group:
            for call in waiting:
                group.create_task(call)
