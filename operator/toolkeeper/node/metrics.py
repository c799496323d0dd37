"""What a node counts. One registry per node, so that several can live in one process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from toolkeeper.dtma.wire import Usage

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class NodeMetrics:
    """The metrics of one node agent; names start with `toolkeeper_node_`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "toolkeeper_node_request_seconds",
            "Requests to the API, by operation and status; a long poll counts from its wake-up.",
            ["operation", "status"],
            buckets=_FAST,
            registry=self.registry,
        )
        self._works = Counter(
            "toolkeeper_node_works_total",
            "Pieces of background work, by verb, outcome and reason.",
            ["verb", "outcome", "reason"],
            registry=self.registry,
        )
        self._probes = Histogram(
            "toolkeeper_node_probe_seconds",
            "MCP probes, by transport and reason.",
            ["transport", "reason"],
            buckets=_FAST,
            registry=self.registry,
        )
        self.logins_refused = Counter(
            "toolkeeper_node_logins_refused_total", "Requests without a valid token.", registry=self.registry
        )
        self.runtime_up = Gauge(
            "toolkeeper_node_runtime_up", "Whether the runtime answers.", registry=self.registry
        )

    def request(self, operation: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(operation, str(status)).observe(seconds)

    def work(self, verb: str, outcome: str, reason: str) -> None:
        """A piece of work ended: done, failed, fenced, cancelled or unknown."""
        self._works.labels(verb, outcome, reason).inc()

    def probe(self, transport: str, reason: str, seconds: float) -> None:
        """A probe came out."""
        self._probes.labels(transport, reason).observe(seconds)

    def containers_from(self, counts: Callable[[], Mapping[str, int]]) -> None:
        """Count containers by state when somebody asks."""
        self.registry.register(_Containers(counts))

    def text(self, usage: Iterable[Usage] = ()) -> bytes:
        """Everything in Prometheus' text format, with what each container uses now."""
        passing = CollectorRegistry()
        passing.register(_Usages(tuple(usage)))
        return generate_latest(self.registry) + generate_latest(passing)


class _Containers(Collector):
    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily(
            "toolkeeper_node_containers", "Containers of ours, by state.", labels=["state"]
        )
        for state, number in sorted(self._counts().items()):
            family.add_metric([state], number)
        yield family


class _Usages(Collector):
    def __init__(self, usage: tuple[Usage, ...]) -> None:
        self._usage = usage

    def collect(self) -> Iterable[Metric]:
        cpu = GaugeMetricFamily(
            "toolkeeper_node_container_cpu_cores", "Cores that a container uses.", labels=["container"]
        )
        memory = GaugeMetricFamily(
            "toolkeeper_node_container_memory_bytes", "Memory that a container uses.", labels=["container"]
        )
        for each in self._usage:
            cpu.add_metric([each.name], each.cpu)
            memory.add_metric([each.name], each.memory)
        yield cpu
        yield memory
