"""The metrics of every program, as `toolkeeper_*`. The registry is an argument: nothing is global."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: from a pass over a host to a slow request."""
SLOW = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds: what people wait for."""


class OperatorMetrics:
    """What the reconcile loop counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.reconcile_seconds = Histogram(
            "toolkeeper_reconcile_duration_seconds",
            "Time of one pass, from taking a key to being done with it.",
            ["kind"],
            buckets=FAST,
            registry=registry,
        )
        self.reconciles = Counter(
            "toolkeeper_reconcile_total",
            "Passes by what came of them.",
            ["kind", "outcome"],
            registry=registry,
        )
        self.queue_depth = Gauge("toolkeeper_queue_depth", "Keys that are due and wait.", registry=registry)
        self.drift_found = Counter(
            "toolkeeper_drift_found_total",
            "Servers that were as declared and no longer are, although nobody edited them.",
            registry=registry,
        )
        self.drift_healed = Counter(
            "toolkeeper_drift_healed_total",
            "Of those, the ones that are as declared again.",
            registry=registry,
        )
        self.deployments = Counter(
            "toolkeeper_deployments_total",
            "Deployments by outcome and reason.",
            ["outcome", "reason"],
            registry=registry,
        )
        self.to_accepted = Histogram(
            "toolkeeper_change_to_accepted_seconds",
            "From noticing a change of a spec to the host accepting it.",
            buckets=SLOW,
            registry=registry,
        )
        self.to_ready = Histogram(
            "toolkeeper_change_to_ready_seconds",
            "From noticing a change of a spec to its handshake.",
            buckets=SLOW,
            registry=registry,
        )
        self.requests = Counter(
            "toolkeeper_toolbox_requests_total",
            "Requests to toolboxes.",
            ["toolbox", "operation", "outcome"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "toolkeeper_toolbox_request_duration_seconds",
            "Latency of requests to toolboxes, long polls excluded.",
            ["operation"],
            buckets=FAST,
            registry=registry,
        )
        self.reachable = Gauge(
            "toolkeeper_toolbox_reachable", "1 while the toolbox answers.", ["toolbox"], registry=registry
        )
        self.restarts = Counter(
            "toolkeeper_restarts_total", "Restarts that Toolkeeper asked for.", ["reason"], registry=registry
        )
        self.status_writes = Counter(
            "toolkeeper_status_writes_total",
            "Status writes by kind and outcome.",
            ["kind", "outcome"],
            registry=registry,
        )
        self.events = Counter("toolkeeper_events_total", "Events by reason.", ["reason"], registry=registry)
        self.leader = Gauge("toolkeeper_leader", "1 while this operator leads.", registry=registry)
        self.problems = Gauge(
            "toolkeeper_source_problems", "Pieces of the source that cannot be read.", registry=registry
        )


class GitMetrics:
    """What following a Git repository counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.pulls = Counter(
            "toolkeeper_git_pulls_total", "Looks at the repository.", ["outcome"], registry=registry
        )
        self.pull_seconds = Histogram(
            "toolkeeper_git_pull_duration_seconds",
            "Time of one look, with the fetch if there was one.",
            buckets=SLOW,
            registry=registry,
        )
        self.failing = Gauge(
            "toolkeeper_git_failing", "1 while the newest commit cannot be had or taken.", registry=registry
        )
        self.last_success = Gauge(
            "toolkeeper_git_last_success_timestamp_seconds",
            "When the repository was last found to be as it is here.",
            registry=registry,
        )
        self.commit = Gauge("toolkeeper_git_commit", "The commit in force.", ["commit"], registry=registry)
        self.webhooks = Counter(
            "toolkeeper_git_webhooks_total", "Calls of the webhook.", ["outcome"], registry=registry
        )


class NodeMetrics:
    """What the host agent counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.instances = Gauge(
            "toolkeeper_node_instances", "Instances by state.", ["state"], registry=registry
        )
        self.probe_seconds = Histogram(
            "toolkeeper_node_probe_duration_seconds",
            "Time of one MCP probe.",
            buckets=FAST,
            registry=registry,
        )
        self.probes = Counter(
            "toolkeeper_node_probes_total", "MCP probes by what came of them.", ["outcome"], registry=registry
        )
        self.pulls = Counter("toolkeeper_node_pulls_total", "Image pulls.", ["outcome"], registry=registry)
        self.pull_seconds = Histogram(
            "toolkeeper_node_pull_duration_seconds",
            "Time of one image pull.",
            buckets=SLOW,
            registry=registry,
        )
        self.builds = Counter("toolkeeper_node_builds_total", "Image builds.", ["outcome"], registry=registry)
        self.build_seconds = Histogram(
            "toolkeeper_node_build_duration_seconds",
            "Time of one image build.",
            buckets=SLOW,
            registry=registry,
        )
        self.api_requests = Counter(
            "toolkeeper_node_api_requests_total",
            "Requests to the node's API.",
            ["operation", "status"],
            registry=registry,
        )
        self.api_seconds = Histogram(
            "toolkeeper_node_api_request_duration_seconds",
            "Latency of the node's API, long polls excluded.",
            ["operation"],
            buckets=FAST,
            registry=registry,
        )
