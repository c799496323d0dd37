"""Looking at containers: as often as something changed, and no more."""

from __future__ import annotations

from functools import partial

import pytest

from toolkeeper.planning.observed import Snapshot
from toolkeeper.testing.fake_runtime import FakeRuntime
from toolkeeper.testing.nodes import INSTALLATION, container_of, request_of, standing

pytestmark = pytest.mark.anyio
FIRST, SECOND = container_of("first"), container_of("second")


async def test_whoever_made_a_container_looks_at_it_and_nobody_else_does_so_again() -> None:
    runtime = FakeRuntime()
    async with standing(runtime) as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        for server, name in (("first", FIRST), ("second", SECOND)):
            await stand.client.create(claim, name, request_of(server))
            await stand.until(partial(_runs, name))
        runtime.change(SECOND, restarts=1)
        await stand.until(lambda now: 1 in {each.restarts for each in now.containers})
        assert runtime.looks == [FIRST, SECOND, SECOND]


def _runs(name: str, now: Snapshot) -> bool:
    return (name, "running") in {(each.name, each.state) for each in now.containers}
