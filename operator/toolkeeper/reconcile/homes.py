"""The toolboxes as the loop keeps them: a watch on each, who lives where, and who is to live where."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random

from toolkeeper.clock import Clock
from toolkeeper.planning.observed import Observation, Snapshot, Unreachable
from toolkeeper.planning.placement import Placement
from toolkeeper.planning.plan import Verb
from toolkeeper.planning.world import Policy
from toolkeeper.reconcile.backoff import Backoff
from toolkeeper.reconcile.inventory import Difference, Inventory
from toolkeeper.reconcile.observe import Watch, WatchSettings
from toolkeeper.reconcile.planner import Place
from toolkeeper.reconcile.ports import ToolboxClient
from toolkeeper.reconcile.repeats import Repeats
from toolkeeper.reconcile.twins import SAME_HOST, Twins
from toolkeeper.reconcile.workqueue import Priority
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox

PACE = 0.2
"""Seconds between placements that only follow what was seen, at least."""
SHARE = 10.0
"""And so many times as long as one takes."""
BROKEN = Backoff(first=5.0, cap=60.0, floor=1.0)


@dataclass(slots=True)
class Home:
    """One toolbox and what the loop remembers about it."""

    watch: Watch
    door: tuple[object, ...]
    """Where and how it is reached; a change of it means another host."""
    task: asyncio.Task[None] | None = None
    orphans: Mapping[str, float] = field(default_factory=dict)
    refusals: dict[tuple[Key, Verb], tuple[str, str, str, float]] = field(default_factory=dict)
    """Server and verb → (hash or version, reason, message, until): what it would not accept."""
    repeats: Repeats = field(default_factory=Repeats)
    unsaid: dict[Key, float] = field(default_factory=dict)
    """Server (or the toolbox) whose status tells less than is known, for it is only progress → until when."""
    residents: frozenset[Key] = frozenset()
    """Servers that it was last seen with."""
    facts: tuple[object, ...] = ()
    """What placement depends on."""

    def refused(self, server: Key, verb: Verb, version: str, now: float) -> tuple[str, str] | None:
        """Why the toolbox did not accept this version for it (reason, message), as long as that is believed."""
        known = self.refusals.get((server, verb))
        if known is None:
            return None
        refused_version, reason, message, until = known
        if refused_version != version or now >= until:
            del self.refusals[server, verb]
            return None
        return reason, message


@dataclass(slots=True, kw_only=True)
class Homes:
    """Every toolbox of the inventory."""

    inventory: Inventory
    place: Place
    policy: Policy
    connect: Callable[[Toolbox], ToolboxClient]
    concerns: Callable[[Key, Priority], None]
    """Called with each key that somebody should look after again."""
    broken: Callable[[Key, Exception], None]
    """Called when a watch ended with an error that nobody expected; it begins anew."""
    later: Callable[[float], None]
    """Called when `placements` should be asked again after so many seconds."""
    polled: Callable[[Key, str], None]
    """Called with the outcome of each poll."""
    clock: Clock
    rng: Random
    settings: WatchSettings
    tasks: asyncio.TaskGroup | None = None
    """Where the watches run."""
    _homes: dict[Key, Home] = field(default_factory=dict)
    _placements: Mapping[Key, Placement] = field(default_factory=dict)
    _assigned: dict[Key, set[Key]] = field(default_factory=dict)
    """Toolbox → servers that belong to it."""
    _stale: bool = True
    """What is declared has changed since."""
    _shifted: bool = False
    """What was seen has changed since: that can wait a little, for at a start it changes all the time."""
    _rested_at: float = 0.0
    _where: dict[Key, set[Key]] = field(default_factory=dict)
    """Server → toolboxes that were last seen with it."""
    _remembered: dict[Key, set[str]] = field(default_factory=dict)
    """Server → toolboxes that its status ever named."""
    _twins: Twins = field(init=False)

    def __post_init__(self) -> None:
        self._twins = Twins(age=self._age, look=self._look, clock=self.clock)

    def get(self, toolbox: Key) -> Home | None:
        """One of them, if it is known."""
        return self._homes.get(toolbox)

    def placements(self) -> Mapping[Key, Placement]:
        """Where each server belongs, by what is known now."""
        if self._stale or (self._shifted and self.clock.monotonic() >= self._rested_at):
            self._place_all()
        return self._placements

    def placement(self, server: Key) -> Placement | None:
        """Where one server belongs."""
        return self.placements().get(server)

    def servers_of(self, toolbox: Key) -> list[Key]:
        """The servers that belong to it or were last seen there, sorted."""
        self.placements()
        home = self._homes.get(toolbox)
        return sorted(
            self._assigned.get(toolbox, set()) | (home.residents if home is not None else frozenset())
        )

    def concerned_with(self, server: Key) -> list[Key]:
        """The toolbox that it belongs to and those that have something of it, sorted."""
        found = set(self._where.get(server, ()))
        placement = self.placement(server)
        if placement is not None and placement.toolbox is not None:
            found.add(placement.toolbox)
        return sorted(found)

    def is_twin(self, toolbox: Key) -> bool:
        """Whether an older toolbox leads to the same host; then nothing is known of this one."""
        return self._twins.is_one(toolbox)

    def last_seen(self, toolbox: Key) -> Snapshot | None:
        """What was last seen there, however long ago."""
        home = self._homes.get(toolbox)
        return None if home is None else home.watch.last_seen

    def may_live_elsewhere(self, server: MCPServer, toolbox: Key) -> bool:
        """Whether another toolbox was last seen with it, or was once named by its status and never seen since."""
        if self._where.get(server.key, frozenset()) - {toolbox}:
            return True
        return server.key in self._remembered and any(
            key != toolbox and home.watch.last_seen is None and self._is_remembered(server.key, key)
            for key, home in self._homes.items()
            if not self.is_twin(key)
        )

    def follow(self, difference: Difference) -> list[Key]:
        """The inventory changed. Returns the toolboxes that are gone, or are reached in another way now."""
        left: list[Key] = []
        for gone in difference.removed:
            if isinstance(gone, Toolbox):
                self._close(gone.key)
                left.append(gone.key)
            elif isinstance(gone, MCPServer):
                self._remembered.pop(gone.key, None)
        for each in difference.changed:
            if isinstance(each, Toolbox) and self._moved(each):
                self._close(each.key)
                self._open(each)
                left.append(each.key)
            elif isinstance(each, MCPServer) and each.status.toolbox:
                self._remembered.setdefault(each.key, set()).add(each.status.toolbox)
        if any(isinstance(each, Toolbox | MCPServer) for each in (*difference.changed, *difference.removed)):
            self._stale = True
        return left

    def _moved(self, toolbox: Toolbox) -> bool:
        home = self._homes.get(toolbox.key)
        return home is None or home.door != _door(toolbox)

    def _open(self, toolbox: Toolbox) -> None:
        assert self.tasks is not None, "the operator is not running"
        key = toolbox.key
        watch = Watch(
            lambda: self.connect(toolbox),
            self.policy.installation,
            lambda: self._changed(key),
            clock=self.clock,
            rng=self.rng,
            settings=self.settings,
            polled=lambda outcome: self.polled(key, outcome),
            accept=lambda snapshot: self._twins.accept(key, snapshot),
        )
        home = self._homes[key] = Home(watch, _door(toolbox))
        home.task = self.tasks.create_task(self._watch(key, watch))

    async def _watch(self, key: Key, watch: Watch) -> None:
        failures = 0
        while True:
            try:
                # Many toolboxes at once, as after a start, are not all called in the same moment.
                await watch.run(self.rng.uniform(0.0, self.settings.spread * 2.0 * (len(self._homes) - 1)))
            except Exception as error:  # noqa: BLE001 - the outermost turn: one toolbox must not stop the others
                failures += 1
                self.broken(key, error)
                await asyncio.sleep(BROKEN.delay(failures, self.rng))

    def _close(self, key: Key) -> None:
        home = self._homes.pop(key, None)
        if home is None:
            return
        self._settle(key, home, frozenset())
        self._twins.forget(key)
        self._stale = True
        if home.task is not None:
            home.task.cancel()

    def _changed(self, key: Key) -> None:
        """The watch of that toolbox has news."""
        home = self._homes[key]
        observation, before = home.watch.observation, home.residents
        if isinstance(observation, Snapshot) and observation.runtime_ok:
            here = (Key("MCPServer", each.namespace, each.server) for each in observation.containers)
            self._settle(key, home, frozenset(here))
        elif self.is_twin(key):
            self._settle(key, home, frozenset())
        facts = _facts(observation, home.residents)
        if facts != home.facts:
            home.facts, self._shifted = facts, True
            self.later(max(0.0, self._rested_at - self.clock.monotonic()))
        self.concerns(key, Priority.DRIFT)
        for server in sorted(before | home.residents):
            self._tell_others(server, key)

    def _settle(self, toolbox: Key, home: Home, residents: frozenset[Key]) -> None:
        for server in home.residents - residents:
            self._where[server].discard(toolbox)
            if not self._where[server]:
                del self._where[server]
        for server in residents - home.residents:
            self._where.setdefault(server, set()).add(toolbox)
        home.residents = residents

    def _tell_others(self, server: Key, toolbox: Key) -> None:
        """A server that lives, or is to live, on several toolboxes: what happens on one matters to the others."""
        placement = self.placements().get(server)
        if placement is not None and placement.toolbox == toolbox and len(self._where.get(server, ())) < 2:
            return  # it lives here and nowhere else
        for other in self.concerned_with(server):
            if other != toolbox:
                self.concerns(other, Priority.DRIFT)

    def _age(self, key: Key) -> tuple[bool, str]:
        toolbox = self.inventory.toolboxes.get(key)
        at = None if toolbox is None else toolbox.metadata.creation_timestamp
        return at is None, "" if at is None else at.isoformat()

    def _look(self, key: Key) -> None:
        if key in self._homes:
            self._homes[key].watch.wake(0.0)

    def _place_all(self) -> None:
        """Place every server; where that changes anything, it concerns the toolbox before and the one after."""
        began = self.clock.monotonic()
        self._stale = self._shifted = False
        before, self._placements = self._placements, self._placed()
        self._rested_at = began + max(PACE, SHARE * (self.clock.monotonic() - began))
        self._assigned = {}
        for key, placement in self._placements.items():
            if placement.toolbox is not None:
                self._assigned.setdefault(placement.toolbox, set()).add(key)
        for key, old in before.items():
            if old.toolbox is not None and self._placements.get(key) != old:
                self.concerns(old.toolbox, Priority.EDIT)
        for key, placement in self._placements.items():
            if before.get(key) != placement:
                self.concerns(key, Priority.EDIT)

    def _placed(self) -> Mapping[Key, Placement]:
        observations = {key: _held(home) for key, home in self._homes.items()}
        servers, toolboxes = self.inventory.servers.values(), self.inventory.toolboxes.values()
        return self.place(tuple(servers), tuple(toolboxes), observations, self.policy)

    def _is_remembered(self, server: Key, toolbox: Key) -> bool:
        return f"{toolbox.namespace}/{toolbox.name}" in self._remembered.get(server, ())


def _door(toolbox: Toolbox) -> tuple[object, ...]:
    spec = toolbox.spec
    return toolbox.metadata.uid, spec.endpoint, spec.agent, spec.token_ref, spec.tls


def _held(home: Home) -> Observation:
    """The observation for placement: a silent toolbox keeps what it was last seen with."""
    seen = home.watch.observation
    if isinstance(seen, Snapshot):
        if seen.runtime_ok:
            return seen
        seen = Unreachable("RuntimeUnavailable", seen.runtime_message)
    if home.watch.last_seen is None and seen.reason != SAME_HOST:
        return seen
    return replace(seen, held=frozenset((key.namespace, key.name) for key in home.residents))


def _facts(observation: Observation, residents: frozenset[Key]) -> tuple[object, ...]:
    if isinstance(observation, Snapshot):
        capacity = (observation.capacity_memory, observation.capacity_nano_cpus)
        return observation.runtime_ok, residents, capacity
    return observation.reason, residents
