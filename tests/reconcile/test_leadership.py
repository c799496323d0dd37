from __future__ import annotations

import asyncio

import pytest

from toolkeeper.errors import Conflict, Fenced
from toolkeeper.planning.observed import Snapshot
from toolkeeper.reconcile.leadership import Leadership
from toolkeeper.resources.meta import Key
from toolkeeper.testing.fake_toolbox import FakeToolbox
from toolkeeper.testing.faults import FakeLease, LeaseOffice, Process
from toolkeeper.testing.virtual import in_virtual_time

BOX = Key("Toolbox", "default", "box")


class Candidate:
    """One operator that stands for the lease."""

    def __init__(self, office: LeaseOffice, name: str) -> None:
        self.process = Process(name)
        self.leadership = Leadership(FakeLease(office, self.process), "test")

    async def claim(self, box: FakeToolbox) -> None:
        await self.leadership.claim(BOX, box, box.snapshot("test"))

    def holds(self, seen: Snapshot) -> bool:
        return self.leadership.held(BOX, seen) is not None


@in_virtual_time
async def test_only_one_of_two_leads_until_it_lets_go() -> None:
    office = LeaseOffice()
    one, two = Candidate(office, "one"), Candidate(office, "two")
    await one.leadership.acquire()
    second = asyncio.create_task(two.leadership.acquire())
    await asyncio.sleep(100.0)
    assert not second.done()
    await one.leadership.release()
    await asyncio.sleep(2.0)
    assert second.done()


@in_virtual_time
async def test_a_claim_is_asked_for_once_and_then_held() -> None:
    box, one = FakeToolbox(), Candidate(LeaseOffice(), "one")
    await one.leadership.acquire()
    assert not one.holds(box.snapshot("test"))
    await one.claim(box)
    assert one.holds(box.snapshot("test"))


@in_virtual_time
async def test_a_node_that_a_newer_leader_claimed_is_given_up() -> None:
    box, office = FakeToolbox(), LeaseOffice()
    one = Candidate(office, "one")
    await one.leadership.acquire()
    await one.claim(box)
    await box.claim("test", box.snapshot("test").epoch)
    with pytest.raises(Fenced):
        one.holds(box.snapshot("test"))


@in_virtual_time
async def test_a_wiped_node_is_claimed_again_with_an_epoch_that_nobody_ever_held() -> None:
    box, one = FakeToolbox(), Candidate(LeaseOffice(), "one")
    await one.leadership.acquire()
    await one.claim(box)
    before = box.snapshot("test").epoch
    box.die()
    box.come_back(wiped=True)
    assert not one.holds(box.snapshot("test"))
    await one.claim(box)
    assert one.holds(box.snapshot("test"))
    assert box.snapshot("test").epoch != before


@in_virtual_time
async def test_a_node_that_is_not_as_it_was_seen_is_looked_at_again() -> None:
    box, one = FakeToolbox(), Candidate(LeaseOffice(), "one")
    await one.leadership.acquire()
    seen = box.snapshot("test")
    await box.claim("test", 0)
    with pytest.raises(Conflict):
        await one.leadership.claim(BOX, box, seen)


@in_virtual_time
async def test_a_leader_that_slept_through_its_lease_takes_no_node_from_its_successor() -> None:
    box, office = FakeToolbox(), LeaseOffice()
    one, two = Candidate(office, "one"), Candidate(office, "two")
    await one.leadership.acquire()
    one.process.sleep()
    await two.leadership.acquire()
    await two.claim(box)
    one.process.wake()
    with pytest.raises(Fenced):
        await one.claim(box)
    assert two.holds(box.snapshot("test"))


@in_virtual_time
async def test_a_lost_lease_ends_the_leadership_with_a_clear_message() -> None:
    office = LeaseOffice()
    one, two = Candidate(office, "one"), Candidate(office, "two")
    await one.leadership.acquire()
    holding = asyncio.create_task(one.leadership.hold())
    one.process.sleep()
    await two.leadership.acquire()
    one.process.wake()
    with pytest.raises(Fenced, match="no longer holds the lease"):
        await holding
