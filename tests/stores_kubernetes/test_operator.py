"""The whole operator on a cluster; only the toolbox is ours."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest

from stores.conftest import connection, server, toolbox
from stores_kubernetes.conftest import Cluster, Hand, Opening, until
from toolkeeper.clock import SystemClock
from toolkeeper.planning.world import Policy
from toolkeeper.reconcile.operator import Operator
from toolkeeper.reconcile.settings import OperatorSettings
from toolkeeper.resources.conditions import is_true
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import FINALIZER, Key
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.stores.kubernetes.election import ElectedLease
from toolkeeper.stores.kubernetes.lease import LeaseObject
from toolkeeper.stores.kubernetes.store import KubernetesStore
from toolkeeper.testing.fake_toolbox import FakeImage, FakeToolbox

pytestmark = pytest.mark.anyio
TIME = Key("MCPServer", "default", "time")
QUICK = FakeImage(pull=0.05, start=0.01, handshake=0.02)


@asynccontextmanager
async def operating(
    store: KubernetesStore, host: FakeToolbox, name: str, settings: OperatorSettings | None = None
) -> AsyncIterator[asyncio.Task[None]]:
    """An operator that runs for as long as the context."""
    clock = SystemClock()
    operator = Operator(
        store,
        lambda _: host,
        ElectedLease(LeaseObject(store.api, "default", clock=clock), name, clock=clock, random=Random(1)),
        policy=Policy(installation="tests"),
        digest_key=b"k" * 32,
        clock=clock,
        rng=Random(1),
        settings=settings,
    )
    task = asyncio.create_task(operator.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def host() -> FakeToolbox:
    return FakeToolbox("here", images={"time:1": QUICK, "time:2": QUICK})


@pytest.fixture(autouse=True)
async def _no_lease(hand: Hand) -> None:
    await hand.client.delete("/apis/coordination.k8s.io/v1/namespaces/default/leases/toolkeeper")


def seen(store: KubernetesStore) -> MCPServer | None:
    found = store.believed(TIME)
    return found if isinstance(found, MCPServer) else None


def is_ready(store: KubernetesStore, generation: int) -> bool:
    found = seen(store)
    return (
        found is not None
        and found.status.observed_generation == generation
        and is_true(found.status.conditions, "Ready")
    )


async def first_ready(store: KubernetesStore, hand: Hand) -> None:
    """Declare a toolbox and a server on it, and wait until that is Ready."""
    await hand.put(toolbox())
    await hand.put(server())
    await until(lambda: is_ready(store, 1))


async def test_a_server_is_deployed_changed_and_cleaned_up(
    opening: Opening, hand: Hand, host: FakeToolbox
) -> None:
    async with opening() as store, operating(store, host, "one"):
        await first_ready(store, hand)
        assert len(host.of("default", "time")) == 1
        assert (await hand.get(TIME))["metadata"]["finalizers"] == [FINALIZER]
        await hand.put(server(image="time:2"))
        await until(lambda: is_ready(store, 2) and len(host.of("default", "time")) == 1, within=30)
        await hand.drop(TIME)
        await until(lambda: seen(store) is None, within=30)
        assert host.of("default", "time") == []


async def test_an_agent_gets_a_token_that_shows_nowhere_but_in_its_secret(
    opening: Opening, hand: Hand, host: FakeToolbox, caplog: pytest.LogCaptureFixture
) -> None:
    key = connection().key

    def issued() -> bool:
        found = store.believed(key)
        return found is not None and is_true(found.status.conditions, "TokenIssued")

    caplog.set_level("DEBUG")
    async with opening() as store, operating(store, host, "one"):
        await hand.put(toolbox())
        await hand.put(server())
        await hand.put(connection())
        await until(issued, within=30)
    secret = (await hand.client.get("/api/v1/namespaces/default/secrets/alice-time-token")).json()
    token = base64.b64decode(secret["data"]["token"]).decode()
    listed = await hand.client.get("/apis/events.k8s.io/v1/namespaces/default/events")
    everywhere = [json.dumps(await hand.get(each)) for each in (key, TIME)] + [listed.text, caplog.text]
    assert all(token not in text and secret["data"]["token"] not in text for text in everywhere)


async def test_what_was_deleted_while_no_operator_ran_is_cleaned_up(
    opening: Opening, hand: Hand, host: FakeToolbox
) -> None:
    async with opening() as store, operating(store, host, "one"):
        await first_ready(store, hand)
    await hand.drop(TIME)
    async with opening() as store, operating(store, host, "two"):
        await until(lambda: host.of("default", "time") == [], within=30)
        await until(lambda: store.health().listed_ago is not None and seen(store) is None, within=30)


@pytest.mark.slow
async def test_at_rest_the_operator_writes_nothing_but_its_lease(
    cluster: Cluster, opening: Opening, hand: Hand, host: FakeToolbox
) -> None:
    async with opening() as store, operating(store, host, "one"):
        await first_ready(store, hand)
        await until(lambda: is_all_told(store, 1, toolbox().key))
        before = [(await hand.get(each))["metadata"]["resourceVersion"] for each in (TIME, toolbox().key)]
        await asyncio.sleep(3)
        after = [(await hand.get(each))["metadata"]["resourceVersion"] for each in (TIME, toolbox().key)]
        assert before == after


async def test_the_standby_does_nothing_until_the_leader_leaves(
    opening: Opening, hand: Hand, host: FakeToolbox
) -> None:
    async with opening() as one, opening() as two:
        async with operating(one, host, "one"):
            await first_ready(one, hand)
            async with operating(two, host, "two") as standby:
                await asyncio.sleep(0.5)
                assert host.epochs == {"tests": 1}
                assert not standby.done()
        async with operating(two, host, "two"):
            await hand.put(server(image="time:2"))
            await until(lambda: is_ready(two, 2) and host.epochs == {"tests": 2}, within=30)


@pytest.mark.slow
async def test_servers_at_rest_cost_no_write_but_the_lease(opening: Opening, hand: Hand) -> None:
    """All that recurs within ten minutes recurs here within three seconds: lists, watches, passes.

    Ten minutes and a thousand servers have the loop alone, in `tests/reconcile/test_operator.py`.
    """
    count = 100
    host = FakeToolbox("here", images={"time:1": FakeImage(pull=0, start=0, handshake=0)})
    hurried = OperatorSettings(resync=1.5)
    async with opening(list_every=1.5, watch_seconds=1) as store, operating(store, host, "one", hurried):
        await hand.put(toolbox("here"))
        for number in range(count):
            await hand.put(server(f"server-{number:04d}"))
        await until(lambda: is_all_told(store, count, toolbox("here").key), within=120)
        before, lists = dict(store.api.sent), store.api.sent["GET"]
        await asyncio.sleep(3)
        sent = {method: count - before.get(method, 0) for method, count in store.api.sent.items()}
        assert store.api.sent["GET"] > lists
        assert sent["PATCH"] == 0
        assert sent["POST"] == 0
        assert sent["PUT"] <= 2  # the lease is renewed every two seconds


def is_all_told(store: KubernetesStore, count: int, box: Key) -> bool:
    """Whether so many servers are Ready, and nothing is left to be said about them or their toolbox."""
    told = store.believed(box)
    return isinstance(told, Toolbox) and told.status.ready == count and store.is_quiet()


async def test_a_toolbox_deleted_before_its_server_goes_after_it(
    opening: Opening, hand: Hand, host: FakeToolbox
) -> None:
    hurried = OperatorSettings(last_call=3.0)
    async with opening() as store, operating(store, host, "one", hurried):
        await first_ready(store, hand)
        await hand.drop(toolbox().key)
        await hand.drop(TIME)
        await until(lambda: seen(store) is None and store.believed(toolbox().key) is None, within=30)
        assert host.of("default", "time") == []
