"""An operator with everything around it: store, lease, telemetry, and its own small HTTP port."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client import CollectorRegistry

from toolkeeper.clock import SystemClock
from toolkeeper.errors import ToolkeeperError
from toolkeeper.planning.world import Policy
from toolkeeper.reconcile.operator import Operator
from toolkeeper.reconcile.recorder import Telemetry
from toolkeeper.resources.meta import Key
from toolkeeper.stores import journal
from toolkeeper.stores.directory import DirectoryStore
from toolkeeper.stores.lease import FileLease
from toolkeeper.telemetry.actions import Action, Logged
from toolkeeper.telemetry.logs import Log
from toolkeeper.telemetry.metrics import OperatorMetrics
from toolkeeper.wiring.git import following
from toolkeeper.wiring.options import LoopOptions, log_of
from toolkeeper.wiring.places import Place, digest_key, forget, git_cache, remember
from toolkeeper.wiring.port import heartbeat, serving
from toolkeeper.wiring.sources import Source
from toolkeeper.wiring.stores import connector, here, inner, opened


async def run_operator(place: Place, options: LoopOptions) -> None:
    """Run until SIGTERM. Raises Fenced when another operator of the installation took over."""
    if place.cluster is None:
        await until_terminated(_run(place, options))
        return
    from toolkeeper.wiring.cluster import run_on_cluster  # noqa: PLC0415 – loads kopf and aiohttp

    await until_terminated(run_on_cluster(place.cluster, options))


async def until_terminated(work: Coroutine[Any, Any, None]) -> None:
    """Do the work; at SIGTERM cancel it, and return when it has tidied up."""
    loop, told = asyncio.get_running_loop(), False
    working = asyncio.ensure_future(work)

    def terminate() -> None:
        nonlocal told
        told = True
        working.cancel()

    loop.add_signal_handler(signal.SIGTERM, terminate)
    try:
        await working
    except asyncio.CancelledError:
        if not told:
            raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def _run(place: Place, options: LoopOptions) -> None:
    log = log_of(options, installation=place.installation)
    async with opened(place, allow_prune=options.allow_prune) as store:
        remember(place)
        source = {}
        if place.git is not None:
            source = {"source": str(place.git), "commit": git_cache(place.root, place.git).commit}
        log.info("operator starts", store=place.kind, path=str(place.path), origin=place.origin, **source)
        metrics = OperatorMetrics(CollectorRegistry())
        try:
            async with (
                operator_of(place, store, log, options=options, metrics=metrics) as operator,
                serving(options.health, metrics.registry) as beat,
                heartbeat(beat),
                _following(place, options, store, log, metrics.registry),
            ):
                await operator.run()
        finally:
            forget(place)


@asynccontextmanager
async def _following(
    place: Place, options: LoopOptions, store: Source, log: Log, registry: CollectorRegistry
) -> AsyncIterator[None]:
    kept = inner(store)
    if options.git is None or not isinstance(kept, DirectoryStore):
        yield
        return
    async with following(options.git, place, kept, log, registry):
        yield


@asynccontextmanager
async def operator_of(
    place: Place,
    store: Source,
    log: Log,
    *,
    options: LoopOptions,
    metrics: OperatorMetrics | None = None,
    clock: SystemClock | None = None,
) -> AsyncIterator[Operator]:
    """An operator of that place; what it did is in its log and in the store once the context ends."""
    async with _recording(store) as record:
        yield Operator(
            here(store),
            connector(store),
            FileLease(
                place.folder / "lease",
                waiting=lambda leader: log.info("standing by: another operator leads", process=leader),
            ),
            policy=Policy(installation=place.installation, allow_prune=options.allow_prune),
            digest_key=digest_key(place),
            clock=clock or SystemClock(),
            rng=random.Random(),  # noqa: S311 – jitter, not cryptography
            telemetry=Telemetry(
                metrics=metrics or OperatorMetrics(CollectorRegistry()),
                actions=Logged(log, record),
                log=log,
            ),
        )


@asynccontextmanager
async def _recording(store: Source) -> AsyncIterator[Callable[[Action], None]]:
    """Keeps control actions in the store, in order, without anybody waiting for it."""
    kept = inner(store)
    assert kept is not None, "on a cluster, run_on_cluster records nothing here"
    waiting: asyncio.Queue[Action] = asyncio.Queue()

    async def keep() -> None:
        while True:
            action = await waiting.get()
            try:
                await kept.record(_kept(action))
            except ToolkeeperError:
                continue  # the log has it; a store that is gone says so elsewhere
            finally:
                waiting.task_done()

    keeper = asyncio.create_task(keep(), name="action log")
    try:
        yield waiting.put_nowait
        async with asyncio.timeout(2.0):
            await waiting.join()
    except TimeoutError:
        pass
    finally:
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)


def _kept(action: Action) -> journal.Action:
    outcomes: dict[str, Any] = {"refused": "refused", "unreachable": "unreachable", "conflict": "refused"}
    return journal.Action(
        Key(action.kind, action.namespace, action.name),
        action.action,
        " ".join(filter(None, (action.because, action.detail))),
        action.actor,
        outcomes.get(action.outcome, "accepted"),
        action.at,
    )
