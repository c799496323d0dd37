"""Carrying out a plan: bounded parallelism per toolbox, order per server, time-outs, a breaker. No choices."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from toolkeeper.clock import Clock
from toolkeeper.errors import Conflict, Fenced, NotFound, NotReadyYet, Refused, ToolkeeperError
from toolkeeper.planning.plan import Step
from toolkeeper.reconcile.backoff import Backoff
from toolkeeper.reconcile.breaker import Breaker
from toolkeeper.reconcile.ports import Claim, InstanceRequest, ProbeCredential, ToolboxClient
from toolkeeper.resources.meta import Key

Result = Literal["accepted", "refused", "unreachable", "conflict", "fenced", "skipped"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one step."""

    step: Step
    result: Result
    reason: str = ""
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """The toolbox to act on, and what makes acting on it right."""

    key: Key
    client: ToolboxClient
    claim: Claim
    observed: Callable[[], bool]
    """Whether it is still observed: asked before every step, for nothing is done in the blind."""
    request: Callable[[Step], Awaitable[InstanceRequest]]
    """What a create sends, secrets included; kept by nobody."""
    credential: Callable[[Step], Awaitable[ProbeCredential]]
    """What a give-credential sends; kept by nobody either."""


@dataclass(frozen=True, slots=True)
class ExecutorSettings:
    """Bounds. Seconds throughout."""

    parallel: int = 4
    """Calls to one toolbox at a time."""
    patience: Mapping[str, float] = field(default_factory=dict)
    """Time-out per verb, where it is not `default_patience`."""
    default_patience: float = 15.0
    """Toolboxes answer at once and work in the background."""
    breaker: int = 3
    """Failures in a row that open a toolbox's breaker."""
    pause: Backoff = field(default_factory=lambda: Backoff(first=10.0, cap=60.0, floor=5.0))
    """How long it stays open."""


@dataclass(slots=True)
class _Run:
    target: Target
    slots: asyncio.Semaphore
    over: bool = False
    """Nobody answers there any more, or we may no longer ask."""


class Executor:
    """Makes the calls of a plan and says what came of each. Never raises for what a toolbox does."""

    def __init__(self, *, clock: Clock, rng: Random, settings: ExecutorSettings | None = None) -> None:
        self._clock, self._rng = clock, rng
        self._settings = settings or ExecutorSettings()
        self._breakers: dict[Key, Breaker] = {}

    def waits(self, toolbox: Key) -> float:
        """Seconds until the toolbox may be called again; 0 = now."""
        breaker = self._breakers.get(toolbox)
        return 0.0 if breaker is None else breaker.waits(self._clock.monotonic())

    def forget(self, toolbox: Key) -> None:
        """The toolbox is gone, or is another one now."""
        self._breakers.pop(toolbox, None)

    async def run(self, target: Target, steps: Sequence[Step]) -> tuple[Outcome, ...]:
        """All steps: those of one server in order until one fails, servers beside each other."""
        by_server: dict[Key, list[Step]] = {}
        for step in steps:
            by_server.setdefault(step.server, []).append(step)
        run = _Run(target, asyncio.Semaphore(self._settings.parallel))
        if len(by_server) == 1:
            return await self._in_order(run, steps)
        async with asyncio.TaskGroup() as group:
            lanes = [group.create_task(self._in_order(run, lane)) for lane in by_server.values()]
        return tuple(outcome for lane in lanes for outcome in lane.result())

    async def _in_order(self, run: _Run, steps: Sequence[Step]) -> tuple[Outcome, ...]:
        outcomes: list[Outcome] = []
        for step in steps:
            if outcomes and outcomes[-1].result != "accepted":
                outcomes.append(Outcome(step, "skipped", message="an earlier step of the same server failed"))
                continue
            async with run.slots:
                outcomes.append(await self._one(run, step))
        return tuple(outcomes)

    async def _one(self, run: _Run, step: Step) -> Outcome:
        target, began = run.target, self._clock.monotonic()
        if run.over or not target.observed() or not self._breaker(target.key).admits(began):
            return Outcome(step, "skipped", message="the toolbox does not answer")
        result, reason, message = await self._call(target, step)
        if result in {"unreachable", "fenced"}:
            run.over = True
        now, breaker = self._clock.monotonic(), self._breaker(target.key)
        if result == "unreachable":
            pause = self._settings.pause.delay(breaker.failures + 1, self._rng)
            self._breakers[target.key] = breaker.failed(now, pause)
        else:
            self._breakers[target.key] = breaker.succeeded()
        return Outcome(step, result, reason, message, now - began)

    def _breaker(self, toolbox: Key) -> Breaker:
        return self._breakers.get(toolbox, Breaker(self._settings.breaker))

    async def _call(self, target: Target, step: Step) -> tuple[Result, str, str]:
        patience = self._settings.patience.get(step.verb, self._settings.default_patience)
        try:
            async with asyncio.timeout(patience):
                await _send(target, step)
        except TimeoutError:
            return "unreachable", "ToolboxUnreachable", f"{step.verb} was not answered within {patience:g} s"
        except Fenced as exc:
            return "fenced", "Fenced", str(exc)
        except Refused as exc:
            return "refused", exc.reason, str(exc)
        except (Conflict, NotFound, NotReadyYet) as exc:
            return "conflict", type(exc).__name__, str(exc)
        except ToolkeeperError as exc:
            return "unreachable", getattr(exc, "reason", "ToolboxUnreachable"), str(exc)
        return "accepted", "", ""


async def _send(target: Target, step: Step) -> None:
    client, claim = target.client, target.claim
    match step.verb:
        case "create":
            await client.create(claim, step.container, await target.request(step))
        case "start":
            await client.start(claim, step.container)
        case "stop":
            await client.stop(claim, step.container, drain=step.drain)
        case "restart":
            await client.restart(claim, step.container, run_id=step.run_id)
        case "remove":
            await client.remove(claim, step.container, container_id=step.container_id, drain=step.drain)
        case "remove-volume":
            await client.remove_volume(claim, step.container)
        case "give-credential":
            credential = await target.credential(step)
            await client.give_credential(claim, step.container, credential, container_id=step.container_id)
        case "take-credential":
            await client.take_credential(claim, step.container, container_id=step.container_id)
