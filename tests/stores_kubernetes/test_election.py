"""Who leads, in virtual time, over a record in memory that can be slow, gone, or taken."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from random import Random

import pytest

from toolkeeper.errors import Conflict, NotFound, Unreachable
from toolkeeper.stores.kubernetes.election import LEASE_SECONDS, RENEW_SECONDS, ElectedLease, Record
from toolkeeper.testing.virtual import VirtualClock, run


@dataclass
class Shelf:
    """The record, as the cluster holds it."""

    record: Record | None = None
    writes: int = 0

    def forget(self) -> None:
        self.record = None

    def write(self, holder: str, transitions: int = 0) -> Record:
        self.writes += 1
        self.record = Record(holder, str(self.writes), transitions)
        return self.record


class View:
    """Fits `Registry`: one process's way to the shelf, which can break."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.broken = False
        self.delay = 0.0
        self.loses_answers = False

    async def read(self) -> Record:
        await self._way()
        if self.shelf.record is None:
            raise NotFound("no lease")
        return self.shelf.record

    async def create(self, holder: str) -> Record:
        await self._way()
        if self.shelf.record is not None:
            raise Conflict("there is one")
        return self._answer(self.shelf.write(holder))

    async def renew(self, seen: Record, holder: str) -> Record:
        await self._way()
        if self.shelf.record is None:
            raise NotFound("no lease")
        if self.shelf.record.version != seen.version:
            raise Conflict("not the newest")
        return self._answer(self.shelf.write(holder, seen.transitions + (holder != seen.holder)))

    async def _way(self) -> None:
        await asyncio.sleep(self.delay)
        if self.broken:
            raise Unreachable("no way")

    def _answer(self, record: Record) -> Record:
        if self.loses_answers:
            raise Unreachable("the answer was lost")
        return record


class Process:
    """A process that wants to lead."""

    def __init__(self, shelf: Shelf, name: str, seed: int = 0) -> None:
        self.view = View(shelf)
        self.lease = ElectedLease(self.view, name, clock=VirtualClock(), random=Random(seed))
        self.leading: list[float] = []
        """When it began to lead, and when it lost that."""

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        await self.lease.acquire()
        self.leading.append(loop.time())
        await self.lease.lost()
        self.leading.append(loop.time())


def in_virtual_time(story: Coroutine[None, None, None]) -> None:
    run(lambda: story)


def test_the_first_process_leads_at_once_and_stays_leader() -> None:
    async def story() -> None:
        shelf = Shelf()
        one = Process(shelf, "one")
        task = asyncio.create_task(one.run())
        await asyncio.sleep(3600)
        assert one.leading == [0.0]
        assert shelf.record is not None
        assert shelf.record.holder == "one"
        task.cancel()

    in_virtual_time(story())


def test_a_standby_takes_over_within_fifteen_seconds_of_a_death() -> None:
    async def story() -> None:
        shelf = Shelf()
        one, two = Process(shelf, "one"), Process(shelf, "two", seed=1)
        tasks = [asyncio.create_task(each.run()) for each in (one, two)]
        await asyncio.sleep(100)
        assert len(two.leading) == 0
        one.view.broken = True  # to everybody else a dead process and one without a network are the same
        await asyncio.sleep(15)
        assert 100 < two.leading[0] <= 115
        assert len(one.leading) == 2
        assert one.leading[1] < two.leading[0], "the old leader knew before the new one began"
        for each in tasks:
            each.cancel()

    in_virtual_time(story())


def test_a_leader_that_cannot_renew_stops_before_anybody_can_take_over() -> None:
    async def story() -> None:
        one = Process(Shelf(), "one")
        task = asyncio.create_task(one.run())
        await asyncio.sleep(50)
        one.view.delay = 1000.0  # not refused: no answer at all
        await task
        assert one.leading[1] - 50 <= RENEW_SECONDS

    in_virtual_time(story())


def test_a_released_lease_is_taken_at_the_next_look() -> None:
    async def story() -> None:
        shelf = Shelf()
        one, two = Process(shelf, "one"), Process(shelf, "two")
        tasks = [asyncio.create_task(each.run()) for each in (one, two)]
        await asyncio.sleep(100)
        await one.lease.release()
        await asyncio.sleep(2.5)
        assert len(one.leading) == 2
        assert len(two.leading) == 1
        for each in tasks:
            each.cancel()

    in_virtual_time(story())


