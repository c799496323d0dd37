"""An operator on a Kubernetes cluster: who it is there, what all replicas share, and how well it hears."""

from __future__ import annotations

import asyncio
import platform
import random
import secrets
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from toolkeeper.clock import SystemClock
from toolkeeper.dtma.dialled import Dialled
from toolkeeper.errors import Refused, Unreachable
from toolkeeper.planning.world import Policy
from toolkeeper.reconcile.operator import Operator
from toolkeeper.reconcile.recorder import Telemetry
from toolkeeper.stores.identity import random_uid
from toolkeeper.stores.kubernetes import access
from toolkeeper.stores.kubernetes.digesting import digest_key
from toolkeeper.stores.kubernetes.election import ElectedLease
from toolkeeper.stores.kubernetes.installation import installation_of
from toolkeeper.stores.kubernetes.lease import LeaseObject
from toolkeeper.stores.kubernetes.store import KubernetesStore
from toolkeeper.telemetry.actions import Logged
from toolkeeper.telemetry.logs import Log, listen_to_libraries
from toolkeeper.telemetry.metrics import OperatorMetrics
from toolkeeper.wiring.options import LoopOptions, log_of
from toolkeeper.wiring.places import ClusterChoice
from toolkeeper.wiring.port import Vitals, heartbeat, serving

Answer = TypeVar("Answer")
AGAIN_SECONDS = 5.0
"""Between attempts to read what all replicas share, while the cluster does not answer or does not allow it."""


async def run_on_cluster(choice: ClusterChoice, options: LoopOptions) -> None:
    """Run until cancelled. Raises Fenced when another operator took over, Invalid for what only a person can mend."""
    login = login_of(choice)
    home = _home(choice)
    identity = choice.identity or platform.node() or "operator"
    log = log_of(options)
    listen_to_libraries(log)
    metrics, clock = OperatorMetrics(CollectorRegistry()), SystemClock()
    store = KubernetesStore(
        login=login, namespaces=choice.namespaces or None, identity=identity, clock=clock,
        watch_seconds=choice.watch_seconds,
    )  # fmt: skip
    metrics.registry.register(HearingCollector(store))
    log.info(
        "operator starts", store="kubernetes", identity=identity, home=home,
        namespaces=list(choice.namespaces) or "all",
    )  # fmt: skip
    async with serving(options.health, metrics.registry, vitals_of(store)) as beat, heartbeat(beat):
        store.start()
        try:
            found = await _patiently(lambda: installation_of(store.api, home), log)
            log = log_of(options, installation=found.id)
            key = await _patiently(lambda: digest_key(store.api, home, fresh=secrets.token_bytes), log)
            rng = random.Random()  # noqa: S311 – jitter, not cryptography
            registry = LeaseObject(store.api, home, clock=clock)
            operator = Operator(
                store,
                lambda toolbox: Dialled(toolbox, store.secret),
                ElectedLease(registry, f"{identity}_{random_uid()}", clock=clock, random=rng),
                policy=Policy(installation=found.id, allow_prune=options.allow_prune),
                digest_key=key,
                clock=clock,
                rng=rng,
                telemetry=Telemetry(metrics=metrics, actions=Logged(log), log=log),
            )
            await operator.run()
        finally:
            await store.aclose()


def _home(choice: ClusterChoice) -> str:
    """Where the operator's own objects are. Raises Invalid for a kubeconfig that no waiting would mend."""
    try:
        there = access.namespace(choice.kubeconfig, choice.context)
    except Unreachable:  # which may pass
        if not choice.home:
            raise
        return choice.home
    return choice.home or there


def login_of(choice: ClusterChoice) -> access.Login:
    """How this cluster is reached; credentials are read at each call."""
    return lambda: access.login(choice.kubeconfig, choice.context)


def vitals_of(store: KubernetesStore) -> Vitals:
    """A watch that stays deaf although the cluster answers is dead; who listed everything once is ready."""

    def dead() -> str:
        health = store.health()
        return "" if health.alive else f"the watch is dead: {health.failure or 'it hears nothing'}"

    def unready() -> str:
        health = store.health()
        listed = health.listed_ago is not None
        return "" if listed else f"the resources were not listed yet: {health.failure or 'still listing'}"

    return Vitals(dead, unready)


async def _patiently(ask: Callable[[], Awaitable[Answer]], log: Log) -> Answer:
    """The answer, as soon as the cluster gives and allows it."""
    said = ""
    while True:
        try:
            return await ask()
        except (Unreachable, Refused) as exc:
            if str(exc) != said:
                log.warning("waiting for the cluster", failure=str(exc), again_in=AGAIN_SECONDS)
            said = str(exc)
        await asyncio.sleep(AGAIN_SECONDS)


class HearingCollector(Collector):
    """The store's figures, read at each scrape."""

    def __init__(self, store: KubernetesStore) -> None:
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Counters and gauges named toolkeeper_kubernetes_*."""
        figures, health = self._store.figures(), self._store.health()
        requests = CounterMetricFamily(
            "toolkeeper_kubernetes_requests",
            "Requests to the API server by who asked and the status of the answer; none: it did not come.",
            labels=["by", "code"],
        )
        for by, answers in (("operator", figures.answers), ("watch", figures.watch_answers)):
            for status, count in sorted(answers.items()):
                requests.add_metric([by, str(status) if status else "none"], count)
        yield requests
        for name, help_, value in (
            ("lists", "Times that all resources were listed, periodically and after gaps.", figures.lists),
            ("watch_gaps", "Times that the watch of a kind began anew.", figures.gaps),
            ("watch_restarts", "Times that the whole watch was started again.", figures.restarts),
            ("missed_changes", "Changes that a list showed before the watch.", figures.missed),
            ("events_dropped", "Events that were not written.", figures.dropped_events),
        ):
            yield CounterMetricFamily(f"toolkeeper_kubernetes_{name}", help_, value=value)
        yield GaugeMetricFamily(
            "toolkeeper_kubernetes_failing",
            "1 while the API server does not let us see all resources.",
            value=float(bool(health.failure)),
        )
        yield GaugeMetricFamily(
            "toolkeeper_kubernetes_heard_seconds",
            "Seconds since the API server last answered the watch, of the kind that waits longest.",
            value=health.heard_ago,
        )
        if health.listed_ago is not None:
            yield GaugeMetricFamily(
                "toolkeeper_kubernetes_listed_seconds",
                "Seconds since all resources were listed.",
                value=health.listed_ago,
            )
