"""The writes of an operator without the operator: what the API server alone lets nobody undercut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from stores_kubernetes.conftest import Cluster
from toolkeeper.resources.meta import API_VERSION, FINALIZER
from toolkeeper.stores.kubernetes import access, documents
from toolkeeper.stores.kubernetes.api import APPLY_PATCH, JSON_PATCH, Api
from toolkeeper.stores.kubernetes.store import OPTIONS, WRITES

Json = dict[str, Any]
OF_THIS_VERSION = ("name", "namespace", "uid", "resourceVersion")
FOR_EVER = aiohttp.ClientTimeout(total=None)


@asynccontextmanager
async def statuses_of(cluster: Cluster, name: str) -> AsyncIterator[list[Json]]:
    """The statuses that one server is given, in their order, as somebody sees them who watches it."""
    seen: list[Json] = []

    async def watch() -> None:
        options = {"watch": "true", "fieldSelector": f"metadata.name={name}"}
        async for document in _watched(session, cluster, options):
            status = document.get("status", {})
            if status.get("conditions") and status not in seen[-1:]:
                seen.append(status)

    async with access.session(cluster.login()) as session:
        task = asyncio.create_task(watch())
        try:
            yield seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def running(cluster: Cluster, statuses: Sequence[Json], *, finalizer: bool) -> AsyncIterator[None]:
    """Whoever gives each new server a finalizer and then these statuses, and knows neither servers nor toolboxes."""
    slots, api = asyncio.Semaphore(WRITES), Api(cluster.login)

    async def patch(path: str, body: object, content_type: str, **more: str) -> Json:
        return await api.request("PATCH", path, body=body, content_type=content_type, params=OPTIONS | more)

    async def write(document: Json) -> None:
        async with slots:
            path = documents.path(documents.key_of("MCPServer", document))
            if finalizer:
                version = document["metadata"]["resourceVersion"]
                tested = [
                    {"op": "test", "path": "/metadata/resourceVersion", "value": version},
                    {"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]},
                ]
                document = await patch(path, tested, JSON_PATCH)
            for status in statuses:
                metadata = {each: document["metadata"][each] for each in OF_THIS_VERSION}
                body = {
                    "apiVersion": API_VERSION,
                    "kind": "MCPServer",
                    "metadata": metadata,
                    "status": status,
                }
                document = await patch(f"{path}/status", body, APPLY_PATCH, force="true")

    async def watch() -> None:
        known: set[str] = set()
        async for document in _watched(session, cluster, {"watch": "true"}):
            if document["metadata"]["uid"] not in known:
                known.add(document["metadata"]["uid"])
                writing.create_task(write(document))

    # Whatever fails ends the run, and is said.
    async with access.session(cluster.login()) as session, asyncio.TaskGroup() as writing:
        watching = writing.create_task(watch())
        yield
        watching.cancel()
    await api.aclose()


async def _watched(session: aiohttp.ClientSession, cluster: Cluster, options: Json) -> AsyncIterator[Json]:
    url = cluster.url + documents.collection("MCPServer", "default")
    async with session.get(url, params=options, timeout=FOR_EVER) as answer:
        async for line in answer.content:
            yield json.loads(line)["object"]
