from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import Any

from toolkeeper.errors import Conflict, Fenced, NotReadyYet, Refused, Unreachable
from toolkeeper.planning.plan import Step, Verb
from toolkeeper.reconcile.executor import Executor, ExecutorSettings, Outcome, Target
from toolkeeper.reconcile.ports import Claim, InstanceRequest, ProbeCredential
from toolkeeper.resources.meta import Key
from toolkeeper.testing.virtual import VirtualClock, in_virtual_time, never

BOX = Key("Toolbox", "default", "box")


def step(server: str, verb: Verb = "start", container: str = "") -> Step:
    return Step(verb, Key("MCPServer", "default", server), container or f"c-{server}", "a test wants it")


class Host:
    """Answers each call by the name of its container: with an error, after a while, or never."""

    def __init__(self, answers: Mapping[str, Exception | float | None] | None = None) -> None:
        self.answers = dict(answers or {})
        self.calls: list[tuple[str, str]] = []
        self.at_once = self.most_at_once = 0

    async def _answer(self, verb: str, container: str) -> None:
        self.calls.append((verb, container))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            answer = self.answers.get(container, 0.1)
            if answer is None:
                await never()
            elif isinstance(answer, Exception):
                raise answer
            else:
                await asyncio.sleep(answer)
        finally:
            self.at_once -= 1

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[None]]:
        async def call(claim: Claim, container: str, *_: object, **__: object) -> None:
            await self._answer(verb, container)

        return call


async def no_request(step: Step) -> InstanceRequest:
    raise NotReadyYet("there is nothing to create here")


async def no_credential(step: Step) -> ProbeCredential:
    raise NotReadyYet("there is nothing to give here")


def target(host: Any, observed: Callable[[], bool] = lambda: True) -> Target:
    return Target(BOX, host, Claim("test", 1), observed, no_request, no_credential)


def executor(**settings: Any) -> Executor:
    return Executor(clock=VirtualClock(), rng=Random(1), settings=ExecutorSettings(**settings))


def results(outcomes: tuple[Outcome, ...]) -> dict[str, str]:
    return {outcome.step.container: outcome.result for outcome in outcomes}


@in_virtual_time
async def test_steps_of_one_server_run_in_order_and_those_of_others_beside_them() -> None:
    host = Host()
    steps = [step("a", container="a1"), step("a", container="a2"), step("b", container="b1")]
    await executor().run(target(host), steps)
    assert [name for _, name in host.calls].index("a1") < [name for _, name in host.calls].index("a2")
    assert asyncio.get_running_loop().time() < 0.25


@in_virtual_time
async def test_a_toolbox_gets_only_so_many_calls_at_a_time() -> None:
    host = Host()
    await executor(parallel=4).run(target(host), [step(f"s{n}") for n in range(20)])
    assert host.most_at_once == 4
    assert len(host.calls) == 20


@in_virtual_time
async def test_after_a_failed_step_the_rest_of_that_server_is_skipped() -> None:
    host = Host({"a1": Refused("no", reason="NameConflict")})
    steps = [step("a", container="a1"), step("a", container="a2"), step("b", container="b1")]
    outcomes = await executor().run(target(host), steps)
    assert results(outcomes) == {"a1": "refused", "a2": "skipped", "b1": "accepted"}
    assert outcomes[0].reason == "NameConflict"


@in_virtual_time
async def test_when_nobody_answers_the_rest_is_left_alone() -> None:
    host = Host({f"c-s{n}": Unreachable("connection refused") for n in range(10)})
    outcomes = await executor(parallel=1).run(target(host), [step(f"s{n}") for n in range(10)])
    assert len(host.calls) == 1
    assert [outcome.result for outcome in outcomes] == ["unreachable"] + ["skipped"] * 9


@in_virtual_time
async def test_a_call_that_hangs_ends_at_its_time_out() -> None:
    outcomes = await executor(patience={"start": 3.0}).run(target(Host({"c-a": None})), [step("a")])
    assert results(outcomes) == {"c-a": "unreachable"}
    assert outcomes[0].seconds == 3.0


@in_virtual_time
async def test_a_version_that_is_no_longer_there_is_a_conflict_and_not_a_failure() -> None:
    outcomes = await executor().run(target(Host({"c-a": Conflict("another container")})), [step("a")])
    assert results(outcomes) == {"c-a": "conflict"}


@in_virtual_time
async def test_once_fenced_nothing_more_is_sent() -> None:
    host = Host({"c-s0": Fenced("a newer leader")})
    outcomes = await executor(parallel=1).run(target(host), [step(f"s{n}") for n in range(3)])
    assert [outcome.result for outcome in outcomes] == ["fenced", "skipped", "skipped"]
    assert len(host.calls) == 1


@in_virtual_time
async def test_nothing_is_done_to_a_toolbox_that_is_no_longer_observed() -> None:
    host = Host()
    outcomes = await executor().run(target(host, observed=lambda: False), [step("a")])
    assert results(outcomes) == {"c-a": "skipped"}
    assert host.calls == []


@in_virtual_time
async def test_a_toolbox_that_fails_again_and_again_is_left_alone_for_a_while() -> None:
    host = Host({"c-a": Unreachable("no route")})
    one = executor(breaker=3)
    for _ in range(5):
        await one.run(target(host), [step("a")])
    assert len(host.calls) == 3
    assert one.waits(BOX) > 0
    await asyncio.sleep(one.waits(BOX))
    host.answers = {}
    assert results(await one.run(target(host), [step("a")])) == {"c-a": "accepted"}
    assert one.waits(BOX) == 0.0


@in_virtual_time
async def test_a_secret_that_is_not_there_is_no_fault_of_the_toolbox() -> None:
    one = executor(breaker=1)
    outcomes = await one.run(target(Host()), [step("a", "create")])
    assert results(outcomes) == {"c-a": "conflict"}
    assert one.waits(BOX) == 0.0
