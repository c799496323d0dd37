"""What only a cluster has: Secrets, Events, the Lease, the ConfigMap, permissions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from random import Random

import pytest

from stores.conftest import server
from stores_kubernetes.conftest import Cluster, Hand, Opening, until
from toolkeeper.clock import SystemClock
from toolkeeper.errors import Invalid, NotFound, Refused, Unreachable
from toolkeeper.resources.events import Event
from toolkeeper.resources.meta import Key
from toolkeeper.stores.kubernetes.election import ElectedLease
from toolkeeper.stores.kubernetes.installation import installation_of
from toolkeeper.stores.kubernetes.lease import LeaseObject

pytestmark = pytest.mark.anyio
TIME = Key("MCPServer", "default", "time")


async def test_a_marked_secret_is_read_anew_each_time(opening: Opening, hand: Hand) -> None:
    async with opening() as store:
        await hand.put_secret("slack", {"token": "first"})
        assert (await store.secret("default", "slack")).values == {"token": "first"}
        await hand.put_secret("slack", {"token": "ä second"})
        assert (await store.secret("default", "slack")).values == {"token": "ä second"}


async def test_a_secret_without_the_mark_is_refused_with_the_command_that_marks_it(
    opening: Opening, hand: Hand
) -> None:
    await hand.put_secret("admin", {"token": "not yours"}, marked=False)
    async with opening() as store:
        with pytest.raises(Refused, match=r"label secret admin toolkeeper\.dev/credential=true") as refused:
            await store.secret("default", "admin")
    assert refused.value.reason == "SecretNotMarked"
    assert "not yours" not in str(refused.value)


async def test_a_missing_secret_says_how_to_make_it(opening: Opening) -> None:
    async with opening() as store:
        says = r"label it toolkeeper\.dev/credential=true, or toolkeeper\.dev/credential=toolbox if it opens a Toolbox"
        with pytest.raises(NotFound, match=says):
            await store.secret("default", "nothing")


async def test_repeated_events_become_one_series(opening: Opening, hand: Hand) -> None:
    uid = (await hand.put(server()))["metadata"]["uid"]
    event = Event(
        TIME, "Warning", "RolloutFailed", "exit code 1", uid=uid, at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    async with opening() as store:
        for _ in range(3):
            await store.emit(event)
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    events = (await hand.client.get(path, params={"fieldSelector": f"regarding.uid={uid}"})).json()["items"]
    events = [each for each in events if each["regarding"].get("uid") == uid]
    assert [(each["reason"], each["note"], each["series"]["count"]) for each in events] == [
        ("RolloutFailed", "exit code 1", 3)
    ]


async def test_a_flood_of_events_about_one_object_is_cut(opening: Opening, hand: Hand) -> None:
    uid = (await hand.put(server()))["metadata"]["uid"]
    async with opening() as store:
        for number in range(60):
            await store.emit(Event(TIME, "Normal", "Flood", f"drop {number}", uid=uid))
    path = "/apis/events.k8s.io/v1/namespaces/default/events"
    events = (await hand.client.get(path)).json()["items"]
    assert len([each for each in events if each["regarding"].get("uid") == uid]) == 25


@pytest.mark.kubernetes
async def test_kubectl_shows_what_happened_in_one_second_in_its_order(
    cluster: Cluster, opening: Opening, hand: Hand
) -> None:
    uid = (await hand.put(server()))["metadata"]["uid"]
    at, happened = (
        datetime(2026, 11, 21, 12, tzinfo=UTC),
        ["Placed", "Creating", "Pulling", "Waiting", "Ready"],
    )
    async with opening() as store:
        for reason in happened:
            await store.emit(Event(TIME, "Normal", reason, "in the same second", uid=uid, at=at))
    told = await asyncio.to_thread(cluster.kubectl, "describe", "mcpserver", "time")
    lines = [line.split() for line in told.splitlines() if "in the same second" in line]
    assert [line[1] for line in lines] == happened


@pytest.mark.kubernetes
async def test_kubectl_describe_shows_the_events(cluster: Cluster, opening: Opening, hand: Hand) -> None:
    uid = (await hand.put(server()))["metadata"]["uid"]
    async with opening() as store:
        await store.emit(Event(TIME, "Normal", "ContainerDeployed", "time runs on here", uid=uid))
    assert "time runs on here" in await asyncio.to_thread(cluster.kubectl, "describe", "mcpserver", "time")


async def test_the_installation_gets_its_id_once(opening: Opening, hand: Hand) -> None:
    await hand.client.delete("/api/v1/namespaces/default/configmaps/toolkeeper")
    async with opening() as store:
        both = await asyncio.gather(*(installation_of(store.api, "default") for _ in range(2)))
        again = await installation_of(store.api, "default")
        assert {each.id for each in both} == {again.id}


async def test_an_unusable_installation_id_is_not_guessed_around(opening: Opening, hand: Hand) -> None:
    path = "/api/v1/namespaces/blue/configmaps"
    body = {"metadata": {"name": "toolkeeper"}, "data": {"installation": "No Name"}}
    await hand.client.post(path, json=body)
    async with opening() as store:
        with pytest.raises(Invalid, match="blue/toolkeeper"):
            await installation_of(store.api, "blue")


@pytest.mark.slow
async def test_the_lease_goes_from_hand_to_hand(opening: Opening, hand: Hand) -> None:
    await hand.client.delete("/apis/coordination.k8s.io/v1/namespaces/default/leases/toolkeeper")
    clock = SystemClock()
    async with opening() as store:
        one, two = (
            ElectedLease(LeaseObject(store.api, "default", clock=clock), name, clock=clock, random=Random(1))
            for name in ("one", "two")
        )
        await one.acquire()
        second = asyncio.create_task(two.acquire())
        await asyncio.sleep(0.1)
        assert not second.done()
        await one.acquire()  # it is still the leader
        await one.release()
        await asyncio.wait_for(second, 60)
        said = (
            await hand.client.get("/apis/coordination.k8s.io/v1/namespaces/default/leases/toolkeeper")
        ).json()
        assert said["spec"]["holderIdentity"] == "two"
        assert said["spec"]["leaseTransitions"] == 1
        await two.release()


async def test_a_cluster_without_our_kinds_says_what_to_install(opening: Opening) -> None:
    async with opening() as store:
        with pytest.raises(Unreachable, match="CustomResourceDefinitions"):
            await store.api.request("GET", "/apis/toolkeeper.dev/v1alpha1/namespaces/default/gadgets")


@pytest.mark.kubernetes
async def test_a_change_by_kubectl_is_heard(cluster: Cluster, opening: Opening, hand: Hand) -> None:
    await hand.put(server())
    async with opening() as store:
        await store.list()
        await asyncio.to_thread(
            cluster.kubectl, "patch", "mcpserver", "time", "--type=merge", "-p", '{"spec":{"image":"time:3"}}'
        )

        def image() -> str | None:
            found = store.believed(TIME)
            return getattr(found.spec, "image", None) if found else None

        await until(lambda: image() == "time:3")
