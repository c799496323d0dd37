"""What holds of every decision, beyond the golden scenarios."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from toolkeeper.planning.decide import decide
from toolkeeper.planning.observed import Container, Observation, Unreachable
from toolkeeper.planning.world import Decision
from toolkeeper.resources.conditions import find
from toolkeeper.resources.mcpserver import MCPServer, RolloutRecord
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.testing.builders import (
    NOW,
    edited,
    make_container,
    make_handshake,
    make_server,
    make_snapshot,
    make_toolbox,
    make_wanted,
    make_world,
)

CRASHED: dict[str, Any] = {"state": "restarting", "handshake": None, "restarts": 3, "exit_code": 1}


def settled(server: MCPServer, *containers: Container) -> tuple[MCPServer, Toolbox]:
    """The server and its toolbox after a first look at these containers."""
    found = decide(make_world(server, observation=make_snapshot(*containers)))
    assert found.toolbox is not None
    return (found.servers[0] if found.servers else server), found.toolbox


def again(server: MCPServer, toolbox: Toolbox, observation: Observation, **fields: Any) -> Decision:
    return decide(make_world(server, toolbox=toolbox, observation=observation, **fields))


def reason(server: MCPServer, type: str) -> str:
    found = find(server.status.conditions, type)
    return "" if found is None else found.reason


def test_a_deleted_server_that_goes_is_stopped_and_not_starting() -> None:
    server = make_server(deleted=True)
    going, _ = settled(server, make_container(server, state="removing"))
    assert going.status.phase == "stopped"


# At rest --------------------------------------------------------------------------------------------------------------


def test_at_rest_nothing_is_written_done_or_told() -> None:
    server, toolbox = settled(make_server(), make_container(make_server()))
    found = again(server, toolbox, make_snapshot(make_container(server)), now=NOW + timedelta(days=1))
    assert found == Decision(plan=found.plan)
    assert found.plan.steps == ()
    assert found.plan.wake_after is None


@pytest.mark.parametrize(
    "change",
    [
        {"age": 99_999.0},
        {"handshake": make_handshake(), "probe_failures": 0},
        {"handshake": make_handshake(ok=False, reason="Timeout"), "probe_failures": 1},
        {"handshake": make_handshake(ok=False, reason="Timeout"), "probe_failures": 2},
    ],
)
def test_what_changes_by_itself_is_not_in_any_status(change: dict[str, Any]) -> None:
    container = make_container(make_server())
    server, toolbox = settled(make_server(), container)
    assert again(server, toolbox, make_snapshot(replace(container, **change))).servers == ()


def test_the_progress_of_a_pull_is_not_in_any_status() -> None:
    pulling = make_container(make_server(), state="pulling", progress="pulling 1 %")
    server, toolbox = settled(make_server(), pulling)
    assert again(server, toolbox, make_snapshot(replace(pulling, progress="pulling 99 %"))).servers == ()


def test_a_crash_loop_is_written_once_whatever_it_prints_next() -> None:
    first = make_container(make_server(), last_log=("one",), **CRASHED)
    server, toolbox = settled(make_server(), first)
    for change in (
        {"restarts": 9, "last_log": ("two",), "exit_code": 2},
        {"state": "running", "exit_code": None, "age": 1.0, "restarts": 10},
    ):
        assert again(server, toolbox, make_snapshot(replace(first, **change))).servers == ()


def test_a_create_that_fails_again_is_written_once() -> None:
    failure = make_container(
        make_server(), state="failed", error_reason="ImagePullFailed", error="one", age=0.0
    )
    server, toolbox = settled(make_server(), failure)
    pulling = replace(failure, state="pulling", error_reason="", error="", age=0.0)
    assert again(server, toolbox, make_snapshot(pulling)).servers == ()
    assert again(server, toolbox, make_snapshot(replace(failure, error="two"))).servers == ()


def test_a_retry_that_gets_further_is_told() -> None:
    failure = make_container(make_server(), state="failed", error_reason="ImagePullFailed")
    server, toolbox = settled(make_server(), failure)
    running = make_container(server, handshake=None, age=1.0)
    assert reason(again(server, toolbox, make_snapshot(running)).servers[0], "Ready") == "Starting"


def test_the_message_of_another_version_s_failure_is_its_own() -> None:
    old = make_server(image="example/old:1")
    server, toolbox = settled(old, make_container(old, last_log=("old words",), **CRASHED))
    new = make_server(image="example/new:1", generation=2, status=server.status)
    found = again(new, toolbox, make_snapshot(make_container(new, last_log=("new words",), **CRASHED)))
    ready = find(found.servers[0].status.conditions, "Ready")
    assert ready is not None
    assert "new words" in ready.message


# Time -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("container", "after"),
    [
        (make_container(make_server(), handshake=None, age=20.0), 40.0),
        (make_container(make_server(), state="created", handshake=None, age=20.0), 10.0),
        (make_container(make_server(), state="failed", error_reason="ImagePullFailed", age=20.0), 10.0),
        (make_container(make_server(), state="failed", error_reason="ImageNotFound", age=20.0), 280.0),
        (make_container(make_server(), state="exited", age=4.0), 6.0),
        (make_container(make_server()), None),
        (make_container(make_server(), state="pulling"), None),
    ],
)
def test_the_plan_says_when_time_alone_will_change_it(container: Container, after: float | None) -> None:
    assert decide(make_world(make_server(), observation=make_snapshot(container))).plan.wake_after == after


def test_a_candidate_is_waited_for_until_the_rollout_s_deadline() -> None:
    old, new = make_server(), make_server(image="example/new:1", generation=2)
    both = make_snapshot(make_container(old), make_container(new, handshake=None, age=20.0))
    assert decide(make_world(new, observation=both)).plan.wake_after == 100.0


def test_the_age_of_an_observation_counts() -> None:
    young = make_snapshot(make_container(make_server(), handshake=None, age=20.0))
    assert decide(make_world(make_server(), observation=young, elapsed=15.0)).plan.wake_after == 25.0


def test_a_failure_is_looked_at_again_at_once_after_it_was_written_down() -> None:
    old, new = make_server(), make_server(image="example/new:1", generation=2)
    both = make_snapshot(make_container(old), make_container(new, **CRASHED))
    found = decide(make_world(new, observation=both))
    assert (found.plan.steps, found.plan.wake_after) == ((), 0.0)
    assert found.servers[0].status.memory.failed_hash == make_container(new).hash


def test_transition_times_never_go_back() -> None:
    server, toolbox = settled(make_server(), make_container(make_server()))
    earlier = NOW - timedelta(hours=1)
    found = again(server, toolbox, make_snapshot(make_container(server, **CRASHED)), now=earlier)
    ready = find(found.servers[0].status.conditions, "Ready")
    assert ready is not None
    assert ready.last_transition_time == NOW


# Identity and ownership -----------------------------------------------------------------------------------------------


def test_a_container_of_another_installation_is_never_touched_or_adopted() -> None:
    server = make_server(deleted=True)
    stranger = make_container(server, installation="other")
    found = decide(make_world(server, observation=make_snapshot(stranger), orphans={stranger.name: 0.0}))
    assert found.plan.steps == ()
    assert found.released == (server.key,)


def test_a_removal_holds_only_for_the_very_container_that_was_seen() -> None:
    server = make_server()
    (step,) = decide(
        make_world(server, observation=make_snapshot(edited(make_container(server), memory=1)))
    ).plan.steps
    assert step.container_id == make_container(server).container_id


def test_a_recreated_object_adopts_the_container_of_its_namesake() -> None:
    container = make_container(make_server(uid="first"))
    assert (
        decide(make_world(make_server(uid="second"), observation=make_snapshot(container))).plan.steps == ()
    )


def test_nothing_is_done_on_a_toolbox_that_was_not_observed() -> None:
    gone = make_server("gone", deleted=True)
    found = decide(
        make_world(make_server(), gone, observation=Unreachable("ToolboxUnreachable"), orphans={"x": 0.0})
    )
    assert (found.plan.steps, found.released, dict(found.orphans)) == ((), (), {"x": 0.0})


def test_an_unreachable_toolbox_keeps_what_was_known_of_its_servers() -> None:
    server, toolbox = settled(make_server(), make_container(make_server()))
    (after,) = again(server, toolbox, Unreachable("ToolboxUnreachable")).servers
    assert after.status.phase == "unknown"
    assert after.status.endpoint == server.status.endpoint != ""
    assert after.status.running_hash == server.status.running_hash != ""


# Other toolboxes ------------------------------------------------------------------------------------------------------


def test_the_status_of_a_server_is_written_only_by_the_toolbox_it_belongs_to() -> None:
    server = make_server()
    away = make_wanted(server, assigned=False)
    found = decide(make_world(away, observation=make_snapshot(make_container(server))))
    assert (found.servers, found.released, found.plan.steps) == ((), (), ())


def test_what_is_left_here_goes_when_the_server_is_ready_elsewhere() -> None:
    server = make_server()
    away = make_wanted(server, assigned=False, ready_elsewhere=True)
    (step,) = decide(make_world(away, observation=make_snapshot(make_container(server)))).plan.steps
    assert step.verb == "remove"


def test_a_deleted_server_is_not_released_while_another_toolbox_may_have_it() -> None:
    server = make_wanted(make_server(deleted=True), elsewhere=True)
    assert decide(make_world(server)).released == ()


def test_a_misspelt_force_is_named_while_containers_are_removed_too() -> None:
    server = make_server(deleted=True, annotations={"toolkeeper.dev/force-delete": "yes"})
    (after,) = decide(make_world(server, observation=make_snapshot(make_container(server)))).servers
    told = find(after.status.conditions, "Ready")
    assert told is not None
    assert told.message == (
        "its containers are being removed; toolkeeper.dev/force-delete='yes' means nothing, only 'true' does"
    )


def test_an_exclusive_server_is_not_created_while_another_toolbox_may_have_it() -> None:
    server = make_wanted(make_server(exclusive=True), elsewhere=True)
    assert decide(make_world(server)).plan.steps == ()


@pytest.mark.parametrize("state", ["exited", "failed", "created"])
def test_an_exclusive_server_is_not_started_while_another_toolbox_may_have_it(state: Any) -> None:
    server = make_server(exclusive=True)
    here = make_container(server, state=state, handshake=None, age=999.0)
    found = decide(make_world(make_wanted(server, elsewhere=True), observation=make_snapshot(here)))
    assert found.plan.steps == ()


def test_where_an_exclusive_server_may_still_run_is_remembered() -> None:
    first, _ = settled(make_server(), make_container(make_server()))
    moved = make_server(exclusive=True, toolbox_ref="west", generation=2, status=first.status)
    west = make_toolbox("west")
    waiting = decide(make_world(make_wanted(moved, elsewhere=True), toolbox=west)).servers[0]
    assert waiting.status.toolbox == "default/box"
    assert decide(make_world(waiting, toolbox=west)).servers[0].status.toolbox == "default/west"


# Statuses -------------------------------------------------------------------------------------------------------------


def test_ready_speaks_of_the_generation_that_was_proven() -> None:
    old = make_server()
    server, toolbox = settled(old, make_container(old))
    new = make_server(image="example/new:1", generation=2, status=server.status)
    (after,) = again(new, toolbox, make_snapshot(make_container(old))).servers
    ready = find(after.status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.observed_generation) == ("True", 1)
    assert after.status.observed_generation == 2
    assert reason(after, "Reconciling") == "Creating"


def test_the_history_keeps_the_last_five_whole_specs() -> None:
    server, toolbox = make_server(), make_toolbox()
    for number in range(1, 8):
        server = make_server(image=f"example/time:{number}", generation=number, status=server.status)
        found = again(server, toolbox, make_snapshot(make_container(server)))
        (server,), toolbox = found.servers, found.toolbox or toolbox
    assert [each.generation for each in server.status.history] == [3, 4, 5, 6, 7]
    last: RolloutRecord = server.status.history[-1]
    assert last.outcome == "Succeeded"
    assert last.finished_at == NOW
    assert type(server.spec).model_validate(last.spec) == server.spec


def test_a_failed_first_deployment_is_in_the_history_once() -> None:
    server, toolbox = settled(make_server(), make_container(make_server(), **CRASHED))
    assert [each.outcome for each in server.status.history] == ["Failed"]
    assert again(server, toolbox, make_snapshot(make_container(server, **CRASHED))).servers == ()


@pytest.mark.parametrize(
    ("reason", "mood"),
    [
        ("SecretNotMarked", "Stalled"),
        ("SecretMissing", "Reconciling"),
        ("StoreUnreachable", "Reconciling"),
        ("ReadingSecrets", "Reconciling"),
    ],
)
def test_why_a_secret_is_not_there_is_said_and_whether_somebody_must_act(reason: str, mood: str) -> None:
    wanted = make_wanted(
        make_server(), instance=None, missing_secrets=("api/token: why",), missing_reason=reason
    )
    conditions = decide(make_world(wanted)).servers[0].status.conditions
    found = {each.type: each.reason for each in conditions}
    assert (found["SecretsResolved"], found["Ready"], found[mood]) == (reason, reason, reason)


def test_restarts_from_before_it_last_served_are_no_crash_loop() -> None:
    veteran = make_container(make_server(), restarts=9)
    server, toolbox = settled(make_server(), veteran)
    shape: dict[str, Any] = {"state": "restarting", "handshake": None, "exit_code": 1}
    once = again(server, toolbox, make_snapshot(replace(veteran, restarts=10, **shape)))
    assert reason(once.servers[0], "Reconciling") == "Restarting"
    loop = again(once.servers[0], toolbox, make_snapshot(replace(veteran, restarts=12, **shape)))
    assert reason(loop.servers[0], "Stalled") == "CrashLoopBackOff"


def test_another_container_s_restarts_do_not_count() -> None:
    server, toolbox = settled(make_server(), make_container(make_server(), restarts=9, container_id="old"))
    found = again(server, toolbox, make_snapshot(make_container(server, container_id="new", **CRASHED)))
    assert reason(found.servers[0], "Stalled") == "CrashLoopBackOff"


def test_what_we_stopped_ourselves_is_not_laid_at_somebody_s_door() -> None:
    server, toolbox = settled(make_server(), make_container(make_server()))
    exited = make_snapshot(make_container(server, state="exited"))
    stopped = make_server(running=False, generation=2, status=server.status)
    (stopped,) = again(stopped, toolbox, exited).servers
    assert reason(stopped, "Deployed") == "Stopped"
    wanted_again = make_server(generation=3, status=stopped.status)
    found = again(wanted_again, toolbox, exited)
    assert [step.verb for step in found.plan.steps] == ["start"]
    assert reason(found.servers[0], "Ready") == "Stopped"
    assert found.events == ()


def test_silence_does_not_take_back_what_was_said_of_a_rollback() -> None:
    old, new = make_server(), make_server(image="example/new:1", generation=2)
    server, toolbox = settled(old, make_container(old))
    server = make_server(image="example/new:1", generation=2, status=server.status)
    (server,) = again(
        server, toolbox, make_snapshot(make_container(old), make_container(new, **CRASHED))
    ).servers
    (server,) = again(server, toolbox, make_snapshot(make_container(old))).servers
    assert reason(server, "RolledBack") == "CrashLoopBackOff"
    (server,) = again(server, toolbox, Unreachable("ToolboxUnreachable")).servers
    assert reason(server, "RolledBack") == "CrashLoopBackOff"


def test_a_paused_rollout_does_not_hold_up_the_others() -> None:
    old, new = make_server("a"), make_server("a", image="example/new:1", generation=2, paused=True)
    waiting_old, waiting = make_server("b"), make_server("b", image="example/new:1", generation=2)
    both = make_snapshot(
        make_container(old), make_container(new, handshake=None), make_container(waiting_old)
    )
    assert [step.verb for step in decide(make_world(new, waiting, observation=both)).plan.steps] == ["create"]


def test_reconciling_and_stalled_never_stand_together() -> None:
    for state in ("pulling", "exited", "dead", "paused", "failed", "restarting", "running"):
        shape: dict[str, Any] = {"state": state, "handshake": None, "restarts": 3}
        server, _ = settled(make_server(), make_container(make_server(), **shape))
        both = [find(server.status.conditions, each) for each in ("Reconciling", "Stalled")]
        assert sum(each is not None for each in both) <= 1


def test_a_host_that_talks_nonsense_is_not_quoted_as_a_reason() -> None:
    nonsense = make_handshake(ok=False, reason="no; <reason> of ours")
    server, _ = settled(make_server(), make_container(make_server(), handshake=nonsense, age=99.0))
    assert reason(server, "Ready") == "ProtocolViolation"
    failure = make_container(make_server(), state="failed", error_reason="no; <reason> of ours")
    server, _ = settled(make_server(), failure)
    assert reason(server, "Ready") == "CreateFailed"


def test_the_last_words_of_a_container_are_quoted_within_bounds() -> None:
    loud = make_container(make_server(), last_log=tuple("x" * 2048 for _ in range(20)), **CRASHED)
    server, _ = settled(make_server(), loud)
    assert all(len(each.message) <= 2048 for each in server.status.conditions)


def test_events_tell_of_transitions_only() -> None:
    container = make_container(make_server(), **CRASHED)
    world = make_world(make_server(), observation=make_snapshot(container))
    found = decide(world)
    assert [each.reason for each in found.events if each.key.kind == "MCPServer"] == [
        "Placed",
        "CrashLoopBackOff",
    ]
    assert found.toolbox is not None
    assert again(found.servers[0], found.toolbox, make_snapshot(container)).events == ()


def test_no_secret_version_appears_where_people_read() -> None:
    env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "api", "key": "token"}}}]
    wanted = make_wanted(make_server(env=env), secrets={"api/token": "digest-of-a-secret"})
    found = decide(make_world(wanted))
    told = [str(found.plan), *map(str, found.events), *(each.model_dump_json() for each in found.servers)]
    assert not any("digest-of-a-secret" in each for each in told)


def test_a_server_that_stops_keeps_the_tools_that_were_last_seen() -> None:
    server, toolbox = settled(make_server(), make_container(make_server()))
    stopped = make_server(running=False, generation=2, status=server.status)
    (after,) = again(stopped, toolbox, make_snapshot(make_container(server, state="exited"))).servers
    assert (after.status.phase, after.status.tools) == ("stopped", ("echo",))
