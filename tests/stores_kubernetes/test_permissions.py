"""What the operator may do on a cluster, and what happens when it may no longer. The list here is the whole list."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from services.apiserver import ApiServer
from stores.conftest import connection, server
from stores_kubernetes.conftest import Cluster, Hand, Opening, until
from toolkeeper.clock import SystemClock
from toolkeeper.errors import Refused, ToolkeeperError, Unreachable
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.events import Event
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.resources.meta import Key
from toolkeeper.stores.kubernetes.digesting import digest_key
from toolkeeper.stores.kubernetes.election import ElectedLease
from toolkeeper.stores.kubernetes.installation import installation_of
from toolkeeper.stores.kubernetes.lease import LeaseObject
from toolkeeper.stores.kubernetes.store import KubernetesStore

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kubernetes,
    pytest.mark.parametrize(
        "cluster", ["real_cluster"], indirect=True
    ),  # permissions are the real server's business
]
TIME = Key("MCPServer", "default", "time")
KINDS = ["toolboxes", "mcpservers", "agentconnections"]
RULES: list[dict[str, Any]] = [
    {"apiGroups": ["toolkeeper.dev"], "resources": KINDS, "verbs": ["list", "watch", "patch"]},
    {"apiGroups": ["toolkeeper.dev"], "resources": [f"{each}/status" for each in KINDS], "verbs": ["patch"]},
    {
        "apiGroups": ["toolkeeper.dev"],
        "resources": [f"{each}/finalizers" for each in KINDS],
        "verbs": ["update"],
    },
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create"]},
    {
        "apiGroups": [""],
        "resources": ["secrets"],
        "verbs": ["create"],
    },  # once, in the operator's own namespace
]
ROLE = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles/operator"


class Operator:
    """A service account with a Role in `default`, which can be changed."""

    def __init__(self, hand: Hand, token: str) -> None:
        self.hand, self.token = hand, token

    async def may(self, rules: list[dict[str, Any]]) -> None:
        body = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "operator"},
        }
        await _apply(self.hand, ROLE, body | {"rules": rules})


async def _apply(hand: Hand, path: str, body: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/apply-patch+yaml"}
    params = {"fieldManager": "test", "force": "true"}
    answer = await hand.client.patch(path, content=json.dumps(body), headers=headers, params=params)
    assert answer.is_success, answer.text


@pytest.fixture
async def operator(hand: Hand) -> Operator:
    """The operator's account with just enough rights."""
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator"}}
    await _apply(hand, f"{accounts}/operator", body)
    asked = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": 3600},
    }
    answer = await hand.client.post(f"{accounts}/operator/token", json=asked)
    operator = Operator(hand, answer.json()["status"]["token"])
    await operator.may(RULES)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "operator"},
        "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": "default"}],
    }
    await _apply(hand, ROLE.replace("/roles/", "/rolebindings/"), binding)
    return operator


@pytest.fixture
async def store(cluster: Cluster, operator: Operator, opening: Opening) -> AsyncIterator[KubernetesStore]:
    """The store with the operator's rights, in its one namespace."""
    async with opening(login=lambda: cluster.login(token=operator.token), namespaces=["default"]) as store:
        yield store


async def listed(store: KubernetesStore) -> MCPServer:
    """The one server, once it is seen."""
    await until(lambda: store.believed(TIME))
    found = store.believed(TIME)
    assert isinstance(found, MCPServer)
    return found


async def refusal(call: Callable[[], Awaitable[object]]) -> ToolkeeperError:
    """How the call fails, once what was revoked is: that takes the server a moment."""
    async with asyncio.timeout(10):
        while True:
            try:
                await call()
            except ToolkeeperError as exc:
                return exc


async def acceptance(call: Callable[[], Awaitable[object]]) -> None:
    """Repeat the call until it works: what was granted takes a moment to hold."""
    async with asyncio.timeout(10):
        while True:
            with suppress(Unreachable):
                await call()
                return
            await asyncio.sleep(0.1)


async def patiently_list(store: KubernetesStore) -> None:
    await acceptance(store.list)


