"""What a node counts, and says when somebody asks. One registry per node: several fit in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from toolkeeper.dtma.wire import Usage
from toolkeeper.telemetry.metrics import NodeMetrics


class Tally:
    """The node's metrics, by what happened."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._metrics = NodeMetrics(self.registry)
        self._works = Counter(
            "toolkeeper_node_works_total",
            "Pieces of background work, by verb, outcome and reason.",
            ["verb", "outcome", "reason"],
            registry=self.registry,
        )
        self._refused = Counter(
            "toolkeeper_node_logins_refused_total", "Requests without a valid token.", registry=self.registry
        )
        self._runtime_up = Gauge(
            "toolkeeper_node_runtime_up", "Whether the runtime answers.", registry=self.registry
        )

    def request(self, operation: str, status: int, seconds: float) -> None:
        """A request was answered. How long a poll waited is its caller's choice, so it is not measured."""
        self._metrics.api_requests.labels(operation, str(status)).inc()
        if operation not in {"state", "logs"}:
            self._metrics.api_seconds.labels(operation).observe(seconds)

    def login_refused(self) -> None:
        """A request came without a valid token."""
        self._refused.inc()

    def work(self, verb: str, outcome: str, reason: str) -> None:
        """A piece of work ended: done, failed, fenced, cancelled or unknown."""
        self._works.labels(verb, outcome, reason).inc()

    def fetched(self, state: str, seconds: float, *, ok: bool) -> None:
        """A pull or a build ended."""
        outcome = "ok" if ok else "failed"
        if state == "pulling":
            self._metrics.pulls.labels(outcome).inc()
            self._metrics.pull_seconds.observe(seconds)
        elif state == "building":
            self._metrics.builds.labels(outcome).inc()
            self._metrics.build_seconds.observe(seconds)

    def probe(self, reason: str, seconds: float) -> None:
        """A probe came out."""
        self._metrics.probes.labels(reason).inc()
        self._metrics.probe_seconds.observe(seconds)

    def text(self, *, up: bool, states: Mapping[str, int], usage: Iterable[Usage]) -> bytes:
        """Everything in Prometheus' text format, with what is true right now."""
        self._runtime_up.set(up)
        self._metrics.instances.clear()
        for state, number in states.items():
            self._metrics.instances.labels(state).set(number)
        passing = CollectorRegistry()
        passing.register(_Usages(tuple(usage)))
        return generate_latest(self.registry) + generate_latest(passing)


class _Usages(Collector):
    """What each container uses now; a gauge that is kept would go on about containers that are gone."""

    def __init__(self, usage: tuple[Usage, ...]) -> None:
        self._usage = usage

    def collect(self) -> Iterable[Metric]:
        yield self._family("cpu_cores", "Cores that a container uses.", lambda each: each.cpu)
        yield self._family("memory_bytes", "Memory that a container uses.", lambda each: each.memory)

    def _family(self, what: str, text: str, value: Callable[[Usage], float]) -> Metric:
        family = GaugeMetricFamily(f"toolkeeper_node_container_{what}", text, labels=["container"])
        for each in self._usage:
            family.add_metric([each.name], value(each))
        return family
