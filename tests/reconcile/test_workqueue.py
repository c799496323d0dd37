from __future__ import annotations

import asyncio
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from toolkeeper.reconcile.backoff import Backoff
from toolkeeper.reconcile.workqueue import Priority, Schedule, WorkQueue
from toolkeeper.resources.meta import Key
from toolkeeper.testing.virtual import VirtualClock, in_virtual_time

A, B, C = (Key("Toolbox", "default", name) for name in "abc")


def make_queue(**backoff: float) -> WorkQueue:
    return WorkQueue(VirtualClock(), Random(1), backoff=Backoff(**backoff))


def test_a_key_that_is_added_twice_is_handed_out_once() -> None:
    schedule = Schedule()
    schedule.add(A)
    schedule.add(A)
    assert schedule.take(0.0) == A
    schedule.done(A)
    assert schedule.take(0.0) is None


def test_a_key_is_never_worked_on_by_two() -> None:
    schedule = Schedule()
    schedule.add(A)
    assert schedule.take(0.0) == A
    schedule.add(A)
    assert schedule.take(0.0) is None


def test_what_is_added_during_the_work_comes_again_after_it() -> None:
    schedule = Schedule()
    schedule.add(A)
    schedule.take(0.0)
    schedule.add(A, Priority.RESYNC)
    schedule.add(A, Priority.EDIT)
    schedule.add(B, Priority.DRIFT)
    schedule.done(A)
    assert [schedule.take(0.0), schedule.take(0.0)] == [A, B]


def test_an_edit_overtakes_drift_and_drift_overtakes_a_resync() -> None:
    schedule = Schedule()
    schedule.add(A, Priority.RESYNC)
    schedule.add(B, Priority.DRIFT)
    schedule.add(C, Priority.EDIT)
    assert [schedule.take(0.0) for _ in range(3)] == [C, B, A]


def test_a_stronger_priority_moves_a_waiting_key_ahead() -> None:
    schedule = Schedule()
    schedule.add(A, Priority.DRIFT)
    schedule.add(B, Priority.DRIFT)
    schedule.add(B, Priority.EDIT)
    assert [schedule.take(0.0), schedule.take(0.0), schedule.take(0.0)] == [B, A, None]


def test_a_delayed_key_waits_until_it_is_due() -> None:
    schedule = Schedule()
    schedule.add_at(5.0, A)
    assert schedule.take(4.9) is None
    assert schedule.next_time() == 5.0
    assert schedule.take(5.0) == A
    assert schedule.next_time() is None


def test_the_earlier_of_two_delays_wins() -> None:
    schedule = Schedule()
    schedule.add_at(9.0, A)
    schedule.add_at(3.0, A)
    schedule.add_at(6.0, A)
    assert schedule.take(3.0) == A
    schedule.done(A)
    assert schedule.take(10.0) is None


def test_an_immediate_add_supersedes_a_delayed_one_and_keeps_its_priority() -> None:
    schedule = Schedule()
    schedule.add_at(9.0, A, Priority.EDIT)
    schedule.add(B, Priority.DRIFT)
    schedule.add(A, Priority.RESYNC)
    assert schedule.take(0.0) == A
    schedule.done(A)
    assert [schedule.take(10.0), schedule.take(10.0)] == [B, None]


def test_a_delay_that_ends_during_the_work_counts_as_added_during_it() -> None:
    schedule = Schedule()
    schedule.add(A)
    schedule.take(0.0)
    schedule.add_at(1.0, A)
    assert schedule.take(2.0) is None
    schedule.done(A)
    assert schedule.take(2.0) == A


def test_a_dropped_key_is_forgotten_even_while_it_is_worked_on() -> None:
    schedule = Schedule()
    schedule.add(A)
    schedule.take(0.0)
    schedule.add(A)
    schedule.add_at(1.0, A)
    schedule.drop(A)
    schedule.done(A)
    assert schedule.take(9.0) is None


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "later", "take", "done"]), st.sampled_from([A, B, C])), max_size=60
)


@given(STEPS)
def test_every_added_key_is_handed_out_after_it_was_added_and_to_one_at_a_time(
    steps: list[tuple[str, Key]],
) -> None:
    schedule, working, owed, now = Schedule(), set[Key](), set[Key](), 0.0
    for step, key in steps:
        now += 1.0
        if step == "add":
            schedule.add(key)
            owed.add(key)
        elif step == "later":
            schedule.add_at(now + 2.0, key)
            owed.add(key)
        elif step == "done" and key in working:
            working.remove(key)
            schedule.done(key)
        elif step == "take" and (taken := schedule.take(now)) is not None:
            assert taken not in working
            working.add(taken)
            owed.discard(taken)
    for key in working:
        schedule.done(key)
    rest = set[Key]()
    while (taken := schedule.take(now + 100.0)) is not None:
        rest.add(taken)
        schedule.done(taken)
    assert rest == owed


@in_virtual_time
async def test_whoever_waits_gets_a_key_as_soon_as_there_is_one() -> None:
    queue = make_queue()
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(10.0)
    queue.add(A)
    assert await waiting == A


@in_virtual_time
async def test_whoever_waits_gets_a_delayed_key_when_it_is_due() -> None:
    queue, loop = make_queue(), asyncio.get_running_loop()
    queue.add(A, after=30.0)
    assert await queue.get() == A
    assert loop.time() == 30.0


@in_virtual_time
async def test_retries_wait_longer_each_time_until_one_works() -> None:
    queue = make_queue(first=1.0, cap=8.0, floor=0.0)
    delays = [queue.retry(A) for _ in range(50)]
    assert delays[0] <= 1.0
    assert delays[1] <= 2.0
    assert 4.0 < max(delays) <= 8.0
    queue.forget(A)
    assert queue.retry(A) <= 1.0
