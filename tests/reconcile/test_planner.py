from __future__ import annotations

import pytest

from toolkeeper.planning.decide import decide
from toolkeeper.planning.world import Decision, World
from toolkeeper.reconcile.planner import decide_around
from toolkeeper.testing.builders import make_container, make_server, make_snapshot, make_world

GOOD, BAD = make_server("good"), make_server("bad")


def stumbles(world: World) -> Decision:
    """Fails on one server."""
    if any(wanted.server.key == BAD.key for wanted in world.servers):
        raise ZeroDivisionError(BAD.key.name)
    return decide(world)


def test_a_server_that_makes_the_planner_fail_does_not_hold_up_the_others() -> None:
    decision, broken = decide_around(stumbles, make_world(GOOD, BAD))
    assert [step.server for step in decision.plan.steps] == [GOOD.key]
    assert [(key, type(error)) for key, error in broken] == [(BAD.key, ZeroDivisionError)]


def test_nothing_is_concluded_about_the_containers_of_a_server_that_was_left_out() -> None:
    seen = make_snapshot(make_container(BAD))
    decision, _ = decide_around(stumbles, make_world(GOOD, BAD, observation=seen))
    assert BAD.key not in {step.server for step in decision.plan.steps}
    assert not decision.orphans


def test_a_planner_that_always_fails_is_not_hidden() -> None:
    def broken(world: World) -> Decision:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        decide_around(broken, make_world())
