"""What `up` leaves behind at its end, and whether it says so."""

from __future__ import annotations

from toolkeeper.errors import Unreachable
from toolkeeper.reconcile.ports import Claim
from toolkeeper.testing.fake_toolbox import FakeToolbox
from toolkeeper.testing.nodes import INSTALLATION, container_of, request_of
from toolkeeper.testing.virtual import in_virtual_time
from toolkeeper.wiring.cleanup import remove_all

TIME = container_of("time")


async def with_a_server(box: FakeToolbox) -> FakeToolbox:
    claim = await box.claim(INSTALLATION, 0)
    await box.create(claim, TIME, request_of("time"))
    return box


@in_virtual_time
async def test_everything_is_removed() -> None:
    box = await with_a_server(FakeToolbox("here"))
    assert await remove_all(box, INSTALLATION, keep_volumes=frozenset()) == ""
    assert box.containers == {}


@in_virtual_time
async def test_a_host_whose_runtime_is_silent_is_not_called_clean() -> None:
    box = await with_a_server(FakeToolbox("here"))
    box.docker_down()
    left = await remove_all(box, INSTALLATION, keep_volumes=frozenset())
    assert "does not answer" in left
    assert TIME in box.containers


@in_virtual_time
async def test_a_volume_that_stays_is_named_with_the_cause() -> None:
    class Full(FakeToolbox):
        async def remove_volume(self, claim: Claim, volume: str) -> None:
            raise Unreachable("the disk is full")

    box = await with_a_server(Full("here"))
    box.volumes["tk_test_default_time_data"] = INSTALLATION
    left = await remove_all(box, INSTALLATION, keep_volumes=frozenset())
    assert left == "tk_test_default_time_data: the disk is full"
