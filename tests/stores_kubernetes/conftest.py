"""A cluster, the hand of a person who edits it, and the store on it."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import kopf
import pytest

from services import apiserver
from stores_kubernetes.door import Door
from toolkeeper.clock import SystemClock
from toolkeeper.errors import Conflict, NotFound
from toolkeeper.reconcile.ports import Resource, Store
from toolkeeper.resources.crds import crd
from toolkeeper.resources.kinds import KINDS
from toolkeeper.resources.meta import API_VERSION, Key
from toolkeeper.stores.kubernetes import documents
from toolkeeper.stores.kubernetes.store import KubernetesStore
from toolkeeper.testing.apiserver import ApiServer

NAMESPACES = ("default", "blue", "green")


@dataclass(frozen=True)
class Cluster:
    """An API server that has our CustomResourceDefinitions."""

    url: str
    ca: Path | None
    token: str
    kubeconfig: Path

    def login(self, *, token: str = "", server: str = "") -> kopf.ConnectionInfo:
        """Credentials for the store; all rights and the direct way, if nothing else is said."""
        return kopf.ConnectionInfo(server=server or self.url, ca_path=self.ca, token=token or self.token)

    def client(self) -> httpx.Client:
        """An HTTP client with all rights."""
        return httpx.Client(**self._options())

    def async_client(self) -> httpx.AsyncClient:
        """The same, not blocking."""
        return httpx.AsyncClient(**self._options())

    def _options(self) -> dict[str, Any]:
        verify = ssl.create_default_context(cafile=self.ca) if self.ca else False
        headers = {"Authorization": f"Bearer {self.token}"}
        return {"base_url": self.url, "verify": verify, "headers": headers, "trust_env": False, "timeout": 30}

    def kubectl(self, *arguments: str, given: object = "", check: bool = True) -> str:
        """What kubectl prints; `given` is text or a document for its standard input."""
        text = given if isinstance(given, str) else json.dumps(given)
        done = apiserver.kubectl(self.kubeconfig, *arguments, given=text)
        assert done.returncode == 0 or not check, done.stderr
        return done.stdout + done.stderr


class Hand:
    """What a person does to a cluster."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def get(self, key: Key) -> dict[str, Any]:
        return self._json(await self.client.get(documents.path(key)))

    async def put(self, resource: Resource) -> dict[str, Any]:
        """Server-side apply of what is declared. Raises Conflict, like the store's own writes."""
        fields = {"name", "namespace", "labels", "annotations"}
        body = {
            "apiVersion": API_VERSION,
            "kind": resource.kind,
            "metadata": {
                name: said for name, said in resource.metadata.model_dump(include=fields).items() if said
            },
            "spec": resource.spec.as_declared(),
        }
        return self._json(
            await self.client.patch(
                documents.path(resource.key),
                params={"fieldManager": "person", "force": "true"},
                content=json.dumps(body),
                headers={"Content-Type": "application/apply-patch+yaml"},
            )
        )

    async def drop(self, key: Key) -> None:
        """Delete it. Raises NotFound."""
        self._json(await self.client.delete(documents.path(key)))

    async def put_secret(self, name: str, values: dict[str, str], *, marked: bool = True) -> None:
        """Create a Secret in the namespace `default`, or replace it."""
        path = "/api/v1/namespaces/default/secrets"
        labels = {"toolkeeper.dev/credential": "true"} if marked else {}
        body = {"metadata": {"name": name, "labels": labels}, "stringData": values}
        await self.client.delete(f"{path}/{name}")
        self._json(await self.client.post(path, json=body))

    async def wipe(self) -> None:
        """Remove every object of our kinds, and the Secrets that the tests made."""
        await self.client.delete("/api/v1/namespaces/default/secrets")
        for kind in documents.PLURALS:
            listed = self._json(await self.client.get(documents.collection(kind, None)))
            for each in listed["items"]:
                path = documents.path(documents.key_of(kind, each))
                if each["metadata"].get("finalizers"):
                    patch = {"metadata": {"finalizers": None}}
                    headers = {"Content-Type": "application/merge-patch+json"}
                    await self.client.patch(path, content=json.dumps(patch), headers=headers)
                await self.client.delete(path)

    def _json(self, answer: httpx.Response) -> dict[str, Any]:
        said: dict[str, Any] = answer.json()
        match answer.status_code:
            case 404:
                raise NotFound(said["message"])
            case 409:
                raise Conflict(said["message"])
        assert answer.is_success, said
        return said


