"""A thousand MCPServers applied at once: how fast are all of them Ready, compared with plain kopf handlers?

Both operators do the same visible job with the same simulated toolboxes, which are instantly done: a finalizer, a
container on the toolbox, a status that says Ready once the container has answered its handshake, an event.

Toolkeeper: the operator with its Kubernetes store, as it is. Before it creates anything it writes down where, and then
its finalizer; the status has twelve parts and a history, and three events follow.

kopf: `create`, `update` and `delete` handlers as its documentation has them, with kopf's default settings (but for
watching definitions and peers). A handler creates the container, asks the toolbox every 50 ms until the handshake was
answered, patches a status of three conditions and tells one event. It writes nothing down before it acts, refuses no
stale leader, and sees no drift. Nothing is limited, so all handlers run beside each other.

A third process applies the servers, watches them as `kubectl wait` does, and holds the clock: from the first apply
until every status says Ready. All against the API server in memory, in a process of its own, or (`--real`) against the
upstream kube-apiserver. The runs alternate; the figures are medians.

`--idle SECONDS` then lets Toolkeeper rest for so long, once all events are written, and counts what it still writes:
of objects (statuses, finalizers, events, Secrets) nothing may be, and else the run fails. Renewals of the Lease, which
are what leader election is, are counted apart.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

# In place of this file's own folder: there, it would be found by whoever looks for the library of the same name.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import aiohttp
import kopf

from benchmarks.rig import figures
from services import apiserver
from stores.conftest import server
from stores_kubernetes.conftest import Cluster, Hand, prepare
from toolkeeper.clock import SystemClock
from toolkeeper.planning.instance import Instance
from toolkeeper.planning.world import Policy
from toolkeeper.reconcile.operator import Operator
from toolkeeper.reconcile.ports import InstanceRequest
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import API_VERSION
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.stores.kubernetes import access, documents
from toolkeeper.stores.kubernetes.election import ElectedLease
from toolkeeper.stores.kubernetes.lease import LeaseObject
from toolkeeper.stores.kubernetes.store import KubernetesStore
from toolkeeper.testing.apiserver import ApiServer
from toolkeeper.testing.fake_toolbox import FakeImage, FakeToolbox

INSTANT = FakeImage(pull=0.0, start=0.0, handshake=0.0)
PATIENCE = 300.0
POLL = 0.05
"""Seconds between two questions of a plain handler to its toolbox."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--servers", type=int, default=1000)
    parser.add_argument("--toolboxes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--idle", type=float, default=0.0, help="seconds of rest after each run of Toolkeeper"
    )
    parser.add_argument("--real", action="store_true", help="against the upstream kube-apiserver")
    options = parser.parse_args()
    names = [f"server-{number:04d}" for number in range(options.servers)]
    boxes = [f"box-{number}" for number in range(options.toolboxes)]
    ours: list[Run] = []
    theirs: list[Run] = []
    for _ in range(options.rounds):
        for operator, runs in ((partial(toolkeeper, idle=options.idle), ours), (plain_kopf, theirs)):
            with (
                tempfile.TemporaryDirectory() as folder,
                cluster(Path(folder) / "cluster", real=options.real) as one,
            ):
                runs.append(asyncio.run(operator(one, names, boxes)))
                print(f"{'Toolkeeper' if runs is ours else 'kopf'}: {runs[-1].seconds:.2f} s", flush=True)
    _report(len(names), ours, theirs)


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


