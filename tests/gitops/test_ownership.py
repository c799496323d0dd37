"""Nothing of a user's object is ours but its status and one finalizer: whoever owns it in Git sees no drift."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from stores.conftest import connection, server, toolbox
from stores_kubernetes.conftest import Cluster, Hand, Opening, until
from stores_kubernetes.test_operator import QUICK, operating
from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.conditions import find, is_true
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import FINALIZER, Key
from toolkeeper.stores.kubernetes.api import FIELD_MANAGER
from toolkeeper.stores.kubernetes.store import KubernetesStore
from toolkeeper.testing.fake_toolbox import FakeImage, FakeToolbox

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.kubernetes,
    pytest.mark.parametrize("cluster", ["real_cluster"], indirect=True),
]
TIME = server().key
EVERYTHING: tuple[Key, ...] = (TIME, toolbox().key, connection().key)
TRACES = frozenset({"managedFields", "resourceVersion", "finalizers"})
"""What the API server keeps about writes, and our one field."""


def written(resource: Resource) -> dict[str, Any]:
    """Its spec as a person writes it; a quantity may be a number."""
    spec = resource.spec.as_declared()
    return spec | ({"resources": {"cpu": 2, "memory": 536870912}} if resource.kind == "MCPServer" else {})


def declared(resource: Resource, **annotations: str) -> dict[str, Any]:
    """A manifest as a person has it in Git, with labels and annotations that mean nothing to us."""
    return {
        "apiVersion": "toolkeeper.dev/v1alpha1",
        "kind": resource.kind,
        "metadata": {
            "name": resource.metadata.name,
            "namespace": "default",
            "labels": {"team": "blue"},
            "annotations": {"example.com/reviewed-by": "ada", **annotations},
        },
        "spec": written(resource),
    }


def theirs(document: dict[str, Any]) -> dict[str, Any]:
    """The object without what it is allowed to us to write."""
    left = copy.deepcopy(document)
    left.pop("status", None)
    left["metadata"] = {name: value for name, value in left["metadata"].items() if name not in TRACES}
    return left


def our_fields(document: dict[str, Any]) -> set[str]:
    """`status` and the paths of all other fields that the API server notes as ours."""
    found: set[str] = set()
    for entry in document["metadata"]["managedFields"]:
        if entry["manager"] == FIELD_MANAGER:
            sub = entry.get("subresource")
            found |= {sub} if sub else set(_paths(entry["fieldsV1"], ""))
    return found


def _paths(fields: dict[str, Any], above: str) -> list[str]:
    deeper = {name: inside for name, inside in fields.items() if name.startswith("f:")}
    if not deeper:
        return [above]
    return [path for name, inside in deeper.items() for path in _paths(inside, f"{above}.{name[2:]}")]


def seen(store: KubernetesStore, generation: int) -> MCPServer | None:
    found = store.believed(TIME)
    known = isinstance(found, MCPServer) and found.status.observed_generation == generation
    return found if known and isinstance(found, MCPServer) else None


def says(store: KubernetesStore, generation: int, type: str) -> bool:
    found = seen(store, generation)
    return found is not None and is_true(found.status.conditions, type)


@pytest.fixture
async def host() -> FakeToolbox:
    broken = FakeImage(pull=0.05, start=0.01, handshake=None, exits_after=0.01)
    return FakeToolbox("here", images={"time:1": QUICK, "time:2": QUICK, "broken:1": broken})


@pytest.fixture(autouse=True)
async def _no_lease(hand: Hand) -> None:
    await hand.client.delete("/apis/coordination.k8s.io/v1/namespaces/default/leases/toolkeeper")


@pytest.mark.parametrize("way", [("apply",), ("apply", "--server-side")], ids=["client-side", "server-side"])
async def test_a_whole_life_leaves_what_people_wrote_as_they_wrote_it(
    way: tuple[str, ...], cluster: Cluster, opening: Opening, hand: Hand, host: FakeToolbox
) -> None:
    async def apply(resource: Resource, **annotations: str) -> dict[str, Any]:
        cluster.kubectl(*way, "-f", "-", given=declared(resource, **annotations))
        return await hand.get(resource.key)

    async def untouched(before: dict[str, Any], key: Key) -> None:
        after = await hand.get(key)
        assert theirs(after) == theirs(before)
        assert our_fields(after) <= {"status", ".metadata.finalizers"}

    before = {each.key: await apply(each) for each in (toolbox(), server(), connection())}
    async with opening() as store, operating(store, host, "one"):
        await until(lambda: says(store, 1, "Ready"), within=30)
        await until(lambda: _is_reported(store, connection().key), within=30)
        for key in EVERYTHING:
            await untouched(before[key], key)
        ours = await hand.get(TIME)
        assert ours["metadata"]["finalizers"] == [FINALIZER]
        assert our_fields(ours) == {"status", ".metadata.finalizers"}

        before[TIME] = await apply(server(image="time:2"))
        await until(lambda: says(store, 2, "Ready") and len(host.of("default", "time")) == 1, within=30)
        await untouched(before[TIME], TIME)

        before[TIME] = await apply(server(image="broken:1"))
        await until(lambda: says(store, 3, "RolledBack"), within=60)
        await untouched(before[TIME], TIME)

        before[TIME] = await apply(server(image="time:2", running=False))
        await until(lambda: _reason(store, 4, "Deployed") == "Stopped", within=30)
        await untouched(before[TIME], TIME)

        before[TIME] = await apply(server(image="time:2"), **{"toolkeeper.dev/restartedAt": "today"})
        await until(lambda: says(store, 5, "Ready") and len(host.of("default", "time")) == 1, within=30)
        await untouched(before[TIME], TIME)
        diff = cluster.kubectl("diff", *way[1:], "-f", "-", given=_again(before[TIME]), check=False)
        assert "Error" not in diff
        assert diff.strip() == ""

        await hand.drop(TIME)
        await until(lambda: store.believed(TIME) is None, within=30)
    assert host.of("default", "time") == []


def _is_reported(store: KubernetesStore, key: Key) -> bool:
    found = store.believed(key)
    return found is not None and found.status.observed_generation == 1


def _reason(store: KubernetesStore, generation: int, type: str) -> str:
    found = seen(store, generation)
    told = find(found.status.conditions, type) if found is not None else None
    return told.reason if told is not None else ""


def _again(document: dict[str, Any]) -> str:
    """The manifest that the object was last applied from."""
    meta = document["metadata"]
    own = {name: value for name, value in meta["annotations"].items() if "kubectl.kubernetes.io" not in name}
    kept = {name: meta[name] for name in ("name", "namespace", "labels")} | {"annotations": own}
    return json.dumps(
        {
            "apiVersion": document["apiVersion"],
            "kind": document["kind"],
            "metadata": kept,
            "spec": written(server(image="time:2")),
        }
    )