def active(found: MCPServer) -> MCPServer:
    return found.model_copy(update={"status": MCPServerStatus(phase="active")})


async def write_another_status(store: KubernetesStore) -> None:
    found = await listed(store)
    status = MCPServerStatus(phase="stopped", restarts=found.status.restarts + 1)
    await store.write_status(found.model_copy(update={"status": status}))


async def test_everything_the_operator_does_is_within_its_rights(
    kubernetes: ApiServer, store: KubernetesStore, hand: Hand
) -> None:
    await patiently_list(store)
    before = len(kubernetes.audit.read_text().splitlines())
    await hand.put(server())
    await hand.put_secret("slack", {"token": "1"})
    found = await store.set_finalizer(await listed(store), present=True)
    assert isinstance(found, MCPServer)
    await store.write_status(active(found))
    await store.secret("default", "slack")
    await hand.put(connection())
    await until(lambda: store.believed(connection().key))
    granted = store.believed(connection().key)
    assert isinstance(granted, AgentConnection)
    assert [await store.issue_token(granted) for _ in range(2)] == [True, False]
    for _ in range(2):
        await store.emit(Event(TIME, "Normal", "Created", "created", uid=found.metadata.uid))
    await installation_of(store.api, "default")
    await digest_key(store.api, "default", fresh=bytes)
    clock = SystemClock()
    registry = LeaseObject(store.api, "default", clock=clock, name="rights")
    lease = ElectedLease(registry, "one", clock=clock, random=Random(1))
    await lease.acquire()
    await lease.release()
    await hand.drop(TIME)
    await until(lambda: getattr(store.believed(TIME), "metadata").deletion_timestamp)  # noqa: B009 - may be None
    await store.set_finalizer(await listed(store), present=False)
    await until(lambda: store.believed(TIME) is None)
    await store.aclose()
    lines = [json.loads(line) for line in kubernetes.audit.read_text().splitlines()[before:]]
    own = [each for each in lines if each["user"]["username"] == "system:serviceaccount:default:operator"]
    refused = [each["requestURI"] for each in own if each.get("responseStatus", {}).get("code") == 403]
    assert own
    assert refused == []


async def test_a_missing_verb_is_named_and_its_return_is_enough(
    store: KubernetesStore, operator: Operator, hand: Hand
) -> None:
    await patiently_list(store)
    await hand.put(server())
    await listed(store)
    await operator.may([each for each in RULES if "mcpservers/status" not in each["resources"]])
    forbidden = await refusal(lambda: write_another_status(store))
    assert isinstance(forbidden, Unreachable)
    assert forbidden.reason == "Forbidden"
    assert 'cannot patch resource "mcpservers/status"' in str(forbidden)
    await operator.may(RULES)
    await acceptance(lambda: write_another_status(store))


async def test_a_forbidden_secret_is_refused(store: KubernetesStore, operator: Operator, hand: Hand) -> None:
    await hand.put_secret("slack", {"token": "1"})
    await operator.may([each for each in RULES if each["resources"] != ["secrets"]])
    forbidden = await refusal(lambda: store.secret("default", "slack"))
    assert isinstance(forbidden, Refused)
    assert forbidden.reason == "Forbidden"
    assert 'cannot get resource "secrets"' in str(forbidden)


async def test_changes_are_heard_again_once_revoked_rights_are_back(
    store: KubernetesStore, operator: Operator, hand: Hand
) -> None:
    await patiently_list(store)
    await hand.put(server())
    await listed(store)
    await operator.may([])
    async with asyncio.timeout(10):
        while not store.health().failure:
            store.look_soon()
            await asyncio.sleep(0.2)
    assert "cannot list resource" in store.health().failure
    assert store.health().alive
    await operator.may(RULES)
    await hand.put(server(image="time:2"))

    def image() -> str | None:
        found = store.believed(TIME)
        return found.spec.image if isinstance(found, MCPServer) else None

    await until(lambda: image() == "time:2", within=60)
    await until(lambda: not store.health().failure, within=60)
