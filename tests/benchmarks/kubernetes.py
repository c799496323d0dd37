"""A thousand MCPServers applied at once: how fast are all of them Ready, compared with plain kopf handlers?

All operators do the same visible job with the same simulated toolboxes, where a container starts and answers its
handshake as fast as real servers do: a finalizer, a container on the toolbox, a status that says Ready once the
container has answered, an event.

Toolkeeper: the operator with its Kubernetes store, as it is. Before it creates anything it writes its finalizer and
then where; the status has twelve parts and a history, and three events follow.

kopf: `create`, `update` and `delete` handlers as its documentation has them, with kopf's default settings (but for
watching definitions and peers). A handler creates the container, patches a status of three conditions and tells one
event. It writes nothing down before it acts, refuses no stale leader, and sees no drift. Nothing is limited, so all
handlers run beside each other. It waits for the handshake in one of two ways: it ends and is called again a second
later, which is what the documentation recommends, or it asks every 50 ms itself. `ratio_to_kopf` is to the faster one.

bare writes: somebody who sends what Toolkeeper writes of each server (the finalizer and the statuses, one after the
other), and does nothing else: no toolbox, no decision, no belief. Nobody who makes these writes can be faster here. And
one bare write: the last status alone, of a server that nobody started.

A process of its own applies the servers, watches them as `kubectl wait` does, and holds the clock: from the first apply
until every status says Ready. All against the API server in memory, in a process of its own, or (`--real`) against the
upstream kube-apiserver. The runs alternate; the figures are medians.

`--idle SECONDS` then lets Toolkeeper rest for so long, once all events are written, and counts what it still writes:
of objects (statuses, finalizers, events, Secrets) nothing may be, and else the run fails. Renewals of the Lease, which
are what leader election is, are counted apart.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from statistics import median

# In place of this file's own folder: there, it would be found by whoever looks for the library of the same name.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.rig import bare_writes, figures, plain_kopf
from benchmarks.rig.crowd import Json, Run, until_all
from services import apiserver
from stores_kubernetes.conftest import Cluster, Hand, prepare
from toolkeeper.clock import SystemClock
from toolkeeper.planning.world import Policy
from toolkeeper.reconcile.operator import Operator
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.stores.kubernetes.election import ElectedLease
from toolkeeper.stores.kubernetes.lease import LeaseObject
from toolkeeper.stores.kubernetes.store import KubernetesStore
from toolkeeper.testing.apiserver import ApiServer
from toolkeeper.testing.fake_toolbox import FakeImage, FakeToolbox

TYPICAL = FakeImage(pull=0.0, start=0.3, handshake=0.7)
"""Most real servers answer in their container after 0.5 to 1.9 s, the median after one. Their images are there."""
CALM = 2.0
"""Seconds between the operator's start and the first apply."""

OURS, AGAIN, ITSELF = "Toolkeeper", "kopf, called again", "kopf, waits itself"
BARE, ONE = "bare writes", "one bare write"


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
    crowd = Crowd(
        [f"server-{number:04d}" for number in range(options.servers)],
        [f"box-{number}" for number in range(options.toolboxes)],
    )
    contestants: Mapping[str, Callable[[Cluster, Crowd], Awaitable[Run]]] = {
        OURS: lambda one, crowd: toolkeeper(one, crowd, idle=options.idle),
        AGAIN: lambda one, crowd: kopf_handlers(one, crowd, plain_kopf.calls_again),
        ITSELF: lambda one, crowd: kopf_handlers(one, crowd, plain_kopf.waits_itself),
        BARE: partial(writes_alone, finalizer=True),
        ONE: partial(writes_alone, finalizer=False),
    }
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    for _ in range(options.rounds):
        for name, contestant in contestants.items():
            with (
                tempfile.TemporaryDirectory() as folder,
                cluster(Path(folder) / "cluster", real=options.real) as one,
            ):
                runs[name].append(asyncio.run(_one(contestant, one, crowd)))
                print(f"{name}: {runs[name][-1].seconds:.2f} s", flush=True)
    _report(options.servers, runs)