@pytest.fixture(scope="session")
def real_cluster(kubernetes: apiserver.ApiServer) -> Cluster:
    """The real API server with our kinds and the namespaces that the tests use."""
    cluster = Cluster(kubernetes.url, kubernetes.ca, apiserver.ADMIN, kubernetes.kubeconfig())
    prepare(cluster)
    return cluster


def prepare(cluster: Cluster) -> None:
    """Bring our kinds and the tests' namespaces, and wait until objects can be stored."""
    with cluster.client() as client:
        for each in definitions():
            path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
            answer = client.patch(
                f"{path}/{each['metadata']['name']}",
                params={"fieldManager": "test", "force": "true"},
                content=json.dumps(each),
                headers={"Content-Type": "application/apply-patch+yaml"},
            )
            assert answer.is_success, answer.text
        for name in NAMESPACES[1:]:
            client.post("/api/v1/namespaces", json={"metadata": {"name": name}})
        clock = SystemClock()
        deadline = clock.monotonic() + 30
        while not all(client.get(documents.collection(kind, None)).is_success for kind in documents.PLURALS):
            assert clock.monotonic() < deadline, "the kinds are not served"
            time.sleep(0.1)


def definitions() -> list[dict[str, Any]]:
    """Our CustomResourceDefinitions, as they are rendered from the models."""
    return [crd(kind) for kind in KINDS]


@pytest.fixture(scope="session")
def fake_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The API server in memory, with the same content."""
    with ApiServer().running() as server:
        kubeconfig = apiserver.write_kubeconfig(tmp_path_factory.mktemp("fake"), server.url, None, "anybody")
        cluster = Cluster(server.url, None, "anybody", kubeconfig)
        prepare(cluster)
        yield cluster


REAL = pytest.param("real_cluster", id="real", marks=pytest.mark.kubernetes)


@pytest.fixture(params=[pytest.param("fake_cluster", id="fake"), REAL])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Every API server in turn."""
    found: Cluster = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def hand(cluster: Cluster) -> AsyncIterator[Hand]:
    """A person with all rights, on a cluster without any object of ours."""
    async with cluster.async_client() as client:
        hand = Hand(client)
        await hand.wipe()
        yield hand


Opening = Callable[..., AbstractAsyncContextManager[KubernetesStore]]


@pytest.fixture
async def door(cluster: Cluster) -> AsyncIterator[Door]:
    """The way from the store to the cluster."""
    context = ssl.create_default_context(cafile=cluster.ca) if cluster.ca else None
    async with Door(cluster.url, context).open() as door:
        yield door


@pytest.fixture
def opening(cluster: Cluster, hand: Hand) -> Opening:
    """Opens a store on the cluster: `async with opening() as store`."""

    @asynccontextmanager
    async def opened(**options: Any) -> AsyncIterator[KubernetesStore]:
        store = KubernetesStore(**{"login": cluster.login, "namespaces": NAMESPACES, **options})
        store.start()
        try:
            yield store
        finally:
            await store.aclose()

    return opened


async def until(condition: Callable[[], object], *, within: float = 60.0) -> None:
    """Wait until `condition()` holds; what is waited for happens in another thread or process."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - the other thread or process tells nobody
            await asyncio.sleep(0.005)


class ClusterSource:
    """Fits the contract suite: what a person did counts as done when the store has heard of it."""

    def __init__(self, kubernetes: KubernetesStore, hand: Hand) -> None:
        self.kubernetes, self.hand = kubernetes, hand
        self.store: Store = kubernetes

    async def put(self, resource: Resource) -> None:
        done = await self.hand.put(resource)
        await until(lambda: self._version(resource.key) >= int(done["metadata"]["resourceVersion"]))

    async def drop(self, key: Key) -> None:
        await self.hand.drop(key)
        try:
            left = int((await self.hand.get(key))["metadata"]["resourceVersion"])
        except NotFound:
            await until(lambda: self.kubernetes.believed(key) is None)
        else:
            await until(lambda: self._version(key) >= left)

    async def aclose(self) -> None:
        await self.kubernetes.aclose()

    def _version(self, key: Key) -> int:
        believed = self.kubernetes.believed(key)
        return int(believed.metadata.resource_version) if believed else 0


@pytest.fixture
async def source(opening: Opening, hand: Hand) -> AsyncIterator[ClusterSource]:
    """The store on the cluster, for the suite that all stores pass."""
    async with opening() as store:
        await store.list()
        yield ClusterSource(store, hand)
