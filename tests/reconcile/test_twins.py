"""Two toolboxes that lead to one host: the older one counts, the other says so, and nothing else is disturbed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from reconcile.rig import Rig
from toolkeeper.planning.observed import Snapshot
from toolkeeper.resources.conditions import Condition, find
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.testing.builders import make_server, make_toolbox
from toolkeeper.testing.fake_toolbox import FakeToolbox
from toolkeeper.testing.virtual import in_virtual_time


async def reachable(rig: Rig, name: str) -> Condition:
    found = await rig.store.get(Key("Toolbox", "default", name))
    assert isinstance(found, Toolbox)
    condition = find(found.status.conditions, "Reachable")
    assert condition is not None
    return condition


@in_virtual_time
async def test_a_second_toolbox_of_a_host_does_not_end_the_operator() -> None:
    async with Rig().running(make_server()) as rig:
        await rig.store.apply(make_toolbox("twin"))
        await asyncio.sleep(600.0)
        assert await rig.is_ready()
        assert len(rig.serving()) == 1
        said = await reachable(rig, "twin")
        assert (said.status, said.reason) == ("False", "SameHost")
        assert "default/box" in said.message
        assert (await reachable(rig, "box")).status == "True"


@in_virtual_time
async def test_the_older_one_counts_whichever_answers_first() -> None:
    rig = Rig()
    await rig.store.apply(make_toolbox("zebra"))
    await asyncio.sleep(1.0)
    await rig.store.apply(make_toolbox("antelope"))
    await rig.store.apply(make_server(toolbox_ref="zebra"))
    running = asyncio.create_task(rig.operator.run())
    await asyncio.sleep(60.0)
    assert (await reachable(rig, "zebra")).status == "True"
    assert (await reachable(rig, "antelope")).reason == "SameHost"
    assert await rig.is_ready()
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@in_virtual_time
async def test_it_stays_so_while_the_host_is_away_and_starts_again() -> None:
    async with Rig().running(make_server()) as rig:
        await rig.store.apply(make_toolbox("twin"))
        await asyncio.sleep(30.0)
        for _ in range(5):
            rig.box.die()
            await asyncio.sleep(100.0)
            rig.box.come_back()
            await asyncio.sleep(100.0)
        assert await rig.is_ready()
        assert (await reachable(rig, "twin")).reason == "SameHost"


class SecondAgent(FakeToolbox):
    """Another node agent on the Docker of the first."""

    def __init__(self, first: FakeToolbox) -> None:
        super().__init__("second")
        self.first = first

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        seen = await self.first.state(installation, since=since.removeprefix("second-"), wait=wait)
        return replace(seen, revision=f"second-{seen.revision}", epoch=0)


@in_virtual_time
async def test_two_agents_of_one_docker_do_not_take_each_others_containers() -> None:
    async with Rig().running(make_server()) as rig:
        [before] = rig.box.of("default", "time")
        rig.boxes["http://127.0.0.1:30001"] = SecondAgent(rig.box)
        await rig.store.apply(make_toolbox("second", endpoint="http://127.0.0.1:30001"))
        await rig.store.apply(make_server("other", toolbox_ref="second"))
        await asyncio.sleep(600.0)
        said = await reachable(rig, "second")
        assert (said.status, said.reason) == ("False", "SameHost")
        assert "two node agents run on one Docker" in said.message
        assert (await reachable(rig, "box")).status == "True"
        assert rig.box.of("default", "time") == [before]
        assert rig.done("remove") == []


@in_virtual_time
async def test_a_toolbox_that_leads_elsewhere_now_counts() -> None:
    async with Rig().running() as rig:
        await rig.store.apply(make_toolbox("twin"))
        await asyncio.sleep(30.0)
        other = await rig.add_box("twin", "http://127.0.0.1:30001")
        await rig.store.apply(make_server(toolbox_ref="twin"))
        await asyncio.sleep(30.0)
        assert (await reachable(rig, "twin")).status == "True"
        assert len(other.of("default", "time")) == 1


@pytest.mark.parametrize("exclusive", [False, True])
@in_virtual_time
async def test_what_runs_stays_when_its_toolbox_turns_out_to_be_the_younger_one(exclusive: bool) -> None:
    rig = Rig()
    rig.boxes["http://127.0.0.1:30001"] = rig.box
    await rig.store.apply(make_toolbox("first", endpoint="http://127.0.0.1:39999"))  # leads nowhere yet
    await asyncio.sleep(1.0)
    async with rig.running(make_server(exclusive=exclusive)):
        [before] = rig.box.of("default", "time")
        await rig.store.apply(make_toolbox("first", endpoint="http://127.0.0.1:30001"))
        await asyncio.sleep(300.0)
        assert (await reachable(rig, "first")).status == "True"
        assert (await reachable(rig, "box")).reason == "SameHost"
        assert rig.box.of("default", "time") == [before]
        assert before.serving


@in_virtual_time
async def test_a_twin_keeps_no_server_from_being_placed() -> None:
    async with Rig().running() as rig:
        for name in ("box", "twin"):
            await rig.store.apply(make_toolbox(name, labels={"pool": "blue"}))
        await asyncio.sleep(30.0)
        await rig.store.apply(make_server(toolbox_selector={"pool": "blue"}))
        await asyncio.sleep(60.0)
        assert await rig.is_ready()
