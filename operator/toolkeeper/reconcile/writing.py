"""Writing a decision down before it is acted upon: finalizers first, then every status that must be written now.

What could not be written is not done, and says so in the pass's notes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from toolkeeper.clock import Clock
from toolkeeper.errors import Conflict, NotFound, ToolkeeperError
from toolkeeper.planning.observed import Snapshot
from toolkeeper.planning.progress import is_progress
from toolkeeper.planning.world import Decision, World
from toolkeeper.reconcile.homes import Home
from toolkeeper.reconcile.inventory import Inventory
from toolkeeper.reconcile.ports import Resource, Store
from toolkeeper.reconcile.recorder import Recorder
from toolkeeper.reconcile.statuses import matters_to_connections
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox

LINGER_SECONDS = {"MCPServer": 1.0, "Toolbox": 2.0}
"""How long a status may wait that tells only how far something has come: most often it has come further by then. That
of a toolbox sums up what its servers said at once, so nobody waits for it."""
CONFLICT_SECONDS = 1.0
"""After which a pass whose write came too late is made again."""
SHORTEST_WAKE = 0.25
"""Seconds: looking again sooner would be polling."""


@dataclass(slots=True)
class Notes:
    """What happened to each server's writes in this pass."""

    newest: dict[Key, MCPServer | Toolbox] = field(default_factory=dict)
    """The versions that were decided on, and then those that we wrote over them."""
    dropped: set[Key] = field(default_factory=set)
    again_after: float | None = None
    """Seconds until what was left unsaid in this pass must be said."""
    relist: bool = False
    again: bool = False

    def drop(self, key: Key, error: ToolkeeperError) -> None:
        self.dropped.add(key)
        if isinstance(error, Conflict | NotFound):
            self.relist = True
            # The one who was faster may be our own pass over another toolbox; then a listing shows nothing new.
            self.again_after = min(self.again_after or CONFLICT_SECONDS, CONFLICT_SECONDS)
        else:
            self.again = True


@dataclass(slots=True, kw_only=True)
class Writing:
    """What a pass writes."""

    store: Store
    inventory: Inventory
    recorder: Recorder
    wrote: Callable[[Resource], None]
    """Called with each server whose status now says something else to those who are connected."""
    clock: Clock

    async def write(self, world: World, decision: Decision, home: Home, notes: Notes) -> None:
        """Every status that changes; and of every server that is acted upon, so that acting on an old version fails.

        What is to be held is held first: an object costs its store less as long as it has no status.
        """
        changing = self._urgent(world, decision, home, notes)
        acted_upon = {step.server for step in decision.plan.steps}
        notes.newest = _by_key(world)
        if held := _with_containers(world, decision):
            await _each(self._hold(key, notes) for key in (world.toolbox.key, *held))
        written = dict[Key, Resource](changing)
        written |= {
            key: each for key, each in notes.newest.items() if key in acted_upon and key not in changing
        }
        await _each(
            self._write_status(_over(notes.newest.get(key), each), notes)
            for key, each in written.items()
            if key not in notes.dropped
        )
        await _each(self._release(key, notes) for key in decision.released if key not in notes.dropped)

    def _urgent(
        self, world: World, decision: Decision, home: Home, notes: Notes
    ) -> dict[Key, MCPServer | Toolbox]:
        """The changed statuses that must be written now. What tells only of progress may wait for more of it."""
        now, before = self.clock.monotonic(), home.unsaid
        told = {event.key for event in decision.events} | {step.server for step in decision.plan.steps}
        old = _by_key(world)
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

    async def _write_status(self, resource: Resource, notes: Notes) -> None:
        before = notes.newest.get(resource.key, resource)
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

    async def _hold(self, key: Key, notes: Notes) -> None:
        """Our finalizer, before the first create, and where it was taken away: whatever is deleted is cleaned up."""
        resource = notes.newest[key]
        if resource.metadata.held or resource.metadata.deletion_timestamp is not None:
            return
        try:
            stored = await self.store.set_finalizer(resource, present=True)
        except ToolkeeperError as error:
            if isinstance(resource, MCPServer) or isinstance(error, Conflict | NotFound):
                notes.drop(key, error)
            else:  # nothing that is acted upon rests on that of the toolbox
                self.recorder.store_failed(f"hold {key}", error)
                notes.again = True
        else:
            self._keep(stored, resource, notes)

    async def _release(self, key: Key, notes: Notes) -> None:
        """Let go of the very version that was decided on: what has its name by now may be another one."""
        server = notes.newest[key]
        try:
            await self.store.set_finalizer(server, present=False)
        except ToolkeeperError as error:
            notes.drop(key, error)
        else:
            self.recorder.released(server)
            notes.relist = True

    def _keep(self, stored: Resource, before: Resource, notes: Notes) -> None:
        if isinstance(stored, MCPServer | Toolbox):
            notes.newest[stored.key] = stored
        if not self.inventory.put(stored, instead_of=before):
            notes.relist = True


def _by_key(world: World) -> dict[Key, MCPServer | Toolbox]:
    servers: dict[Key, MCPServer | Toolbox] = {each.server.key: each.server for each in world.servers}
    return servers | {world.toolbox.key: world.toolbox}


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
