"""Containers that nobody owns: reported at once, removed late, few at a time, and never in doubt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from toolkeeper.planning.decide import decide
from toolkeeper.planning.observed import Container
from toolkeeper.planning.world import Decision, Policy
from toolkeeper.resources.toolbox import ToolboxStatus
from toolkeeper.testing.builders import make_container, make_server, make_snapshot, make_toolbox, make_world


def ghosts(count: int) -> list[Container]:
    return [make_container(make_server(f"ghost{number}")) for number in range(count)]


def looked(
    containers: list[Container],
    orphans: Mapping[str, float] | None = None,
    *,
    clock: float = 1000.0,
    **fields: Any,
) -> Decision:
    return decide(
        make_world(observation=make_snapshot(*containers), orphans=orphans or {}, clock=clock, **fields)
    )


def test_the_first_look_only_remembers() -> None:
    found = looked(ghosts(1))
    assert found.plan.steps == ()
    assert list(found.orphans.values()) == [1000.0]
    assert found.plan.wake_after == 60.0


def test_the_second_look_a_minute_later_removes() -> None:
    first = looked(ghosts(1))
    assert looked(ghosts(1), first.orphans, clock=1059.0).plan.steps == ()
    (step,) = looked(ghosts(1), first.orphans, clock=1060.0).plan.steps
    assert (step.verb, step.container_id) == ("remove", ghosts(1)[0].container_id)


def test_an_orphan_that_found_an_owner_is_forgotten() -> None:
    first = looked(ghosts(1))
    owner = make_server("ghost0")
    found = decide(
        make_world(owner, observation=make_snapshot(*ghosts(1)), orphans=first.orphans, clock=2000.0)
    )
    assert (found.plan.steps, dict(found.orphans)) == ((), {})


@pytest.mark.parametrize(("total", "removed"), [(1, 1), (4, 1), (5, 1), (10, 2), (20, 4)])
def test_one_pass_removes_at_most_a_fifth_and_at_least_one(total: int, removed: int) -> None:
    first = looked(ghosts(total))
    assert len(looked(ghosts(total), first.orphans, clock=1060.0).plan.steps) == removed


def test_after_some_went_the_others_are_looked_at_anew() -> None:
    first = looked(ghosts(10))
    second = looked(ghosts(10), first.orphans, clock=1060.0)
    gone = {step.container for step in second.plan.steps}
    left = [each for each in ghosts(10) if each.name not in gone]
    assert looked(left, second.orphans, clock=1061.0).plan.steps == ()
    assert len(looked(left, second.orphans, clock=1120.0).plan.steps) == 1


def test_the_cap_is_lifted_on_purpose_only() -> None:
    first = looked(ghosts(10))
    allowed = Policy("test", allow_prune=True)
    assert len(looked(ghosts(10), first.orphans, clock=1060.0, policy=allowed).plan.steps) == 10


def test_an_incomplete_listing_proves_nothing() -> None:
    first = looked(ghosts(1))
    second = looked(ghosts(1), first.orphans, clock=2000.0, complete=False)
    assert (second.plan.steps, second.orphans) == ((), first.orphans)
    assert looked(ghosts(1), complete=False).orphans == {}


def test_nothing_is_removed_from_a_paused_toolbox() -> None:
    first = looked(ghosts(1))
    assert looked(ghosts(1), first.orphans, clock=2000.0, toolbox=make_toolbox(paused=True)).plan.steps == ()


def test_what_was_disowned_on_purpose_is_no_orphan() -> None:
    kept = make_toolbox(status=ToolboxStatus(disowned=("default/ghost0",)))
    found = looked(ghosts(1), {ghosts(1)[0].name: 0.0}, toolbox=kept)
    assert (found.plan.steps, dict(found.orphans)) == ((), {})


def test_a_disowned_container_is_taken_back_by_a_new_owner() -> None:
    kept = make_toolbox(status=ToolboxStatus(disowned=("default/ghost0",)))
    found = decide(make_world(make_server("ghost0"), observation=make_snapshot(*ghosts(1)), toolbox=kept))
    assert found.toolbox is not None
    assert found.toolbox.status.disowned == ()
    assert found.servers[0].status.phase == "active"


def test_the_disowning_is_written_before_the_owner_is_let_go() -> None:
    server = make_server("ghost0", deleted=True, deletion_policy="Orphan")
    first = decide(make_world(server, observation=make_snapshot(*ghosts(1))))
    assert first.released == ()
    assert first.toolbox is not None
    assert first.toolbox.status.disowned == ("default/ghost0",)
    second = decide(make_world(server, observation=make_snapshot(*ghosts(1)), toolbox=first.toolbox))
    assert (second.released, second.plan.steps) == ((server.key,), ())


def test_a_disowned_name_is_forgotten_with_its_last_container() -> None:
    kept = make_toolbox(status=ToolboxStatus(disowned=("default/ghost0",)))
    found = looked([], toolbox=kept)
    assert found.toolbox is not None
    assert found.toolbox.status.disowned == ()
