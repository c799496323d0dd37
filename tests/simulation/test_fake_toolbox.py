from __future__ import annotations

import asyncio
from typing import Any

import pytest

from toolkeeper.errors import Conflict, Fenced, Refused, Unreachable
from toolkeeper.planning.desired import container_name
from toolkeeper.planning.observed import Container
from toolkeeper.reconcile.ports import Claim, InstanceRequest
from toolkeeper.testing.builders import make_server, rendered
from toolkeeper.testing.fake_toolbox import FakeImage, FakeToolbox
from toolkeeper.testing.virtual import in_virtual_time


class Stand:
    """A toolbox, a claim on it, and the container of one server."""

    def __init__(self, box: FakeToolbox, claim: Claim, request: InstanceRequest) -> None:
        self.box, self.claim, self.request = box, claim, request
        self.name = container_name("test", "default", request.server, request.hash)

    async def create(self) -> None:
        await self.box.create(self.claim, self.name, self.request)

    async def serving(self) -> Stand:
        await self.create()
        await asyncio.sleep(5.0)
        return self

    def seen(self) -> Container:
        (found,) = self.box.snapshot("test").containers
        return found


async def make_stand(image: FakeImage | None = None, **spec: Any) -> Stand:
    box = FakeToolbox(images={"registry.example/time:1": image or FakeImage()})
    claim = await box.claim("test", 0)
    drawn = rendered(make_server(**spec), installation="test")
    assert drawn.instance is not None
    return Stand(box, claim, InstanceRequest("default", "time", drawn.hash, "uid", drawn.instance))


@in_virtual_time
async def test_a_container_is_pulled_created_started_and_then_answers() -> None:
    stand = await make_stand(FakeImage(pull=2.0, start=1.0, handshake=3.0))
    await stand.create()
    states = []
    for _ in range(16):
        await asyncio.sleep(0.5)
        seen = stand.seen()
        states.append(f"{seen.state}{'+' if seen.handshake else ''}")
    assert list(dict.fromkeys(states)) == ["pulling", "created", "running", "running+"]


@in_virtual_time
async def test_creating_twice_makes_one_container() -> None:
    stand = await (await make_stand()).serving()
    before = stand.seen().container_id
    await stand.create()
    await asyncio.sleep(5.0)
    assert stand.seen().container_id == before


@in_virtual_time
async def test_a_long_poll_answers_at_the_next_change_or_at_its_end() -> None:
    stand, loop = await (await make_stand()).serving(), asyncio.get_running_loop()
    began = loop.time()
    await stand.box.state("test", since=stand.box.revision, wait=30.0)
    assert loop.time() - began == 30.0
    loop.call_later(4.0, stand.box.kill_process, stand.name)
    await stand.box.state("test", since=stand.box.revision, wait=30.0)
    assert loop.time() - began == 34.0


@in_virtual_time
async def test_a_crashing_process_is_restarted_by_docker_ever_more_slowly() -> None:
    stand = await (await make_stand(FakeImage(exits_after=0.1, exit_code=3))).serving()
    early = stand.seen().restarts
    await asyncio.sleep(60.0)
    assert stand.seen().exit_code in (3, None)
    assert early >= 4
    assert stand.seen().restarts <= early + 5


@in_virtual_time
async def test_what_was_stopped_by_hand_stays_stopped_even_after_a_reboot() -> None:
    stand = await (await make_stand()).serving()
    stand.box.stop_by_hand(stand.name)
    stand.box.die()
    stand.box.come_back()
    await asyncio.sleep(5.0)
    assert stand.seen().state == "exited"


@in_virtual_time
async def test_a_rebooted_host_runs_the_same_containers_in_another_run() -> None:
    stand = await (await make_stand()).serving()
    before = stand.seen()
    stand.box.die()
    stand.box.come_back()
    await asyncio.sleep(5.0)
    after = stand.seen()
    assert (after.container_id, after.state) == (before.container_id, "running")
    assert after.run_id != before.run_id


@in_virtual_time
async def test_a_restarted_agent_forgets_its_probes_and_asks_again() -> None:
    stand = await (await make_stand()).serving()
    stand.box.restart_agent()
    assert stand.seen().handshake is None
    await asyncio.sleep(1.0)
    assert stand.seen().handshake is not None


@in_virtual_time
async def test_an_older_claim_cannot_write() -> None:
    stand = await make_stand()
    await stand.box.claim("test", stand.claim.epoch)
    with pytest.raises(Fenced):
        await stand.create()


@in_virtual_time
async def test_a_claim_on_a_node_that_is_not_as_it_was_seen_is_refused() -> None:
    stand = await make_stand()
    with pytest.raises(Fenced):
        await stand.box.claim("test", 0)


@in_virtual_time
async def test_preconditions_are_checked() -> None:
    stand = await (await make_stand()).serving()
    with pytest.raises(Conflict):
        await stand.box.remove(stand.claim, stand.name, container_id="another", drain=0)
    with pytest.raises(Conflict):
        await stand.box.restart(stand.claim, stand.name, run_id="another")


@in_virtual_time
async def test_a_strangers_container_is_refused_and_the_attempt_recorded() -> None:
    stand = await make_stand()
    stranger = stand.box.add_stranger(stand.name)
    with pytest.raises(Refused):
        await stand.create()
    assert stranger.touched == ["create"]


@in_virtual_time
async def test_while_docker_is_down_containers_are_not_absent_but_unknown() -> None:
    stand = await (await make_stand()).serving()
    stand.box.docker_down()
    snapshot = await stand.box.state("test")
    assert not snapshot.runtime_ok
    with pytest.raises(Unreachable) as caught:
        await stand.create()
    assert caught.value.reason == "RuntimeUnavailable"


@in_virtual_time
async def test_a_volume_outlives_its_container_and_goes_only_when_unused() -> None:
    stand = await (await make_stand(volumes=[{"name": "data", "path": "/data"}])).serving()
    (volume,) = stand.box.volumes
    with pytest.raises(Conflict):
        await stand.box.remove_volume(stand.claim, volume)
    await stand.box.remove(stand.claim, stand.name, container_id="", drain=0)
    await asyncio.sleep(1.0)
    assert list(stand.box.volumes) == [volume]
    await stand.box.remove_volume(stand.claim, volume)
    assert not stand.box.volumes
