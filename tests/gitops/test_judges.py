"""Those who wait for our objects (Flux and Helm by kstatus, Argo CD by its check in Lua) judge them as a person would.

The scenarios are the golden ones of the planning tests, looked at twice: as they are reported first, and at rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

import pytest

from gitops.conftest import Jury
from planning import storyboard
from planning.host import Fleet
from planning.laws import converge
from toolkeeper.planning.connections import connection
from toolkeeper.planning.decide import decide
from toolkeeper.planning.observed import Snapshot, Unreachable
from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.agentconnection import AgentConnection, AgentConnectionSpec
from toolkeeper.resources.conditions import find
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Metadata
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.testing.builders import (
    NOW,
    make_container,
    make_handshake,
    make_server,
    make_snapshot,
    make_toolbox,
    make_world,
)

pytestmark = pytest.mark.kubernetes

Moment = Literal["first", "at rest"]
FINE = ("Current", "Healthy")
ON_ITS_WAY = ("InProgress", "Progressing")
BROKEN = ("Failed", "Degraded")
ON_HOLD = ("InProgress", "Suspended")
AS_WISHED_BUT_PAUSED = ("Current", "Suspended")
NEEDS_A_LOOK = ("InProgress", "Degraded")
"""It goes on by itself once somebody has mended something else."""
GOING = ("Terminating", "Progressing")

STORIES: list[tuple[str, Moment, str, tuple[str, str]]] = [
    # scenario, moment, object, verdict
    ("first-deployment", "first", "time", ON_ITS_WAY),
    ("first-deployment", "at rest", "time", FINE),
    ("first-deployment-pulling", "first", "time", ON_ITS_WAY),
    ("first-deployment-starting", "first", "time", ON_ITS_WAY),
    ("first-deployment-ready", "first", "time", FINE),
    ("first-deployment-asks-for-credentials", "first", "time", FINE),
    ("first-deployment-registry-down", "first", "time", ON_ITS_WAY),
    ("first-deployment-image-not-found", "first", "time", BROKEN),
    ("first-deployment-crash-loop", "first", "time", BROKEN),
    ("first-deployment-out-of-memory", "first", "time", BROKEN),
    ("first-deployment-silent", "first", "time", BROKEN),
    ("crashed-once", "first", "time", ON_ITS_WAY),
    ("crash-loop-after-success", "first", "time", BROKEN),
    ("docker-rm", "first", "time", ON_ITS_WAY),
    ("docker-stop", "first", "time", ON_ITS_WAY),
    ("docker-pause", "first", "time", BROKEN),
    ("drift-memory", "first", "time", ON_ITS_WAY),
    ("drift-persists", "at rest", "time", BROKEN),
    ("health-first-failures", "first", "time", FINE),
    ("health-restart", "first", "time", ON_ITS_WAY),
    ("health-budget-spent", "first", "time", BROKEN),
    ("exited-never", "first", "time", BROKEN),
    ("exited-on-failure-completed", "first", "time", FINE),
    ("rollout-begins", "first", "time", ON_ITS_WAY),
    ("rollout-waits", "first", "time", ON_ITS_WAY),
    ("rollout-takes-over", "at rest", "time", FINE),
    ("rollout-crashes", "at rest", "time", BROKEN),
    ("rollout-image-not-found", "at rest", "time", BROKEN),
    ("rollout-failed-is-remembered", "first", "time", BROKEN),
    ("pin-enforce", "first", "time", BROKEN),
    ("pin-warn", "first", "time", FINE),
    ("not-enforced", "first", "time", FINE),
    ("catalog-refused", "first", "time", BROKEN),
    ("secret-missing", "first", "time", NEEDS_A_LOOK),
    ("secret-missing-later", "first", "time", NEEDS_A_LOOK),
    ("secret-rotated", "first", "time", ON_ITS_WAY),
    ("toolbox-not-found", "first", "time", ON_ITS_WAY),
    ("selector-nothing-matches", "first", "time", ON_ITS_WAY),
    ("selector-waits", "first", "time", ON_ITS_WAY),
    ("namespace-not-allowed", "first", "time", BROKEN),
    ("drain-takes-nothing-new", "first", "time", BROKEN),
    ("unreachable", "first", "time", ON_ITS_WAY),
    ("unreachable", "first", "box", NEEDS_A_LOOK),
    ("runtime-down", "first", "box", NEEDS_A_LOOK),
    ("authentication-failed", "first", "box", BROKEN),
    ("certificate-mismatch", "first", "box", BROKEN),
    ("paused-server", "first", "time", ON_HOLD),
    ("paused-toolbox", "first", "time", ON_HOLD),
    ("paused-toolbox", "first", "box", AS_WISHED_BUT_PAUSED),
    ("running-false", "first", "time", ON_ITS_WAY),
    ("running-false", "at rest", "time", FINE),
    ("running-true-again", "first", "time", ON_ITS_WAY),
    ("delete", "first", "time", GOING),
    ("delete-paused", "first", "time", GOING),
    ("delete-unreachable", "at rest", "time", GOING),
]


@cache
def told(story: str) -> dict[tuple[Moment, str], Resource]:
    """Every object of a scenario as it is reported first, and at rest."""
    path = next(each for each in storyboard.FILES if each.stem == story)
    world = storyboard.stage(storyboard.read(path)[1])
    look = world.look()
    found: dict[tuple[Moment, str], Resource] = {
        ("first", each.metadata.name): each for each in _all(world) if each.key not in look.released
    }
    reported: list[Resource] = [*look.servers.values(), *look.toolboxes.values()]
    found |= {("first", each.metadata.name): each for each in reported}
    converge(world)
    found |= {("at rest", each.metadata.name): each for each in _all(world)}
    return found


def _all(world: Fleet) -> list[Resource]:
    return [*world.servers.values(), *world.toolboxes.values()]


@pytest.mark.parametrize(
    ("story", "moment", "name", "expected"), STORIES, ids=["-".join(each[:3]) for each in STORIES]
)
def test_a_story_is_judged_as_a_person_would(
    story: str, moment: Moment, name: str, expected: tuple[str, str], jury: Jury
) -> None:
    (verdict,) = jury([told(story)[moment, name]])
    assert (verdict.kstatus, verdict.argo) == expected, verdict


def every_server() -> Iterator[tuple[str, Moment, MCPServer]]:
    for path in storyboard.FILES:
        for (moment, _), each in told(path.stem).items():
            if isinstance(each, MCPServer):
                yield path.stem, moment, each


def _is_as_declared(server: MCPServer) -> bool:
    """Whether a person who compares spec and status would lean back."""
    status, deployed = server.status, find(server.status.conditions, "Deployed")
    if not server.spec.running or (deployed is not None and deployed.reason == "Completed"):
        return status.phase == "stopped"
    return status.phase == "active" and status.running_hash == status.wanted_hash


def test_at_rest_nobody_waits_in_vain_and_nobody_leaves_early(jury: Jury) -> None:
    rest = [(story, each) for story, moment, each in every_server() if moment == "at rest"]
    assert len(rest) > 100
    for (story, server), verdict in zip(rest, jury([each for _, each in rest]), strict=True):
        known = [find(server.status.conditions, each) for each in ("Stalled", "Reconciling")]
        settled = all(each is None for each in known) and server.metadata.deletion_timestamp is None
        assert (verdict.kstatus == "Current") == settled, f"{story}: {verdict}"
        assert not settled or _is_as_declared(server), f"{story}: {verdict}"


def test_nothing_is_called_current_while_something_is_to_be_done(jury: Jury) -> None:
    for path in storyboard.FILES:
        world = storyboard.stage(storyboard.read(path)[1])
        look = world.look()
        # What its probe shows is no change of a server: one that is ready stays so meanwhile.
        busy = {step.server for step in look.steps if not step.verb.endswith("-credential")}
        acted_on = [look.servers.get(key, each) for key, each in world.servers.items() if key in busy]
        for server, verdict in zip(acted_on, jury(acted_on), strict=True):
            orphaned = server.status.observed_generation < 0
            assert verdict.kstatus != "Current" or orphaned, f"{path.stem}: {verdict}"
            assert verdict.argo != "Healthy", f"{path.stem}: {verdict}"


def server_seen(server: MCPServer, *, toolbox: Toolbox | None = None, **container: Any) -> MCPServer:
    seen: Snapshot = make_snapshot(make_container(server, **container))
    decided = decide(make_world(server, toolbox=toolbox or make_toolbox(), observation=seen))
    return decided.servers[0]


def test_an_object_that_nobody_has_looked_at_is_on_its_way(jury: Jury) -> None:
    new: list[Resource] = [make_server(), make_toolbox(), connecting()]
    assert [(each.kstatus, each.argo) for each in jury(new)] == [ON_ITS_WAY] * 3


def test_an_edit_that_nobody_has_looked_at_is_on_its_way(jury: Jury) -> None:
    ready = server_seen(make_server(), handshake=make_handshake())
    edited = ready.model_copy(update={"metadata": ready.metadata.model_copy(update={"generation": 2})})
    before, after = jury([ready, edited])
    assert (before.kstatus, before.argo) == FINE
    assert (after.kstatus, after.argo) == ON_ITS_WAY


def test_a_paused_rollout_is_not_called_done_because_the_previous_version_serves(jury: Jury) -> None:
    before = server_seen(make_server(), handshake=make_handshake())
    edited = make_server(image="example/new:1", generation=2, paused=True, status=before.status)
    old = make_snapshot(make_container(make_server(), handshake=make_handshake()))
    (after,) = decide(make_world(edited, observation=old)).servers
    assert after.status.phase == "active"
    (verdict,) = jury([after])
    assert (verdict.kstatus, verdict.argo) == ON_HOLD


def test_a_paused_server_that_is_as_declared_keeps_nobody_waiting(jury: Jury) -> None:
    (verdict,) = jury([server_seen(make_server(paused=True), handshake=make_handshake())])
    assert (verdict.kstatus, verdict.argo) == AS_WISHED_BUT_PAUSED


def test_a_crash_loop_is_a_failure_also_while_paused(jury: Jury) -> None:
    (verdict,) = jury([server_seen(make_server(paused=True), state="restarting", restarts=9, exit_code=1)])
    assert (verdict.kstatus, verdict.argo) == BROKEN
    assert "exit code 1" in verdict.kstatus_message
    assert "exit code 1" in verdict.argo_message


def test_a_toolbox_that_has_just_been_declared_is_on_its_way(jury: Jury) -> None:
    decided = decide(make_world(observation=Unreachable("NeverSeen")))
    assert decided.toolbox is not None
    (verdict,) = jury([decided.toolbox])
    assert (verdict.kstatus, verdict.argo) == ON_ITS_WAY


def connecting(**spec: Any) -> AgentConnection:
    given = {"agent": "ada", "serverRef": "time", "tools": {"allow": ["*"]}} | spec
    return AgentConnection(metadata=Metadata(name="ada"), spec=AgentConnectionSpec.model_validate(given))


@pytest.mark.parametrize(
    ("spec", "expected", "reason"),
    [
        ({}, BROKEN, "NoGateway"),
        ({"expiresAt": NOW}, BROKEN, "Expired"),
        ({"active": False}, AS_WISHED_BUT_PAUSED, "Inactive"),
    ],
    ids=["before-there-is-a-gateway", "expired", "switched-off"],
)
def test_a_connection_that_lets_nobody_in_says_why(
    spec: dict[str, Any], expected: tuple[str, str], reason: str, jury: Jury
) -> None:
    open_to_all = make_server(access={"agents": ["default/*"], "tools": ["*"]})
    server = server_seen(open_to_all, handshake=make_handshake())
    (verdict,) = jury([connection(connecting(**spec), [server], [make_toolbox(agents=("*",))], NOW)])
    assert (verdict.kstatus, verdict.argo) == expected
    assert reason in verdict.argo_message
