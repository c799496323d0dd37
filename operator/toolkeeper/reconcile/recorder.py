"""What the loop tells people: metrics, the log of actions, log records. It decides nothing and never fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry

from toolkeeper.clock import Clock
from toolkeeper.errors import ToolkeeperError, Unreachable
from toolkeeper.planning.naming import installation_of
from toolkeeper.planning.observed import Snapshot
from toolkeeper.planning.world import Decision, World
from toolkeeper.reconcile.executor import Outcome
from toolkeeper.reconcile.inventory import Difference
from toolkeeper.reconcile.ports import Problem, Resource
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.conditions import find
from toolkeeper.resources.events import Event
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.telemetry.actions import Action, ActionLog, Nowhere
from toolkeeper.telemetry.logs import Log, Silent
from toolkeeper.telemetry.metrics import OperatorMetrics

PROBLEMS_AT_ONCE = 20
"""Pieces of the source that a log names one by one; a folder may hold thousands."""
OnPass = Callable[[World, Decision], None]
"""Called with every decision before it is carried out: what `up` and `get -w` draw."""


def _nobody(world: World, decision: Decision) -> None:
    """Nobody watches."""


@dataclass(slots=True)
class Telemetry:
    """Where the loop reports to."""

    metrics: OperatorMetrics = field(default_factory=lambda: OperatorMetrics(CollectorRegistry()))
    actions: ActionLog = field(default_factory=Nowhere)
    log: Log = field(default_factory=Silent)
    on_pass: OnPass = _nobody


class Recorder:
    """Turns what happens in the loop into figures and sentences."""

    def __init__(self, telemetry: Telemetry, clock: Clock, *, installation: str = "") -> None:
        self._metrics, self._actions, self._log = telemetry.metrics, telemetry.actions, telemetry.log
        self._on_pass, self._clock = telemetry.on_pass, clock
        self._since: dict[Key, tuple[int, float, bool]] = {}
        """Server → (generation, when its change was noticed, whether a host accepted it)."""
        self._problems: frozenset[str] = frozenset()
        self._rulers = {installation, ""}
        """Control planes of which somebody was told that they look after these servers, this one included."""
        self._fallen: set[Key] = set()
        """Servers that were as declared, and then were not, although nobody edited them."""

    # The store.

    def noticed(self, difference: Difference) -> None:
        """A listing was believed."""
        for each in difference.changed:
            if isinstance(each, MCPServer) and each.status.observed_generation != each.metadata.generation:
                self._edited(each.key, each.metadata.generation)
        for each in difference.removed:
            self._since.pop(each.key, None)
            self._fallen.discard(each.key)
        self._count_rulers(difference)
        if difference.changed or difference.removed:
            self._log.info("inventory", changed=len(difference.changed), removed=len(difference.removed))

    def _count_rulers(self, difference: Difference) -> None:
        for each in difference.changed:
            ruler = installation_of(each.status.container) if isinstance(each, MCPServer) else ""
            if ruler in self._rulers:
                continue
            self._rulers.add(ruler)
            self._log.warning(
                "another control plane deployed these servers: if it still runs, each of them runs twice; stop one, "
                "or let each watch namespaces of its own",
                installation_of_the_other=ruler,
                **_names(each.key),
            )

    def listed(self, problems: Sequence[Problem]) -> None:
        """These pieces of the source cannot be read."""
        self._metrics.problems.set(len(problems))
        now = {f"{each.source}: {each.message}" for each in problems}
        news = sorted(now - self._problems)
        for each in news[:PROBLEMS_AT_ONCE]:
            self._log.warning("source has a problem", problem=each)
        if len(news) > PROBLEMS_AT_ONCE:
            self._log.warning("source has more problems", more=len(news) - PROBLEMS_AT_ONCE)
        if self._problems and not now:
            self._log.info("source has no problem any more")
        self._problems = frozenset(now)

    def store_failed(self, what: str, error: BaseException) -> None:
        """The store did not answer."""
        self._log.warning("store", what=what, error=str(error))

    def wrote(
        self, resource: Resource, error: ToolkeeperError | None, *, before: Resource | None = None
    ) -> None:
        """A status was written, or not."""
        outcome = "written" if error is None else type(error).__name__.lower()
        self._metrics.status_writes.labels(resource.kind, outcome).inc()
        if error is not None:
            # A conflict is everyday: somebody else wrote. A store that does not answer is not.
            say = self._log.warning if isinstance(error, Unreachable) else self._log.info
            say("status not written", **_names(resource.key), outcome=outcome, error=str(error))
        elif isinstance(resource, MCPServer):
            self._ready(resource)
            if isinstance(before, MCPServer):
                self._rolled_out(before, resource)

    def emitted(self, event: Event) -> None:
        """An event was emitted."""
        self._metrics.events.labels(event.reason).inc()
        self._log.info("event", **_names(event.key), reason=event.reason, message=event.message)

    def issued(self, connection: AgentConnection) -> None:
        """An agent was given a token."""
        self._act("issue-token", connection.key, "its agent had none")

    def released(self, resource: MCPServer | Toolbox) -> None:
        """A deleted server or toolbox was let go."""
        self._act("release", resource.key, "nothing of it is left, or somebody gave up on it")

    # The host.

    def decided(self, world: World, decision: Decision) -> None:
        """A pass decided this."""
        reachable = isinstance(world.observation, Snapshot)
        self._metrics.reachable.labels(_slashed(world.toolbox.key)).set(1 if reachable else 0)
        before = {wanted.server.key: wanted.server for wanted in world.servers}
        for after in decision.servers:
            if _fell(before[after.key], after):
                self._fallen.add(after.key)
                self._metrics.drift_found.inc()
        self._on_pass(world, decision)

    def polled(self, toolbox: Key, outcome: str) -> None:
        """A toolbox was asked for its state."""
        self._metrics.requests.labels(_slashed(toolbox), "state", outcome).inc()

    def left(self, toolbox: Key) -> None:
        """A toolbox is no longer watched, or as another one from now on."""
        with suppress(KeyError):
            self._metrics.reachable.remove(_slashed(toolbox))

    def claimed(self, toolbox: Key, error: Exception | None) -> None:
        """A node was claimed, or not."""
        outcome = "accepted" if error is None else type(error).__name__.lower()
        self._metrics.requests.labels(_slashed(toolbox), "claim", outcome).inc()
        if error is None:
            self._act("claim", toolbox, "this operator leads")
        else:
            self._log.warning("claim", **_names(toolbox), error=str(error))

    def acted(self, toolbox: Key, outcome: Outcome) -> None:
        """A step was taken, or not."""
        step, now = outcome.step, self._clock.now()
        name = _slashed(toolbox)
        if outcome.result != "skipped":
            self._metrics.requests.labels(name, step.verb, outcome.result).inc()
            self._metrics.request_seconds.labels(step.verb).observe(outcome.seconds)
        if outcome.result == "accepted":
            self._accepted(outcome)
        action = Action(
            at=now,
            action=step.verb,
            kind=step.server.kind,
            namespace=step.server.namespace,
            name=step.server.name,
            because=step.because,
            toolbox=name,
            container=step.container,
            outcome="conflict" if outcome.result == "fenced" else outcome.result,
            detail=outcome.message,
            seconds=outcome.seconds,
        )
        self._actions.record(action)

    # The loop.

    def passed(self, key: Key, outcome: str, seconds: float, depth: int) -> None:
        """A key was worked on."""
        self._metrics.reconciles.labels(key.kind, outcome).inc()
        self._metrics.reconcile_seconds.labels(key.kind).observe(seconds)
        self._metrics.queue_depth.set(depth)

    def failed(self, key: Key, error: Exception) -> None:
        """A pass ended with an error that nobody expected."""
        self._log.error(
            "pass failed", **_names(key), error=f"{type(error).__name__}: {error}", exc_info=error
        )

    def leads(self, leader: bool) -> None:
        """Leadership began or ended."""
        self._metrics.leader.set(1 if leader else 0)
        self._log.info("leading" if leader else "no longer leading")

    def _edited(self, key: Key, generation: int) -> None:
        known = self._since.get(key)
        if known is None or known[0] != generation:
            self._since[key] = (generation, self._clock.monotonic(), False)

    def _accepted(self, outcome: Outcome) -> None:
        step = outcome.step
        if step.verb == "restart":
            self._metrics.restarts.labels("health").inc()
        if step.verb != "create":
            return
        known = self._since.get(step.server)
        if known is not None and not known[2]:
            self._metrics.to_accepted.observe(self._clock.monotonic() - known[1])
            self._since[step.server] = (known[0], known[1], True)

    def _ready(self, server: MCPServer) -> None:
        known = self._since.get(server.key)
        ready = find(server.status.conditions, "Ready")
        if ready is None or ready.status != "True":
            return
        if server.key in self._fallen:
            self._fallen.discard(server.key)
            self._metrics.drift_healed.inc()
        if known is None:
            return
        if ready.observed_generation == known[0]:
            self._metrics.to_ready.observe(self._clock.monotonic() - known[1])
            del self._since[server.key]

    def _rolled_out(self, before: MCPServer, after: MCPServer) -> None:
        """Each rollout that ended is a record of its own at the end of the history."""
        latest = after.status.history[-1:]
        if latest and latest != before.status.history[-1:]:
            self._metrics.deployments.labels(latest[0].outcome, latest[0].reason).inc()

    def _act(self, action: str, key: Key, because: str) -> None:
        self._actions.record(
            Action(
                at=self._clock.now(),
                action=action,
                kind=key.kind,
                namespace=key.namespace,
                name=key.name,
                because=because,
            )
        )


def _fell(before: MCPServer, after: MCPServer) -> bool:
    generation = after.metadata.generation
    was, now = find(before.status.conditions, "Ready"), find(after.status.conditions, "Ready")
    settled = was is not None and was.status == "True" and was.observed_generation == generation
    stands = now is not None and now.status == "True" and now.observed_generation == generation
    wanted = after.spec.running and after.metadata.deletion_timestamp is None
    return settled and wanted and not stands


def _slashed(key: Key) -> str:
    return f"{key.namespace}/{key.name}"


def _names(key: Key) -> dict[str, str]:
    return {"kind": key.kind, "namespace": key.namespace, "name": key.name}
