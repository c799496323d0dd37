"""Conditions: when they say that something changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from freezegun import freeze_time
from hypothesis import given
from hypothesis import strategies as st

from toolkeeper.clock import SystemClock
from toolkeeper.resources.conditions import LONGEST_MESSAGE, Condition, carry, condition, find, is_true

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)


def test_a_new_condition_begins_now() -> None:
    (ready,) = carry([], [condition("Ready", None, "NeverSeen", generation=3)], NOON)
    assert ready.last_transition_time == NOON
    assert (ready.status, ready.observed_generation) == ("Unknown", 3)


def test_the_time_stays_while_only_reason_message_or_generation_change() -> None:
    before = carry([], [condition("Ready", False, "Starting", "a", generation=1)], NOON)
    (after,) = carry(before, [condition("Ready", False, "Exited", "b", generation=2)], LATER)
    assert after.last_transition_time == NOON
    assert (after.reason, after.message, after.observed_generation) == ("Exited", "b", 2)


def test_the_time_moves_when_the_status_does() -> None:
    before = carry([], [condition("Ready", False, "Starting")], NOON)
    (after,) = carry(before, [condition("Ready", True, "Available")], LATER)
    assert after.last_transition_time == LATER


def test_what_did_not_change_is_the_same_object_so_that_nothing_is_written() -> None:
    before = carry([], [condition("Ready", True, "Available")], NOON)
    after = carry(before, [condition("Ready", True, "Available")], LATER)
    assert after[0] is before[0]
    assert after == before


def test_a_condition_that_is_no_longer_said_is_gone_and_the_order_is_the_speakers() -> None:
    before = carry([], [condition("Stalled", True, "Exited"), condition("Ready", False, "Exited")], NOON)
    after = carry(before, [condition("Ready", True, "Available"), condition("Placed", True, "Placed")], LATER)
    assert [each.type for each in after] == ["Ready", "Placed"]


def test_a_clock_that_is_set_back_does_not_turn_time_back() -> None:
    clock = SystemClock()
    with freeze_time(LATER):
        before = carry([], [condition("Ready", False, "Starting")], clock.now())
    with freeze_time(NOON):
        (after,) = carry(before, [condition("Ready", True, "Available")], clock.now())
    assert after.last_transition_time == LATER


@given(
    st.lists(
        st.tuples(st.sampled_from(["True", "False", "Unknown"]), st.integers(0, 3), st.integers(-5, 5)),
        min_size=1,
        max_size=20,
    )
)
def test_times_never_go_back_and_change_only_with_the_status(steps: list[tuple[str, int, int]]) -> None:
    now, before = NOON, carry([], [condition("Ready", None, "NeverSeen")], NOON)
    for status, generation, hours in steps:
        now += timedelta(hours=hours)
        said = Condition.model_validate(
            {"type": "Ready", "status": status, "reason": "Available", "observedGeneration": generation}
        )
        after = carry(before, [said], now)
        old, new = before[0].last_transition_time, after[0].last_transition_time
        assert old is not None
        assert new is not None
        assert new >= old
        assert after[0].status == status
        assert after[0].observed_generation == generation
        if before[0].status == status:
            assert new == old
        before = after


def test_a_long_message_is_cut_not_refused() -> None:
    assert len(condition("Ready", False, "Exited", "x" * 5000).message) == LONGEST_MESSAGE


def test_finds_conditions_by_type() -> None:
    conditions = carry(
        [], [condition("Ready", True, "Available"), condition("Placed", False, "NeverSeen")], NOON
    )
    assert is_true(conditions, "Ready")
    assert not is_true(conditions, "Placed")
    assert not is_true(conditions, "Missing")
    assert find(conditions, "Missing") is None