def _report(count: int, ours: list[Run], theirs: list[Run]) -> None:
    one, other = (median(each.seconds for each in runs) for runs in (ours, theirs))
    cpu, its_cpu = (median(each.cpu for each in runs) * 1000 for runs in (ours, theirs))
    load, its_load = (median(each.servers_cpu for each in runs) * 1000 for runs in (ours, theirs))
    requests = median(each.requests for each in ours) / count
    figures.report(
        f"{count} MCPServers until all are Ready",
        {
            "Toolkeeper": f"{one:.2f} s, {count / one:.0f} a second; each {cpu:.1f} ms of CPU "
            f"and {load:.1f} ms of the API server's, {requests:.1f} requests",
            "kopf create/update handlers": f"{other:.2f} s, {count / other:.0f} a second; each {its_cpu:.1f} ms of CPU "
            f"and {its_load:.1f} ms of the API server's",
            "ratio": f"{other / one:.2f}",
        },
        {
            "servers": count,
            "toolkeeper_seconds": one,
            "kopf_seconds": other,
            "toolkeeper_cpu_ms": cpu,
            "kopf_cpu_ms": its_cpu,
            "toolkeeper_apiserver_cpu_ms": load,
            "kopf_apiserver_cpu_ms": its_load,
            "requests_per_server": requests,
            "ratio_to_kopf": other / one,
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


async def toolkeeper(cluster: Cluster, names: list[str], boxes: list[str], *, idle: float) -> Run:
    """Toolkeeper, from the first apply until all are Ready; and then it rests for `idle` seconds."""
    clock = SystemClock()
    hosts = {name: FakeToolbox(name, images={"time:1": INSTANT}) for name in boxes}
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
    before = sum(store.api.answers.values())
    run = await until_all(cluster, names, boxes)
    requests = sum(store.api.answers.values()) - before
    if idle:
        await _rest(store, idle)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    await store.aclose()
    return replace(run, requests=requests)


async def _rest(store: KubernetesStore, seconds: float) -> None:
    """Let it finish its events, then rest. Raises SystemExit if it writes any object meanwhile."""
    while not store.is_quiet():  # noqa: ASYNC110 - the store tells nobody
        await asyncio.sleep(0.5)
    await asyncio.sleep(5)  # the sums of the toolboxes, the last event's answer
    before = dict(store.api.sent)
    await asyncio.sleep(seconds)
    sent = {method: count - before.get(method, 0) for method, count in store.api.sent.items()}
    objects = {method: count for method, count in sent.items() if method not in ("GET", "PUT") and count}
    print(
        f"in {seconds:.0f} s of rest: {sent.get('PUT', 0)} renewals of the Lease, {sent.get('GET', 0)} reads"
    )
    if objects:
        raise SystemExit(f"objects were written at rest: {objects}")


async def plain_kopf(cluster: Cluster, names: list[str], boxes: list[str]) -> Run:
    """kopf, from the first apply until all are Ready."""
    hosts = {name: FakeToolbox(name, images={"time:1": INSTANT}) for name in boxes}
    claims = {name: await host.claim("bench", 0) for name, host in hosts.items()}
    registry, stop, ready = kopf.OperatorRegistry(), asyncio.Event(), asyncio.Event()
    kind = ("toolkeeper.dev", "v1alpha1", "mcpservers")

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return cluster.login()

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.peering.standalone = True
        settings.scanning.disabled = True

    @kopf.on.create(*kind, registry=registry)
    @kopf.on.update(*kind, registry=registry)
    async def deploy(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
        box, name, uid = body.spec["toolboxRef"], str(body.meta.name), str(body.meta.uid)
        instance = Instance(
            renderer=1, transport="streamable-http", image=str(body.spec["image"]), port=8000, path="/mcp"
        )
        request = InstanceRequest("default", name, "v1", uid, instance)
        await hosts[box].create(claims[box], f"plain_{name}", request)
        while not await _answers(hosts[box], f"plain_{name}"):  # noqa: ASYNC110 - nobody tells a plain handler
            await asyncio.sleep(POLL)
        conditions = [_condition(each, body) for each in ("Deployed", "Reachable", "Ready")]
        patch.status["observedGeneration"] = body.meta["generation"]
        patch.status["phase"] = "active"
        patch.status["toolbox"] = f"default/{box}"
        patch.status["conditions"] = conditions
        kopf.info(body, reason="Ready", message=f"runs on {box}")

    @kopf.on.delete(*kind, registry=registry)
    async def remove(**_: Any) -> None:
        return

    operator = kopf.operator(registry=registry, clusterwide=True, stop_flag=stop, ready_flag=ready)
    running = asyncio.create_task(operator)
    await ready.wait()
    await asyncio.sleep(2)
    run = await until_all(cluster, names, boxes)
    stop.set()
    with suppress(asyncio.CancelledError):
        await running
    return run


async def _answers(host: FakeToolbox, container: str) -> bool:
    seen = await host.state("bench")
    return any(
        each.name == container and each.handshake is not None and each.handshake.ok
        for each in seen.containers
    )


def _condition(type: str, body: kopf.Body) -> dict[str, Any]:
    return {
        "type": type,
        "status": "True",
        "reason": "Available",
        "message": "",
        "lastTransitionTime": SystemClock().now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "observedGeneration": body.meta["generation"],
    }


async def until_all(cluster: Cluster, names: list[str], boxes: list[str]) -> Run:
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


def _cpu(processes: list[str]) -> float:
    """Seconds of CPU that they took so far."""
    stats = [Path(f"/proc/{each}/stat").read_text().rsplit(")", 1)[1].split() for each in processes]
    return sum(int(each[11]) + int(each[12]) for each in stats) / os.sysconf("SC_CLK_TCK")


def _person(there: Connection, cluster: Cluster, names: list[str], boxes: list[str]) -> None:
    asyncio.run(_applies_and_waits(there, cluster, names, boxes))


async def _applies_and_waits(there: Connection, cluster: Cluster, names: list[str], boxes: list[str]) -> None:
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
                await asyncio.gather(*(apply() for _ in range(8)))
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


def _look(seen: dict[str, Any], unready: set[str]) -> None:
    conditions = seen.get("status", {}).get("conditions", ())
    if any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
        unready.discard(seen["metadata"]["name"])


def _manifest(each: MCPServer) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "MCPServer",
        "metadata": {"name": each.metadata.name, "namespace": "default"},
        "spec": each.spec.model_dump(mode="json", by_alias=True, exclude_unset=True),
    }


if __name__ == "__main__":
    main()
