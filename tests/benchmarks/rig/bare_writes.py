"""The writes of an operator without the operator: what the API server alone lets nobody undercut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from stores_kubernetes.conftest import Cluster
from toolkeeper.resources.meta import FINALIZER, Key
from toolkeeper.stores.kubernetes import access, documents
from toolkeeper.stores.kubernetes.api import APPLY_PATCH, JSON_PATCH
from toolkeeper.stores.kubernetes.store import OPTIONS, WRITES

Json = dict[str, Any]
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
    slots = asyncio.Semaphore(WRITES)

    async def write(document: Json) -> None:
        async with slots:
            written, path = document, cluster.url + documents.path(_key(document))
            if finalizer:
                version = document["metadata"]["resourceVersion"]
                tested = [
                    {"op": "test", "path": "/metadata/resourceVersion", "value": version},
                    {"op": "add", "path": "/metadata/finalizers", "value": [FINALIZER]},
                ]
                written = await _patch(session, path, tested, JSON_PATCH)
            for status in statuses:
                known = {
                    each: written["metadata"][each]
                    for each in ("name", "namespace", "uid", "resourceVersion")
                }
                applied = {"apiVersion": document["apiVersion"], "kind": document["kind"], "metadata": known}
                written = await _patch(session, f"{path}/status", applied | {"status": status}, APPLY_PATCH)

    async def watch() -> None:
        known: set[str] = set()
        async with asyncio.TaskGroup() as writing:
            async for document in _watched(session, cluster, {"watch": "true"}):
                if document["metadata"]["uid"] not in known:
                    known.add(document["metadata"]["uid"])
                    writing.create_task(write(document))

    async with access.session(cluster.login()) as session:
        task = asyncio.create_task(watch())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _watched(session: aiohttp.ClientSession, cluster: Cluster, options: Json) -> AsyncIterator[Json]:
    url = cluster.url + documents.collection("MCPServer", "default")
    async with session.get(url, params=options, timeout=FOR_EVER) as answer:
        async for line in answer.content:
            yield json.loads(line)["object"]


async def _patch(session: aiohttp.ClientSession, url: str, body: object, content_type: str) -> Json:
    params = OPTIONS | ({"force": "true"} if content_type == APPLY_PATCH else {})
    headers = {"Content-Type": content_type}
    async with session.patch(url, data=json.dumps(body), params=params, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        written: Json = await answer.json()
        return written


def _key(document: Json) -> Key:
    return documents.key_of("MCPServer", document)
