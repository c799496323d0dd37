"""Letting go of a cluster before the operator is uninstalled, so that nothing hangs when it is deleted later."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from random import Random

import pytest

from stores.conftest import server
from stores_kubernetes.conftest import Cluster, Hand, until
from toolkeeper.clock import SystemClock
from toolkeeper.errors import NotFound, Refused
from toolkeeper.resources.meta import FINALIZER, Key
from toolkeeper.stores.kubernetes import documents
from toolkeeper.stores.kubernetes.api import Api
from toolkeeper.stores.kubernetes.election import ElectedLease
from toolkeeper.stores.kubernetes.lease import LeaseObject
from toolkeeper.stores.kubernetes.retirement import Patience, Retirement

pytestmark = pytest.mark.anyio
TIME = Key("MCPServer", "default", "time")
FOREIGN = "example.com/keep"


@pytest.fixture
async def api(cluster: Cluster, hand: Hand) -> AsyncIterator[Api]:
    """The cluster, with nobody holding the lease."""
    await hand.client.delete("/apis/coordination.k8s.io/v1/namespaces/default/leases/toolkeeper")
    api = Api(cluster.login)
    yield api
    await api.aclose()


class Said(list[str]):
    """What was told, step by step."""

    def __call__(self, sentence: str) -> None:
        self.append(sentence)


def elected(api: Api, name: str) -> ElectedLease:
    clock = SystemClock()
    return ElectedLease(LeaseObject(api, "default", clock=clock), name, clock=clock, random=Random(1))


def retirement(
    api: Api,
    *,
    say: Said | None = None,
    namespaces: tuple[str, ...] = (),
    abandon: bool = False,
    patience: Patience | None = None,
) -> Retirement:
    patience = patience or Patience(deletions=0.5, leadership=20.0)
    lease = elected(api, "retiring")
    return Retirement(
        api, lease, namespaces, Said() if say is None else say, abandon=abandon, patience=patience
    )


async def hold(hand: Hand, key: Key = TIME, *finalizers: str) -> None:
    """An object with our finalizer, and those of others."""
    await hand.put(server(key.name, namespace=key.namespace))
    patch = {"metadata": {"finalizers": [FINALIZER, *finalizers]}}
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = await hand.client.patch(documents.path(key), content=json.dumps(patch), headers=headers)
    assert answer.is_success, answer.text


async def test_our_finalizer_goes_and_nothing_else(api: Api, hand: Hand) -> None:
    await hold(hand, TIME, FOREIGN)
    before = await hand.get(TIME)
    assert await retirement(api).run() == 1
    after = await hand.get(TIME)
    assert after["metadata"]["finalizers"] == [FOREIGN]
    assert after["spec"] == before["spec"]
    assert await retirement(api).run() == 0


async def test_an_object_can_be_deleted_afterwards(api: Api, hand: Hand) -> None:
    await hold(hand)
    await retirement(api).run()
    await hand.drop(TIME)
    with pytest.raises(NotFound):
        await hand.get(TIME)


async def test_only_the_named_namespaces_are_touched(api: Api, hand: Hand) -> None:
    other = Key("MCPServer", "blue", "time")
    await hold(hand)
    await hold(hand, other)
    assert await retirement(api, namespaces=("blue",)).run() == 1
    assert (await hand.get(TIME))["metadata"]["finalizers"] == [FINALIZER]
    assert "finalizers" not in (await hand.get(other))["metadata"]


async def test_what_is_being_deleted_is_left_to_the_operator_and_nothing_is_touched(
    api: Api, hand: Hand
) -> None:
    await hold(hand)
    await hold(hand, Key("MCPServer", "default", "other"))
    await hand.drop(TIME)
    said = Said()
    with pytest.raises(Refused, match=r"MCPServer default/time is being deleted.*force-delete=true"):
        await retirement(api, say=said).run()
    for name in ("time", "other"):
        found = await hand.get(Key("MCPServer", "default", name))
        assert found["metadata"]["finalizers"] == [FINALIZER]
    assert said == ["waiting for MCPServer default/time, which is being deleted"]


async def test_it_goes_on_once_the_operator_has_cleaned_up(api: Api, hand: Hand) -> None:
    await hold(hand)
    await hand.drop(TIME)
    said = Said()
    patience = Patience(deletions=10.0, leadership=20.0, between=0.05)
    going = asyncio.create_task(retirement(api, say=said, patience=patience).run())
    await until(lambda: said)
    patch = {"metadata": {"finalizers": None}}
    headers = {"Content-Type": "application/merge-patch+json"}
    await hand.client.patch(documents.path(TIME), content=json.dumps(patch), headers=headers)
    assert await going == 0


async def test_what_is_being_deleted_can_be_abandoned_and_that_is_said(api: Api, hand: Hand) -> None:
    await hold(hand)
    await hand.drop(TIME)
    said = Said()
    assert await retirement(api, say=said, abandon=True).run() == 1
    with pytest.raises(NotFound):
        await hand.get(TIME)
    assert any("goes without its containers" in each for each in said)


@pytest.mark.slow  # two seconds until it asks again for the lease
async def test_nothing_is_released_while_an_operator_leads(api: Api, hand: Hand) -> None:
    await hold(hand)
    leader = elected(api, "leader")
    await leader.acquire()
    with pytest.raises(Refused, match="an operator still runs"):
        await retirement(api, patience=Patience(0.5, 0.2)).run()
    assert (await hand.get(TIME))["metadata"]["finalizers"] == [FINALIZER]
    going = asyncio.create_task(retirement(api).run())
    await leader.release()
    assert await going == 1
