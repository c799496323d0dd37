"""A field without effect says so."""

from __future__ import annotations

from typing import Any

import pytest

from toolkeeper.node import features
from toolkeeper.planning.advisories import NEEDS, not_enforced
from toolkeeper.testing.builders import ENFORCED, make_server

NOT_YET = {"access", "sessions"}
"""Announced by no node so far: the gateway brings them."""


def test_every_feature_that_a_field_needs_is_one_that_nodes_know() -> None:
    known = {value for name, value in vars(features).items() if name.isupper()}
    assert {feature for _, feature, _ in NEEDS} <= known | NOT_YET


def test_a_docker_host_enforces_every_default() -> None:
    assert not_enforced(make_server().spec, ENFORCED) == ()


def test_a_host_that_enforces_nothing_is_told_on_field_by_field() -> None:
    assert not_enforced(make_server().spec, ("images",)) == (
        "spec.resources.memory",
        "spec.resources.cpu",
        "spec.resources.pids",
        "spec.security (capabilities)",
        "spec.security (read-only root)",
        "spec.security (user)",
        "spec.network",
    )


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"network": {"egress": {"allow": ["api.example:443"]}}}, "spec.network.egress.allow"),
        ({"access": {"agents": ["*"]}}, "spec.access"),
        ({"sessions": "shared"}, "spec.sessions"),
        ({"tools": {"pin": "Enforce"}}, "spec.tools.pin (calls)"),
    ],
)
def test_what_waits_for_the_gateway_is_said(spec: dict[str, Any], field: str) -> None:
    assert not_enforced(make_server(**spec).spec, ENFORCED) == (field,)


def test_a_node_of_the_version_before_is_told_on_about_credentials_of_probes() -> None:
    spec = make_server(health={"credentialsRef": {"name": "a", "key": "b"}}).spec
    older = tuple(each for each in ENFORCED if each != "probe-credentials")
    assert not_enforced(spec, older) == ("spec.health.credentialsRef",)
    assert not_enforced(spec, ENFORCED) == ()
