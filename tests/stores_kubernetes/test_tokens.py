"""The Secrets that Toolkeeper makes for agents: strong, owned, never in place of somebody else's."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from stores.conftest import connection
from stores.test_contract import found_connection, issued
from stores_kubernetes.conftest import Hand, Opening
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.stores.kubernetes.store import KubernetesStore

pytestmark = pytest.mark.anyio
SECRETS = "/api/v1/namespaces/default/secrets"


async def kept(hand: Hand, name: str = "alice-time-token") -> dict[str, Any]:
    document: dict[str, Any] = (await hand.client.get(f"{SECRETS}/{name}")).json()
    return document


async def declared(store: KubernetesStore, hand: Hand, resource: AgentConnection) -> AgentConnection:
    await hand.put(resource)
    store.look_soon()
    await store._list()
    return await found_connection(store, resource.key)


async def test_a_token_is_strong_and_goes_with_its_connection(opening: Opening, hand: Hand) -> None:
    async with opening() as store:
        resource = await declared(store, hand, connection())
        assert await issued(store, resource) == "made"
    secret = await kept(hand)
    assert len(base64.urlsafe_b64decode(base64.b64decode(secret["data"]["token"]) + b"=")) == 32
    assert secret["immutable"] is True
    assert secret["type"] == "toolkeeper.dev/agent-token"
    assert secret["metadata"]["labels"] == {"toolkeeper.dev/agent-token": "alice-time"}
    (owner,) = secret["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("AgentConnection", "alice-time")
    assert owner["uid"] == resource.metadata.uid


async def test_a_deleted_token_is_replaced_by_another(opening: Opening, hand: Hand) -> None:
    async with opening() as store:
        resource = await declared(store, hand, connection())
        await issued(store, resource)
        first = (await kept(hand))["data"]["token"]
        await hand.client.delete(f"{SECRETS}/alice-time-token")
        assert await issued(store, resource) == "made"
        assert (await kept(hand))["data"]["token"] != first


@pytest.mark.parametrize("marked", [False, True], ids=["unmarked", "marked"])
async def test_a_secret_of_somebody_else_is_left_as_it_is(marked: bool, opening: Opening, hand: Hand) -> None:
    await hand.put_secret("database", {"token": "theirs"}, marked=marked)
    before = await kept(hand, "database")
    async with opening() as store:
        resource = await declared(store, hand, connection(token="database"))
        assert await issued(store, resource) == "TokenSecretTaken"
    assert await kept(hand, "database") == before


async def test_the_token_of_a_former_connection_of_that_name_is_not_taken_over(
    opening: Opening, hand: Hand
) -> None:
    async with opening() as store:
        former = await declared(store, hand, connection())
        await issued(store, former)
        await hand.drop(former.key)
        new = await declared(store, hand, connection())
        assert new.metadata.uid != former.metadata.uid
        assert await issued(store, new) == "TokenSecretTaken"
        await hand.client.delete(
            f"{SECRETS}/alice-time-token"
        )  # what the cluster does with what has no owner left
        assert await issued(store, new) == "made"