def test_a_lease_is_released_although_its_last_renewal_was_cut_off() -> None:
    async def story() -> None:
        shelf = Shelf()
        one = Process(shelf, "one")
        task = asyncio.create_task(one.run())
        await asyncio.sleep(5.0)
        assert shelf.record is not None
        shelf.write("one", shelf.record.transitions)  # it came through, but nobody heard of it
        await one.lease.release()
        assert shelf.record.holder == ""
        await task

    in_virtual_time(story())


def test_a_released_lease_of_somebody_else_is_left_alone() -> None:
    async def story() -> None:
        shelf = Shelf()
        one = Process(shelf, "one")
        task = asyncio.create_task(one.run())
        await asyncio.sleep(5.0)
        shelf.write("two", 1)
        await one.lease.release()
        assert shelf.record is not None
        assert shelf.record.holder == "two"
        await task

    in_virtual_time(story())


def test_the_leader_survives_the_deletion_of_its_lease() -> None:
    async def story() -> None:
        shelf = Shelf()
        one = Process(shelf, "one")
        task = asyncio.create_task(one.run())
        await asyncio.sleep(10)
        shelf.forget()
        await asyncio.sleep(10)
        assert len(one.leading) == 1
        assert shelf.record is not None
        task.cancel()

    in_virtual_time(story())


def test_a_lease_recreated_for_nobody_who_lives_locks_nobody_out() -> None:
    async def story() -> None:
        shelf = Shelf()
        one = Process(shelf, "one")
        task = asyncio.create_task(one.run())
        await asyncio.sleep(10)
        shelf.write("a ghost")
        await task
        assert len(one.leading) == 2
        again = Process(shelf, "one again")
        task = asyncio.create_task(again.run())
        await asyncio.sleep(LEASE_SECONDS + 3)
        assert len(again.leading) == 1
        task.cancel()

    in_virtual_time(story())


def test_a_lost_answer_to_a_renewal_does_not_cost_the_lead() -> None:
    async def story() -> None:
        shelf = Shelf()
        one = Process(shelf, "one")
        task = asyncio.create_task(one.run())
        await asyncio.sleep(10)
        one.view.loses_answers = True
        await asyncio.sleep(5)
        one.view.loses_answers = False
        await asyncio.sleep(60)
        assert len(one.leading) == 1
        task.cancel()

    in_virtual_time(story())


def test_asking_again_while_leading_renews_first() -> None:
    async def story() -> None:
        shelf = Shelf()
        one = Process(shelf, "one")
        task = asyncio.create_task(one.run())
        await asyncio.sleep(1)
        before = shelf.writes
        await one.lease.acquire()
        assert shelf.writes == before + 1
        task.cancel()

    in_virtual_time(story())


def test_asking_again_after_another_took_it_finds_the_lead_lost() -> None:
    async def story() -> None:
        shelf = Shelf()
        one = Process(shelf, "one")
        task = asyncio.create_task(one.run())
        await asyncio.sleep(1)
        shelf.write("two")
        proof = asyncio.create_task(one.lease.acquire())
        await asyncio.wait({proof, task}, return_when=asyncio.FIRST_COMPLETED)
        assert task.done()
        assert not proof.done()
        proof.cancel()

    in_virtual_time(story())


@pytest.mark.parametrize("seed", range(20))
def test_never_two_leaders_at_a_time(seed: int) -> None:
    async def story() -> None:
        random = Random(seed)
        shelf = Shelf()
        processes = [Process(shelf, f"process-{number}", seed=seed + number) for number in range(3)]

        async def live(process: Process) -> None:
            while True:
                await process.run()

        tasks = [asyncio.create_task(live(each)) for each in processes]
        for _ in range(60):
            await asyncio.sleep(random.uniform(1, 20))
            view = random.choice(processes).view
            view.broken, view.delay = random.random() < 0.4, random.choice([0.0, 0.3, 3.0, 8.0])
            view.loses_answers = random.random() < 0.2
            if random.random() < 0.1 and shelf.record is not None:
                shelf.record = replace(shelf.record, version=f"{shelf.record.version}-touched")
        end = asyncio.get_running_loop().time()
        reigns = sorted(
            (begin, finish)
            for each in processes
            for begin, finish in zip(each.leading[::2], [*each.leading[1::2], end], strict=False)
        )
        assert all(one[1] <= two[0] for one, two in itertools.pairwise(reigns)), reigns
        for each in tasks:
            each.cancel()

    in_virtual_time(story())
