"""Questions to the table of states."""

from __future__ import annotations

from typing import Any

import pytest

from toolkeeper.planning import healing
from toolkeeper.planning.lifecycle import ALIVE, PHASES, STAGES, STATES, Contact, Stage, contact, phase, stage
from toolkeeper.planning.observed import Handshake
from toolkeeper.testing.builders import make_container, make_handshake, make_server

SERVER = make_server()
HEALTH = SERVER.spec.health
NO_ANSWER = make_handshake(ok=False)


def at(elapsed: float = 0.0, *, stood: bool = False, **fields: Any) -> Stage:
    return stage(make_container(SERVER, **fields), HEALTH, elapsed, stood=stood)


def test_every_state_with_every_contact_has_a_stage() -> None:
    assert set(STAGES) == {(state, each) for state in STATES for each in Contact}


def test_every_stage_has_a_phase_whether_it_should_run_or_not() -> None:
    assert set(PHASES) == set(Stage)


def test_every_stage_of_a_container_has_one_who_heals_it() -> None:
    assert set(healing.BY_STAGE) == set(Stage) - {Stage.ABSENT, Stage.UNKNOWN}


def test_only_a_running_container_that_answers_serves() -> None:
    assert [key for key, found in STAGES.items() if found is Stage.SERVING] == [("running", Contact.OK)]


def test_only_what_serves_is_active() -> None:
    assert {each for each in Stage if "active" in PHASES[each]} == {Stage.SERVING}


def test_what_is_not_observed_is_unknown_and_nothing_else_is() -> None:
    assert {each for each in Stage if "unknown" in PHASES[each]} == {Stage.UNKNOWN}


def test_everything_alive_has_or_will_have_a_process() -> None:
    states = {state for (state, _), found in STAGES.items() if found in ALIVE}
    assert states == {"running", "restarting", "paused"}


@pytest.mark.parametrize(
    ("state", "phases"),
    [
        ("pending", ("starting", "starting")),
        ("pulling", ("starting", "starting")),
        ("building", ("starting", "starting")),
        ("created", ("starting", "starting")),
        ("restarting", ("error", "error")),
        ("paused", ("stopped", "stopped")),
        ("removing", ("starting", "stopped")),
        ("exited", ("stopped", "stopped")),
        ("dead", ("error", "stopped")),
        ("failed", ("error", "stopped")),
    ],
)
def test_the_phase_of_a_state_that_does_not_run(state: Any, phases: tuple[str, str]) -> None:
    found = at(state=state, handshake=None)
    assert (phase(found, running=True), phase(found, running=False)) == phases


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"handshake": make_handshake()}, Stage.SERVING),
        ({"handshake": make_handshake(reason="AuthRequired")}, Stage.SERVING),
        ({"handshake": None, "age": 3.0}, Stage.STARTING),
        ({"handshake": NO_ANSWER, "age": 3.0}, Stage.STARTING),
        ({"handshake": None, "age": 60.0}, Stage.SILENT),
        ({"handshake": NO_ANSWER, "age": 60.0}, Stage.SILENT),
        ({"handshake": None, "age": 3.0, "restarts": 3}, Stage.CRASHING),
        ({"handshake": None, "age": 60.0, "restarts": 3}, Stage.SILENT),
        ({"handshake": NO_ANSWER, "probe_failures": 2}, Stage.SERVING),
        ({"handshake": NO_ANSWER, "probe_failures": 3}, Stage.LOST),
    ],
)
def test_a_running_container_stands_where_its_handshake_says(fields: dict[str, Any], expected: Stage) -> None:
    assert at(**fields) is expected


def test_a_failed_start_is_a_failure_whatever_the_state_it_left() -> None:
    assert at(state="created", error_reason="StartFailed") is Stage.FAILED
    assert at(state="exited", error_reason="StartFailed") is Stage.FAILED


def test_no_container_is_absent() -> None:
    assert stage(None, HEALTH) is Stage.ABSENT


def test_time_that_has_passed_since_the_observation_counts() -> None:
    assert at(0.0, handshake=None, age=59.0) is Stage.STARTING
    assert at(1.0, handshake=None, age=59.0) is Stage.SILENT


def test_a_container_that_stood_keeps_its_standing_until_it_is_probed() -> None:
    assert at(stood=True, handshake=None, age=600.0) is Stage.SERVING
    assert at(stood=True, handshake=NO_ANSWER, age=600.0) is Stage.SILENT


def test_a_container_that_has_just_started_has_yet_to_answer_even_if_it_once_stood() -> None:
    assert at(stood=True, handshake=None, age=3.0) is Stage.STARTING


@pytest.mark.parametrize(
    ("handshake", "failures", "expected"),
    [
        (None, 0, Contact.NONE),
        (NO_ANSWER, 0, Contact.REFUSED),
        (NO_ANSWER, 1, Contact.OK),
        (NO_ANSWER, 3, Contact.LOST),
        (make_handshake(), 0, Contact.OK),
    ],
)
def test_contact_is_lost_only_after_so_many_failures_in_a_row(
    handshake: Handshake | None, failures: int, expected: Contact
) -> None:
    assert contact(make_container(SERVER, handshake=handshake, probe_failures=failures), 3) is expected
