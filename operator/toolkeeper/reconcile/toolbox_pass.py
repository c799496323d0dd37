"""The pass over one toolbox: gather what is wanted, decide, write it down, act, and leave the rest to the next look.

World ─► decide ─► Decision ─► finalizers ─► statuses ─► calls ─► events
                               (memory first: what could not be written is not done)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from toolkeeper.clock import Clock
from toolkeeper.errors import Conflict, Fenced, NotReadyYet, ToolkeeperError
from toolkeeper.planning.desired import secret_uses
from toolkeeper.planning.observed import Snapshot
from toolkeeper.planning.plan import Step
from toolkeeper.planning.world import Decision, World
from toolkeeper.reconcile.executor import Executor, Outcome, Target
from toolkeeper.reconcile.gathering import Gathering
from toolkeeper.reconcile.homes import Home, Homes
from toolkeeper.reconcile.inventory import Inventory
from toolkeeper.reconcile.keyring import Keyring, Use
from toolkeeper.reconcile.leadership import Leadership
from toolkeeper.reconcile.planner import Planner, decide_around
from toolkeeper.reconcile.ports import Claim, InstanceRequest, ProbeCredential, Store, ToolboxClient
from toolkeeper.reconcile.recorder import Recorder
from toolkeeper.reconcile.tenancy import Tenancy
from toolkeeper.reconcile.writing import SHORTEST_WAKE, Notes, Writing
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key

REFUSAL_SECONDS = 300.0
"""How long a toolbox's refusal of a container or a credential is believed before it is asked again."""


@dataclass(frozen=True, slots=True)
class Result:
    """What the loop does after a pass."""

    again: bool = False
    """Something failed on the way: try again after a back-off."""
    relist: bool = False
    """What we believe of the store is out of date."""
    after: float | None = None
    """Seconds after which time alone may decide otherwise."""


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
    writing: Writing
    relist: Callable[[], Awaitable[bool]]
    """Lists the store now; whether it shows everything."""
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
        notes = Notes(again=bool(broken or undecided))
        await self.writing.write(world, decision, home, notes)
        await self._act(world, decision, home, notes)
        for event in decision.events:
            if event.key not in notes.dropped:
                await self.store.emit(event)
                self.recorder.emitted(event)
        wakes = (again_after, notes.again_after, self._wake(key, home, decision, observed_at))
        after = min((each for each in wakes if each is not None), default=None)
        return Result(notes.again, notes.relist, after)

    async def _act(self, world: World, decision: Decision, home: Home, notes: Notes) -> None:
        snapshot, client, toolbox = world.observation, home.watch.client, world.toolbox
        if not isinstance(snapshot, Snapshot) or client is None or toolbox.spec.paused:
            return
        if self.executor.waits(toolbox.key) > 0 or not home.watch.settled:
            return
        claim = await self._claim(toolbox.key, client, snapshot, home, notes)
        due = home.repeats.admitted(decision.plan.steps, self.clock.monotonic())
        steps = await self._admitted(world, due, notes)
        if claim is None or not steps:
            return
        servers = {each.server.key: each.server for each in world.servers}

        async def request(step: Step) -> InstanceRequest:
            return await self._request(step, servers[step.server])

        with home.watch.acting():
            target = Target(toolbox.key, client, claim, home.watch.answers, request, self._credential)
            outcomes = await self.executor.run(target, steps)
        for outcome in outcomes:
            self._conclude(toolbox.key, home, outcome, notes)

    async def _claim(
        self, toolbox: Key, client: ToolboxClient, snapshot: Snapshot, home: Home, notes: Notes
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

    async def _admitted(self, world: World, due: Sequence[Step], notes: Notes) -> Sequence[Step]:
        """The steps that may be taken: their memory is written, and an owner's absence was checked again just now."""
        steps = [step for step in due if step.server not in notes.dropped]
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
        namespace = server.metadata.namespace
        values = await self._values(step.server, secret_uses(server.spec), expected)
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

    async def _credential(self, step: Step) -> ProbeCredential:
        assert step.secret is not None, "a give-credential without what to give"
        name, key, version = step.secret.name, step.secret.key, step.secret.version
        values = await self._values(step.server, ((name, key),), {f"{name}/{key}": version})
        return ProbeCredential(version, values[f"{name}/{key}"])

    async def _values(
        self, server: Key, uses: Sequence[Use], expected: Mapping[str, str]
    ) -> Mapping[str, str]:
        try:
            return await self.keyring.values(server.namespace, uses, expected)
        except NotReadyYet:
            raise
        except ToolkeeperError as exc:
            raise NotReadyYet(f"the secrets of {server} cannot be read: {exc}") from exc

    def _conclude(self, toolbox: Key, home: Home, outcome: Outcome, notes: Notes) -> None:
        step = outcome.step
        self.recorder.acted(toolbox, outcome)
        if outcome.result in {"refused", "conflict"}:
            home.repeats.failed(step, outcome.message, self.clock.monotonic())
        if outcome.result == "refused" and step.version:
            until = self.clock.monotonic() + REFUSAL_SECONDS
            known = (step.version, outcome.reason, outcome.message, until)
            home.refusals[step.server, step.verb] = known
        elif outcome.result in {"refused", "unreachable"}:
            notes.again = True
        elif outcome.result == "conflict" and step.verb in {"create", "give-credential"}:
            notes.again = True  # a secret could not be read, perhaps: nothing on the host will tell

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
        if (pause := home.repeats.due(now)) is not None:
            times.append(pause)
        wake = min(times, default=None)
        home.watch.wake(wake)
        return None if home.watch.answers() else wake
