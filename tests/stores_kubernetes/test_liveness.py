"""When the watch counts as dead: while it really is, and the server answers otherwise; never for anything else.

One watch lasts a second here, so that the bound, six watches' time, is six seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from stores.conftest import server
from stores_kubernetes.conftest import Cluster, Hand, Opening, until
from stores_kubernetes.door import Door
from toolkeeper.resources.meta import Key
from toolkeeper.stores.kubernetes.feed import DEAF_AFTER
from toolkeeper.stores.kubernetes.store import KubernetesStore

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
TIME = Key("MCPServer", "default", "time")
WATCH = 1
BOUND = 2.0 * DEAF_AFTER * WATCH
LONGER = BOUND + 3
IN_MEMORY = pytest.mark.parametrize("cluster", ["fake_cluster"], indirect=True)
"""Where the door answers, it does not matter who is behind it."""


@pytest.fixture
async def store(cluster: Cluster, door: Door, opening: Opening) -> AsyncIterator[KubernetesStore]:
    """A store that watches through the door, and renews its watches every second."""
    async with opening(login=lambda: cluster.login(server=door.url), watch_seconds=WATCH) as store:
        await until(lambda: door.requests["WATCH"] >= 9)
        await store.list()
        yield store


def alive(store: KubernetesStore) -> bool:
    return store.health().alive


async def stays_alive(store: KubernetesStore, seconds: float) -> None:
    """Whoever looks at any time sees that it lives."""
    async with asyncio.timeout(seconds + 30):
        for _ in range(round(seconds / 0.1)):
            assert alive(store), store.health()
            await asyncio.sleep(0.1)


async def test_a_watch_that_hangs_while_the_server_answers_is_dead_until_it_flows_again(
    store: KubernetesStore, door: Door, hand: Hand
) -> None:
    door.watches_flow.clear()
    await stays_alive(store, BOUND / 2)
    await until(lambda: not alive(store), within=BOUND + 5)
    assert not store.health().failure, "the server answers"
    door.watches_flow.set()
    await until(lambda: alive(store))
    await hand.put(server())
    await until(lambda: store.believed(TIME))


async def test_a_watch_that_cannot_be_begun_again_is_dead(store: KubernetesStore, door: Door) -> None:
    door.drops_watches = True
    door.cut()
    await until(lambda: not alive(store), within=BOUND + 5)


async def test_while_the_watch_is_deaf_lists_show_what_it_does_not_tell(
    store: KubernetesStore, door: Door, hand: Hand
) -> None:
    door.watches_flow.clear()
    await hand.put(server())
    await until(lambda: store.believed(TIME), within=LONGER)


async def test_a_watch_of_which_nothing_is_heard_because_nothing_happens_lives(
    store: KubernetesStore,
) -> None:
    await stays_alive(store, LONGER)


@IN_MEMORY
async def test_a_server_that_is_away_for_long_is_no_death_of_the_watch(
    store: KubernetesStore, door: Door
) -> None:
    door.shut = True
    door.cut()
    await stays_alive(store, LONGER)
    door.shut = False
    await stays_alive(store, BOUND / 2)


@IN_MEMORY
@pytest.mark.parametrize("status", [403, 429, 500])
async def test_a_long_storm_of_refusals_is_no_death_of_the_watch(
    store: KubernetesStore, door: Door, status: int
) -> None:
    door.refuses, door.retry_after = status, "1" if status == 429 else ""
    door.cut()
    await stays_alive(store, LONGER)
