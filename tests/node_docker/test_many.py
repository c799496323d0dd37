"""Fifty servers on one host."""

from __future__ import annotations

import anyio
import pytest

from node_docker.conftest import Place, ask

pytestmark = [pytest.mark.docker, pytest.mark.anyio, pytest.mark.slow]


async def test_fifty_servers_start_on_one_host_with_two_networks(place: Place, tiny_image: str) -> None:
    four = anyio.CapacityLimiter(4)
    command = ("sleep", "600")

    async def one(n: int) -> None:
        async with four:
            await place.up(ask(f"s{n}", image=tiny_image, command=command))

    async with anyio.create_task_group() as group:
        for n in range(50):
            group.start_soon(one, n)
    sight = await place.runtime.look()
    assert {each.container.state for each in sight.containers.values()} == {"running"}
    assert len({each.container.address for each in sight.containers.values()}) == 50
    mine = f"toolkeeper.dev/installation={place.installation}"
    assert len(place.engine.networks.list(filters={"label": mine})) == 1