async def _one(contestant: Callable[[Cluster, Crowd], Awaitable[Run]], one: Cluster, crowd: Crowd) -> Run:
    return await contestant(one, crowd)


@dataclass(frozen=True)
class Crowd:
    """What is applied, on what it is to run, and what Toolkeeper wrote of one of the servers."""

    names: Sequence[str]
    boxes: Sequence[str]
    written: list[Json] = field(default_factory=list)

    def hosts(self) -> dict[str, FakeToolbox]:
        """The toolboxes, without a container."""
        return {name: FakeToolbox(name, images={"time:1": TYPICAL}) for name in self.boxes}


def _report(count: int, runs: Mapping[str, Sequence[Run]]) -> None:
    seconds = {name: median(each.seconds for each in those) for name, those in runs.items()}
    cpu = {name: median(each.cpu for each in those) * 1000 for name, those in runs.items()}
    load = {name: median(each.servers_cpu for each in those) * 1000 for name, those in runs.items()}
    requests = median(each.requests for each in runs[OURS]) / count
    kopf = min(seconds[AGAIN], seconds[ITSELF])
    figures.report(
        f"{count} MCPServers until all are Ready",
        {
            name: f"{seconds[name]:.2f} s, {count / seconds[name]:.0f} a second; each {cpu[name]:.1f} ms of CPU "
            f"and {load[name]:.1f} ms of the API server's"
            + (f", {requests:.1f} requests" if name == OURS else "")
            for name in runs
        }
        | {
            "ratio to kopf": f"{kopf / seconds[OURS]:.2f}; of bare writes {kopf / seconds[BARE]:.2f}, "
            f"of one {kopf / seconds[ONE]:.2f}"
        },
        {
            "servers": count,
            "toolkeeper_seconds": seconds[OURS],
            "kopf_called_again_seconds": seconds[AGAIN],
            "kopf_waits_itself_seconds": seconds[ITSELF],
            "bare_writes_seconds": seconds[BARE],
            "one_bare_write_seconds": seconds[ONE],
            "toolkeeper_cpu_ms": cpu[OURS],
            "toolkeeper_apiserver_cpu_ms": load[OURS],
            "bare_writes_apiserver_cpu_ms": load[BARE],
            "requests_per_server": requests,
            "bare_writes_ratio_to_kopf": kopf / seconds[BARE],
            "one_bare_write_ratio_to_kopf": kopf / seconds[ONE],
            "ratio_to_kopf_called_again": seconds[AGAIN] / seconds[OURS],
            "ratio_to_kopf_waiting_itself": seconds[ITSELF] / seconds[OURS],
            "ratio_to_kopf": kopf / seconds[OURS],
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


async def toolkeeper(cluster: Cluster, crowd: Crowd, *, idle: float) -> Run:
    """Toolkeeper, from the first apply until all are Ready; and then it rests for `idle` seconds."""
    clock, hosts = SystemClock(), crowd.hosts()
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
    await asyncio.sleep(CALM)
    before = sum(store.api.answers.values())
    async with bare_writes.statuses_of(cluster, crowd.names[len(crowd.names) // 2]) as written:
        run = await until_all(cluster, crowd.names, crowd.boxes)
    crowd.written[:] = written
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


async def kopf_handlers(cluster: Cluster, crowd: Crowd, wait: plain_kopf.Wait) -> Run:
    """kopf, from the first apply until all are Ready."""
    async with plain_kopf.running(cluster, crowd.hosts(), wait):
        await asyncio.sleep(CALM)
        return await until_all(cluster, crowd.names, crowd.boxes)


async def writes_alone(cluster: Cluster, crowd: Crowd, *, finalizer: bool) -> Run:
    """What Toolkeeper wrote in the run before, of every server; or only the last of it."""
    statuses = crowd.written if finalizer else crowd.written[-1:]
    async with bare_writes.running(cluster, statuses, finalizer=finalizer):
        await asyncio.sleep(CALM)
        return await until_all(cluster, crowd.names, crowd.boxes)


if __name__ == "__main__":
    main()
