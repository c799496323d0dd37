from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from toolkeeper.telemetry.metrics import NodeMetrics, OperatorMetrics


def test_every_metric_carries_the_name_of_the_program() -> None:
    registry = CollectorRegistry()
    OperatorMetrics(registry)
    NodeMetrics(registry)
    assert all(metric.name.startswith("toolkeeper_") for metric in registry.collect())


def test_every_metric_says_what_it_counts() -> None:
    registry = CollectorRegistry()
    OperatorMetrics(registry)
    NodeMetrics(registry)
    assert all(metric.documentation.endswith(".") for metric in registry.collect())


def test_two_programs_in_one_process_do_not_share_figures() -> None:
    one, two = OperatorMetrics(CollectorRegistry()), OperatorMetrics(CollectorRegistry())
    one.drift_found.inc()
    assert b"toolkeeper_drift_found_total 1.0" in generate_latest(one.registry)
    assert b"toolkeeper_drift_found_total 0.0" in generate_latest(two.registry)
