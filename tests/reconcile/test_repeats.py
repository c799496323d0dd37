"""What a toolbox does not take is asked again, but not all the time, and people are told what stands in the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from reconcile.rig import Rig, edit
from toolkeeper.errors import Conflict, NotFound, Refused, ToolkeeperError
from toolkeeper.planning.plan import Step
from toolkeeper.reconcile.repeats import LONGEST, Repeats
from toolkeeper.resources.meta import Key
from toolkeeper.testing.builders import make_server
from toolkeeper.testing.fake_toolbox import FakeImage, FakeToolbox
from toolkeeper.testing.virtual import in_virtual_time

IMAGES = {"registry.example/time:1": FakeImage()}
ERRORS = {
    "refused": Refused("the toolbox says no", reason="Invalid"),
    "conflict": Conflict("somebody else uses it"),
}
TIME, OTHER = Key("MCPServer", "default", "time"), Key("MCPServer", "default", "other")


class Unwilling(FakeToolbox):
    """Does not do one thing, as long as there is an error."""

    verb = ""
    error: ToolkeeperError | None = None
    asked = 0

    def _will(self, verb: str) -> None:
        if verb == self.verb and self.error is not None:
            self.asked += 1
            raise self.error

    async def stop(self, *args: Any, **options: Any) -> None:
        self._will("stop")
        await super().stop(*args, **options)

    async def remove(self, *args: Any, **options: Any) -> None:
        self._will("remove")
        await super().remove(*args, **options)

    async def remove_volume(self, *args: Any, **options: Any) -> None:
        self._will("remove-volume")
        await super().remove_volume(*args, **options)


def unwilling(verb: str, error: ToolkeeperError) -> tuple[Rig, Unwilling]:
    rig, box = Rig(IMAGES), Unwilling(images=IMAGES)
    rig.box = rig.boxes["http://127.0.0.1:30000"] = box
    box.verb, box.error = verb, error
    return rig, box


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("verb", ["remove", "remove-volume"])
@in_virtual_time
async def test_a_removal_that_is_not_taken_is_asked_for_now_and_then_and_its_cause_is_said(
    verb: str, error: ToolkeeperError
) -> None:
    rig, box = unwilling(verb, error)
    async with rig.running(make_server(volumes=[{"name": "data", "path": "/data"}], reclaim="Delete")):
        key = (await rig.server()).key
        await rig.store.delete(key)
        await asyncio.sleep(3600)
        assert 100 < box.asked < 150
        for type in ("Ready", "Reconciling"):
            assert f"being removed; cannot {verb} tk_" in (await rig.condition(type)).message
            assert str(error) in (await rig.condition(type)).message
        box.error = None
        await asyncio.sleep(2 * LONGEST)
        with pytest.raises(NotFound):
            await rig.store.get(key)


@in_virtual_time
async def test_a_stop_that_is_not_taken_is_no_longer_asked_for_once_nobody_wants_it() -> None:
    rig, box = unwilling("stop", ERRORS["refused"])
    async with rig.running(make_server()):
        await edit(rig, running=False)
        await asyncio.sleep(600)
        assert "cannot stop tk_" in (await rig.condition("Reconciling")).message
        await edit(rig, running=True)
        asked = box.asked
        await asyncio.sleep(600)
        assert box.asked == asked
        assert await rig.is_ready()


def step(server: Key = TIME, container: str = "a") -> Step:
    return Step("stop", server, container, "it should not run")


def test_each_time_it_waits_longer_up_to_a_limit() -> None:
    repeats, now, waits = Repeats(), 0.0, []
    for _ in range(8):
        assert repeats.admitted([step()], now) == [step()]
        repeats.failed(step(), "no", now)
        assert repeats.admitted([step()], now) == []
        wait = repeats.due(now)
        assert wait is not None
        waits.append(wait)
        now += wait
    assert waits == [1, 2, 4, 8, 16, LONGEST, LONGEST, LONGEST]


def test_what_comes_after_it_waits_too_and_what_comes_before_it_or_elsewhere_does_not() -> None:
    repeats = Repeats()
    first, second, third = step(container="a"), step(container="b"), step(container="c")
    repeats.failed(second, "no", 0.0)
    assert repeats.admitted([first, second, third, step(OTHER)], 0.5) == [first, step(OTHER)]


def test_what_is_not_planned_any_more_is_forgotten() -> None:
    repeats = Repeats()
    repeats.failed(step(), "no", 0.0)
    assert repeats.admitted([], 0.1) == []
    assert repeats.admitted([step()], 0.2) == [step()]
    assert repeats.due(0.2) is None


def test_what_passes_by_itself_is_not_said() -> None:
    repeats = Repeats()
    repeats.failed(step(), "no", 0.0)
    assert repeats.hindrance(TIME) is None
    repeats.failed(step(), "still no", 1.0)
    assert repeats.hindrance(TIME) == ("stop", "a", "still no")
    assert repeats.hindrance(OTHER) is None
