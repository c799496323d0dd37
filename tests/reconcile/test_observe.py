from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from toolkeeper.errors import Refused
from toolkeeper.planning.observed import Snapshot, Unreachable
from toolkeeper.reconcile.observe import NEVER_SEEN, Watch
from toolkeeper.testing.fake_toolbox import FakeToolbox
from toolkeeper.testing.virtual import VirtualClock, in_virtual_time


class Polls:
    """A toolbox that counts how it is asked."""

    def __init__(self, box: FakeToolbox) -> None:
        self._box = box
        self.asked: list[tuple[float, str, float]] = []
        self.closed = False

    async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
        self.asked.append((asyncio.get_running_loop().time(), since, wait))
        return await self._box.state(installation, since=since, wait=wait)

    async def aclose(self) -> None:
        self.closed = True


class Rig:
    def __init__(self) -> None:
        self.box = FakeToolbox()
        self.polls = Polls(self.box)
        self.news = 0
        self.watch = Watch(
            lambda: self.polls,  # type: ignore[arg-type,return-value]  # only what a watch needs
            "test",
            self._changed,
            clock=VirtualClock(),
            rng=Random(1),
        )

    def _changed(self) -> None:
        self.news += 1

    def seen(self) -> bool:
        return isinstance(self.watch.observation, Snapshot)

    def lost(self) -> bool:
        return isinstance(self.watch.observation, Unreachable)

    def settled(self) -> bool:
        return self.watch.settled

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[Rig]:
        task = asyncio.create_task(self.watch.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@in_virtual_time
async def test_before_the_first_answer_the_toolbox_is_not_known_and_nothing_is_empty() -> None:
    rig = Rig()
    assert rig.watch.observation == NEVER_SEEN
    assert rig.watch.last_seen is None


@in_virtual_time
async def test_a_change_on_the_host_is_seen_at_once() -> None:
    async with Rig().watching() as rig:
        await asyncio.sleep(10.0)
        before = rig.news
        rig.box.add_stranger("x")
        await asyncio.sleep(0.01)
        assert rig.news == before + 1
        assert isinstance(rig.watch.observation, Snapshot)
        assert rig.watch.observation.foreign == 1


@in_virtual_time
async def test_a_quiet_toolbox_costs_one_long_poll_at_a_time_and_no_decision() -> None:
    async with Rig().watching() as rig:
        await asyncio.sleep(1.0)
        before = rig.news
        await asyncio.sleep(300.0)
        assert rig.news == before
        assert len(rig.polls.asked) <= 12


@in_virtual_time
async def test_one_lost_answer_is_a_doubt_and_a_second_one_is_a_loss() -> None:
    async with Rig().watching() as rig:
        await asyncio.sleep(1.0)
        rig.box.unplug()
        await asyncio.sleep(0.01)
        assert rig.seen()
        assert not rig.settled()
        await asyncio.sleep(5.0)
        assert rig.lost()
        assert rig.settled()
        assert rig.watch.last_seen is not None


@in_virtual_time
async def test_a_toolbox_that_swallows_everything_is_unreachable_after_a_while() -> None:
    async with Rig().watching() as rig:
        await asyncio.sleep(1.0)
        rig.box.unplug(silently=True)
        await asyncio.sleep(60.0)
        assert rig.lost()
        rig.box.plug()
        await asyncio.sleep(40.0)
        assert rig.seen()


@in_virtual_time
async def test_an_unreachable_toolbox_is_asked_ever_more_rarely_and_reported_once() -> None:
    rig = Rig()
    rig.box.unplug()
    async with rig.watching():
        await asyncio.sleep(600.0)
        assert len(rig.polls.asked) < 80
        assert rig.news == 1


@in_virtual_time
async def test_who_is_not_let_in_knows_why() -> None:
    class Closed(Polls):
        async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
            raise Refused("the token is not accepted", reason="AuthenticationFailed")

    rig = Rig()
    rig.polls = Closed(rig.box)
    async with rig.watching():
        await asyncio.sleep(1.0)
        assert rig.watch.observation == Unreachable("AuthenticationFailed", "the token is not accepted")


@in_virtual_time
async def test_after_acting_only_a_poll_that_begins_later_counts() -> None:
    async with Rig().watching() as rig:
        await asyncio.sleep(1.0)
        with rig.watch.acting():
            assert not rig.polls.closed
        assert not rig.settled()
        asked = len(rig.polls.asked)
        await asyncio.sleep(2.0)
        assert rig.settled()
        assert rig.polls.asked[asked][1:] == ("", 0.0)


@in_virtual_time
async def test_no_poll_begins_while_something_is_done() -> None:
    async with Rig().watching() as rig:
        await asyncio.sleep(1.0)
        with rig.watch.acting():
            rig.box.add_stranger("x")
            await asyncio.sleep(0.1)
            asked = len(rig.polls.asked)
            await asyncio.sleep(10.0)
            assert len(rig.polls.asked) == asked


@in_virtual_time
async def test_a_look_that_was_asked_for_is_fresh_on_time_and_told() -> None:
    async with Rig().watching() as rig:
        await asyncio.sleep(1.0)
        before, now = rig.news, asyncio.get_running_loop().time()
        rig.watch.wake(7.0)
        await asyncio.sleep(6.9)
        assert rig.news == before
        await asyncio.sleep(0.2)
        assert rig.news == before + 1
        assert rig.watch.observed_at >= now + 6.9


@in_virtual_time
async def test_a_toolbox_that_answers_long_polls_at_once_is_not_asked_in_a_tight_loop() -> None:
    class Hasty(Polls):
        async def state(self, installation: str, *, since: str = "", wait: float = 0.0) -> Snapshot:
            return await super().state(installation)

    rig = Rig()
    rig.polls = Hasty(rig.box)
    async with rig.watching():
        await asyncio.sleep(60.0)
        assert len(rig.polls.asked) < 70


@in_virtual_time
async def test_a_toolbox_whose_docker_does_not_answer_says_nothing_about_containers() -> None:
    async with Rig().watching() as rig:
        await asyncio.sleep(1.0)
        seen = rig.watch.last_seen
        rig.box.docker_down()
        await asyncio.sleep(1.0)
        assert not rig.watch.answers()
        assert rig.watch.last_seen is seen


@in_virtual_time
async def test_a_watch_that_ends_gives_its_connections_back() -> None:
    async with Rig().watching() as rig:
        await asyncio.sleep(1.0)
    assert rig.polls.closed
