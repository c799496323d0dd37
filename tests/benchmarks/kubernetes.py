"""A thousand MCPServers applied at once: how fast are all of them Ready, compared with plain kopf handlers?

Toolkeeper: the operator with its Kubernetes store and simulated toolboxes that are instantly done; the clock stops when
every status says Ready. It writes what it always writes: a finalizer, the statuses on the way, events.

kopf: an operator of `create`, `update` and `delete` handlers that "deploys" by returning, and patches one status; the
clock stops when every object has it.

Both against the API server in memory, in a process of its own, or (`--real`) against the upstream kube-apiserver.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

# In place of this file's own folder: there, it would be found by whoever looks for the library of the same name.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import kopf

from benchmarks.rig import figures
from services import apiserver
from stores.conftest import server
from stores_kubernetes.conftest import Cluster, Hand, prepare
from toolkeeper.clock import SystemClock
from toolkeeper.planning.world import Policy
from toolkeeper.reconcile.operator import Operator
from toolkeeper.resources.conditions import is_true
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.stores.kubernetes.election import ElectedLease
from toolkeeper.stores.kubernetes.lease import LeaseObject
from toolkeeper.stores.kubernetes.store import KubernetesStore
from toolkeeper.testing.apiserver import ApiServer
from toolkeeper.testing.fake_toolbox import FakeImage, FakeToolbox

INSTANT = FakeImage(pull=0.0, start=0.0, handshake=0.0)
PATIENCE = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--toolboxes", type=int, default=20)
    parser.add_argument("--real", action="store_true", help="against the upstream kube-apiserver")
    options = parser.parse_args()
    names = [f"server-{number:04d}" for number in range(options.servers)]
    with tempfile.TemporaryDirectory() as folder:
        with cluster(Path(folder) / "ours", real=options.real) as one:
            ours = asyncio.run(toolkeeper(one, names, options.toolboxes))
        with cluster(Path(folder) / "kopf", real=options.real) as other:
            theirs = asyncio.run(plain_kopf(other, names))
    count = len(names)
    figures.report(
        f"{count} MCPServers until all are Ready",
        {
            "Toolkeeper": f"{ours:.2f} s, {count / ours:.0f} a second",
            "kopf create/update handlers": f"{theirs:.2f} s, {count / theirs:.0f} a second",
            "ratio": f"{theirs / ours:.2f}",
        },
        {
            "servers": count,
            "toolkeeper_seconds": ours,
            "kopf_seconds": theirs,
            "ratio_to_kopf": theirs / ours,
        },
    )


@contextmanager
def cluster(folder: Path, *, real: bool) -> Iterator[Cluster]:
    """A fresh API server with our kinds."""
    folder.mkdir()
    if real:
        with apiserver.running(folder) as upstream:
            found = Cluster(upstream.url, upstream.ca, apiserver.ADMIN, upstream.kubeconfig())
            prepare(found)
            yield found
        return
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,))
    process.start()
    found = Cluster(here.recv(), None, "anybody", folder / "none")
    prepare(found)
    try:
        yield found
    finally:
        here.send("stop")
        process.join()


def _serve(there: Connection) -> None:
    with ApiServer().running() as server:
        there.send(server.url)
        there.recv()


async def toolkeeper(cluster: Cluster, names: list[str], toolboxes: int) -> float:
    """Seconds from the first apply until all are Ready."""
    clock = SystemClock()
    hosts = {
        f"box-{number}": FakeToolbox(f"box-{number}", images={"time:1": INSTANT})
        for number in range(toolboxes)
    }
    store = KubernetesStore(login=cluster.login)
    store.start()
    operator = Operator(
        store,
        lambda box: hosts[box.metadata.name],
        ElectedLease(LeaseObject(store.api, "default", clock=clock), "bench", clock=clock, random=Random(1)),
        policy=Policy(installation="bench"),
        digest_key=b"k" * 32,
        clock=clock,
        rng=Random(1),
    )
    running = asyncio.create_task(operator.run())
    async with cluster.async_client() as client:
        hand = Hand(client)
        for name in hosts:
            box = {"metadata": {"name": name}, "spec": {"endpoint": "https://host:30000"}}
            await hand.put(Toolbox.model_validate(box))
    await asyncio.sleep(2)

    def ready() -> int:
        found = [store.believed(Key("MCPServer", "default", name)) for name in names]
        return sum(isinstance(each, MCPServer) and is_true(each.status.conditions, "Ready") for each in found)

    boxes = sorted(hosts)
    declared = [server(name, toolboxRef=boxes[at % len(boxes)]) for at, name in enumerate(names)]
    cpu = time.process_time()
    took = await until_all(cluster, declared, ready)
    cpu = time.process_time() - cpu
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await store.aclose()
    print(f"Toolkeeper: {cpu / len(names) * 1000:.1f} ms of CPU a server, answers {store.api.answers}")
    return took


async def plain_kopf(cluster: Cluster, names: list[str]) -> float:
    """Seconds from the first apply until all have their status."""
    registry, done = kopf.OperatorRegistry(), set[str]()
    stop, ready = asyncio.Event(), asyncio.Event()
    kind = ("toolkeeper.dev", "v1alpha1", "mcpservers")

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return cluster.login()

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False
        settings.peering.standalone = True
        settings.scanning.disabled = True

    @kopf.on.create(*kind, registry=registry)
    @kopf.on.update(*kind, registry=registry)
    async def deploy(patch: kopf.Patch, **_: Any) -> None:
        patch.status["phase"] = "active"

    @kopf.on.delete(*kind, registry=registry)
    async def remove(**_: Any) -> None:
        return

    @kopf.on.event(*kind, registry=registry)
    async def seen(name: str, status: kopf.Status, **_: Any) -> None:
        if status.get("phase") == "active":
            done.add(name)

    operator = kopf.operator(registry=registry, clusterwide=True, stop_flag=stop, ready_flag=ready)
    running = asyncio.create_task(operator)
    await ready.wait()
    await asyncio.sleep(2)
    cpu = time.process_time()
    took = await until_all(cluster, [server(name) for name in names], lambda: len(done))
    print(f"kopf: {(time.process_time() - cpu) / len(names) * 1000:.1f} ms of CPU a server")
    stop.set()
    with suppress(asyncio.CancelledError):
        await running
    return took


async def until_all(cluster: Cluster, resources: list[MCPServer], done: Callable[[], int]) -> float:
    """Seconds from the first apply until all are done. Raises SystemExit when it takes too long."""
    here, there = multiprocessing.Pipe()
    # In a process of its own: a person's kubectl takes no time from the operator.
    process = multiprocessing.get_context("spawn").Process(
        target=_apply_all, args=(there, cluster, resources)
    )
    process.start()
    await asyncio.to_thread(here.recv)
    began = time.monotonic()
    here.send("go")
    while done() < len(resources):
        if time.monotonic() - began > PATIENCE:
            raise SystemExit(f"after {PATIENCE:.0f} s only {done()} of {len(resources)} are done")
        await asyncio.sleep(0.05)
    took = time.monotonic() - began
    await asyncio.to_thread(process.join)
    return took


def _apply_all(there: Connection, cluster: Cluster, resources: list[MCPServer]) -> None:
    asyncio.run(_apply(there, cluster, resources))


async def _apply(there: Connection, cluster: Cluster, resources: list[MCPServer]) -> None:
    async with cluster.async_client() as client:
        hand, waiting = Hand(client), iter(resources)

        async def worker() -> None:
            for each in waiting:
                await hand.put(each)

        there.send("ready")
        there.recv()
        await asyncio.gather(*(worker() for _ in range(8)))


if __name__ == "__main__":
    main()
