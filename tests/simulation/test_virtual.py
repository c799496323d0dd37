from __future__ import annotations

import asyncio

import pytest

from toolkeeper.testing.virtual import START, Stuck, VirtualClock, never, run


def test_a_day_passes_in_no_time() -> None:
    async def main() -> float:
        await asyncio.sleep(86400.0)
        return asyncio.get_running_loop().time()

    assert run(main) == 86400.0  # a test may take minutes, no days


def test_timers_fire_in_the_order_of_their_times() -> None:
    async def main() -> list[int]:
        order: list[int] = []

        async def after(seconds: int) -> None:
            await asyncio.sleep(seconds)
            order.append(seconds)

        await asyncio.gather(*(after(seconds) for seconds in (30, 10, 20)))
        return order

    assert run(main) == [10, 20, 30]


def test_time_outs_and_cancellation_work_as_in_asyncio() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await never()
        return asyncio.get_running_loop().time()

    assert run(main) == 5.0


async def _race() -> str:
    order: list[str] = []

    async def runner(name: str) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            order.append(name)

    await asyncio.gather(*(runner(name) for name in "abcd"))
    return "".join(order)


def test_a_seed_decides_who_goes_first_and_decides_the_same_every_time() -> None:
    assert run(_race) == "abcd" * 3
    assert run(_race, seed=1) == run(_race, seed=1)
    assert len({run(_race, seed=seed) for seed in range(20)}) > 10


def test_a_wait_for_ever_is_an_error_and_not_a_hang() -> None:
    async def main() -> None:
        await never()

    with pytest.raises(Stuck, match="everything waits for ever"):
        run(main)


def test_the_wall_clock_can_jump_and_the_monotonic_one_cannot() -> None:
    async def main() -> None:
        clock = VirtualClock()
        assert clock.now() == START
        await asyncio.sleep(10.0)
        clock.jump(-3600.0)
        assert (clock.now() - START).total_seconds() == -3590.0
        assert clock.monotonic() == 10.0

    run(main)


def test_what_is_left_running_is_cancelled_at_the_end() -> None:
    ended: list[str] = []

    async def main() -> None:
        async def endless() -> None:
            try:
                await asyncio.sleep(1e9)
            finally:
                ended.append("cleaned up")

        task = asyncio.create_task(endless())
        await asyncio.sleep(1.0)
        assert not task.done()

    run(main)
    assert ended == ["cleaned up"]
