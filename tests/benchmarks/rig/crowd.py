"""A person who applies many MCPServers at once and waits until all are Ready, in a process of its own."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp

from stores.conftest import server
from stores_kubernetes.conftest import Cluster
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import API_VERSION
from toolkeeper.stores.kubernetes import access, documents

PATIENCE = 300.0
AT_A_TIME = 8
"""Requests of whoever applies."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run of one operator."""

    seconds: float
    cpu: float
    """Seconds of CPU that its process took for each server."""
    servers_cpu: float
    """The same of the API server."""
    requests: int = 0
    """Requests that it made itself."""


async def until_all(cluster: Cluster, names: Sequence[str], boxes: Sequence[str]) -> Run:
    """Apply all and wait until all are Ready. Raises SystemExit when it takes too long."""
    servers = _children()  # so far there is nothing but the API server
    here, there = multiprocessing.Pipe()
    # In a process of its own: a person's kubectl takes no time from the operator.
    process = multiprocessing.get_context("spawn").Process(
        target=_person, args=(there, cluster, names, boxes), daemon=True
    )
    process.start()
    await asyncio.to_thread(here.recv)
    cpu, load = time.process_time(), _cpu(servers)
    here.send("go")
    while not here.poll():  # noqa: ASYNC110 - another process tells
        await asyncio.sleep(0.02)
    took = here.recv()
    cpu, load = time.process_time() - cpu, _cpu(servers) - load
    await asyncio.to_thread(process.join)
    if not isinstance(took, float):
        raise SystemExit(f"after {PATIENCE:.0f} s only {took} of {len(names)} are Ready")
    return Run(took, cpu / len(names), load / len(names))


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def _cpu(processes: Sequence[str]) -> float:
    """Seconds of CPU that they took so far."""
    stats = [Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split() for each in processes]
    return sum(int(each[11]) + int(each[12]) for each in stats) / os.sysconf("SC_CLK_TCK")


def _person(there: Connection, cluster: Cluster, names: Sequence[str], boxes: Sequence[str]) -> None:
    asyncio.run(_applies_and_waits(there, cluster, names, boxes))


async def _applies_and_waits(
    there: Connection, cluster: Cluster, names: Sequence[str], boxes: Sequence[str]
) -> None:
    servers = [server(name, toolboxRef=boxes[at % len(boxes)]) for at, name in enumerate(names)]
    bodies = iter([json.dumps(_manifest(each)) for each in servers])
    unready = set(names)
    async with access.session(cluster.login()) as session:
        url = cluster.url + documents.collection("MCPServer", "default")

        async def apply() -> None:
            for body in bodies:
                async with session.post(
                    url, data=body, headers={"Content-Type": "application/json"}
                ) as answer:
                    assert answer.status == 201, await answer.text()

        there.send("ready")
        there.recv()
        began = time.monotonic()
        watching = asyncio.create_task(_strike_off(session, url, unready))
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(apply() for _ in range(AT_A_TIME)))
                await watching
        there.send(time.monotonic() - began if not unready else len(names) - len(unready))


async def _strike_off(session: aiohttp.ClientSession, url: str, unready: set[str]) -> None:
    """Watch until all are Ready; list again whenever the server ends the watch."""
    while unready:
        async with session.get(url) as answer:
            listed = await answer.json()
        for seen in listed["items"]:
            _look(seen, unready)
        options = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
        async with session.get(url, params=options, timeout=aiohttp.ClientTimeout(total=PATIENCE)) as answer:
            async for line in answer.content:
                _look(json.loads(line)["object"], unready)
                if not unready:
                    return


def _look(seen: Json, unready: set[str]) -> None:
    conditions = seen.get("status", {}).get("conditions", ())
    if any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
        unready.discard(seen["metadata"]["name"])


def _manifest(each: MCPServer) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "MCPServer",
        "metadata": {"name": each.metadata.name, "namespace": "default"},
        "spec": each.spec.as_declared(),
    }
