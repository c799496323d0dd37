"""Whatever breaks between the operator and its cluster: noticed, said, recovered from, and nothing lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from services.apiserver import ApiServer
from stores.conftest import server
from stores_kubernetes.conftest import Cluster, Hand, Opening, until
from stores_kubernetes.door import Door
from toolkeeper.errors import Conflict, Unreachable
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.resources.meta import Key
from toolkeeper.stores.kubernetes.store import KubernetesStore

pytestmark = pytest.mark.anyio
TIME = Key("MCPServer", "default", "time")


@pytest.fixture
async def store(cluster: Cluster, door: Door, opening: Opening, hand: Hand) -> AsyncIterator[KubernetesStore]:
    """A store that goes through the door, and already watches."""
    async with opening(login=lambda: cluster.login(server=door.url)) as store:
        await until(lambda: door.requests["WATCH"] >= 9)
        await store.list()
        yield store


def image(store: KubernetesStore) -> Callable[[], str | None]:
    def read() -> str | None:
        found = store.believed(TIME)
        return found.spec.image if isinstance(found, MCPServer) else None

    return read


async def test_a_deletion_during_a_gap_of_the_watch_is_noticed(
    store: KubernetesStore, door: Door, hand: Hand
) -> None:
    await hand.put(server())
    await until(lambda: store.believed(TIME))
    door.shut = True
    door.cut()
    await hand.drop(TIME)
    door.expires_watches = True  # what kopf makes of it is a list without a comparison
    door.shut = False
    watch = store.watch()
    await asyncio.wait_for(anext(watch), 20)
    await until(lambda: store.believed(TIME) is None)
    assert (await store.list()).resources == ()


async def test_an_object_recreated_during_a_gap_is_another_one(
    store: KubernetesStore, door: Door, hand: Hand
) -> None:
    first = (await hand.put(server()))["metadata"]["uid"]
    await until(lambda: store.believed(TIME))
    stale = store.believed(TIME)
    assert isinstance(stale, MCPServer)
    door.shut = True
    door.cut()
    await hand.drop(TIME)
    await hand.put(server())
    door.shut = False
    with pytest.raises(Conflict):
        await store.write_status(stale.model_copy(update={"status": MCPServerStatus(phase="active")}))
    await until(lambda: getattr(store.believed(TIME), "metadata", None) and _uid(store) != first, within=20)
    assert (await hand.get(TIME)).get("status", {}).get("phase") in (None, "unknown")


def _uid(store: KubernetesStore) -> str:
    found = store.believed(TIME)
    return found.metadata.uid if found else ""


async def test_a_watch_that_tells_nothing_is_caught_by_the_next_list(
    cluster: Cluster, door: Door, opening: Opening, hand: Hand
) -> None:
    door.silences_watches = True
    async with opening(login=lambda: cluster.login(server=door.url), list_every=1.0) as store:
        await until(lambda: door.requests["WATCH"] >= 9)
        await store.list()
        await hand.put(server())
        await until(lambda: store.believed(TIME))
        assert store.health().missed > 0


async def test_after_an_outage_of_the_server_changes_are_heard_again(
    store: KubernetesStore, door: Door, hand: Hand
) -> None:
    await hand.put(server())
    await until(lambda: store.believed(TIME))
    door.shut = True
    door.cut()
    with pytest.raises(Unreachable):
        await store.api.request("GET", "/version")
    assert store.health().alive, "the server is away, the watch is not dead"
    await hand.put(server(image="time:2"))
    door.shut = False
    await until(lambda: image(store)() == "time:2", within=30)
    await hand.put(server(image="time:3"))
    await until(lambda: image(store)() == "time:3", within=30)


@pytest.mark.kubernetes
@pytest.mark.parametrize(
    "cluster", ["real_cluster"], indirect=True
)  # the one in memory would forget everything
async def test_a_restart_of_the_server_is_survived(
    kubernetes: ApiServer, cluster: Cluster, opening: Opening, hand: Hand
) -> None:
    async with opening() as store:
        await store.list()
        await hand.put(server())
        await until(lambda: store.believed(TIME))
        await asyncio.to_thread(kubernetes.stop)
        await asyncio.to_thread(kubernetes.start)
        async with cluster.async_client() as client:
            await Hand(client).put(server(image="time:2"))
        await until(lambda: image(store)() == "time:2", within=30)
        found = store.believed(TIME)
        assert isinstance(found, MCPServer)
        await store.write_status(found.model_copy(update={"status": MCPServerStatus(phase="active")}))


@pytest.mark.slow  # servers count in whole seconds
async def test_a_write_waits_as_long_as_the_server_asks(
    store: KubernetesStore, door: Door, hand: Hand
) -> None:
    await hand.put(server())
    await until(lambda: store.believed(TIME))
    found = store.believed(TIME)
    assert isinstance(found, MCPServer)
    door.refuses, door.retry_after = 429, "1"
    writing = asyncio.create_task(
        store.write_status(found.model_copy(update={"status": MCPServerStatus(phase="active")}))
    )
    await until(lambda: door.requests["PATCH"] >= 1)
    door.refuses = None
    written = await writing
    assert isinstance(written, MCPServer)
    assert written.status.phase == "active"
    assert door.requests["PATCH"] == 2


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_storm_is_unreachable_and_passes(
    store: KubernetesStore, door: Door, hand: Hand, status: int
) -> None:
    await hand.put(server())
    await until(lambda: store.believed(TIME))
    found = store.believed(TIME)
    assert isinstance(found, MCPServer)
    changed = found.model_copy(update={"status": MCPServerStatus(phase="active")})
    door.refuses, door.retry_after = status, "0"
    with pytest.raises(Unreachable, match="stormy"):
        await store.write_status(changed)
    door.refuses = None
    await store.write_status(changed)


@pytest.mark.slow
async def test_at_rest_nothing_is_written_and_nothing_is_listed(
    store: KubernetesStore, door: Door, hand: Hand
) -> None:
    await hand.put(server())
    await until(lambda: store.believed(TIME))
    found = store.believed(TIME)
    assert isinstance(found, MCPServer)
    await store.write_status(found.model_copy(update={"status": MCPServerStatus(phase="active")}))
    await asyncio.sleep(0.5)  # what was under way arrives
    before = door.requests.copy()
    again = store.believed(TIME)
    assert again is not None
    await store.write_status(again)
    await store.set_finalizer(again, present=False)
    await store.list()
    await asyncio.sleep(1)
    assert door.requests == before
