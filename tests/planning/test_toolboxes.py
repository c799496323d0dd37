"""What status says about a toolbox."""

from __future__ import annotations

from typing import Any

import pytest

from toolkeeper.planning.decide import decide
from toolkeeper.planning.observed import Observation, Unreachable
from toolkeeper.resources.conditions import find
from toolkeeper.resources.mcpserver import MOST_NAMED
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.testing.builders import make_container, make_server, make_snapshot, make_toolbox, make_world

ASPECTS = ("Reachable", "Authenticated", "RuntimeReady", "Ready")


def looked(observation: Observation | None = None, **spec: Any) -> Toolbox:
    found = decide(make_world(toolbox=make_toolbox(**spec), observation=observation))
    assert found.toolbox is not None
    return found.toolbox


def said(toolbox: Toolbox, type: str) -> tuple[str, str]:
    found = find(toolbox.status.conditions, type)
    assert found is not None
    return found.status, found.reason


@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (make_snapshot(), ("True", "True", "True", "True")),
        (make_snapshot(runtime_ok=False), ("True", "True", "False", "False")),
        (Unreachable("AuthenticationFailed"), ("True", "False", "Unknown", "False")),
        (Unreachable("SecretMissing"), ("Unknown", "Unknown", "Unknown", "False")),
        (Unreachable("ToolboxUnreachable"), ("False", "Unknown", "Unknown", "False")),
        (Unreachable("CertificateMismatch"), ("False", "Unknown", "Unknown", "False")),
        (Unreachable("NeverSeen"), ("Unknown", "Unknown", "Unknown", "Unknown")),
    ],
)
def test_each_kind_of_silence_is_told_apart(observation: Observation, expected: tuple[str, ...]) -> None:
    toolbox = looked(observation)
    assert tuple(said(toolbox, aspect)[0] for aspect in ASPECTS) == expected


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("https://box.example:30000", ("True", "SystemTrust")),
        ("http://127.0.0.1:30000", ("True", "Loopback")),
        ("http://localhost", ("True", "Loopback")),
        ("http://[::1]:30000", ("True", "Loopback")),
        ("unix:///run/toolkeeper.sock", ("True", "LocalSocket")),
        ("http://box.example:30000", ("False", "PlainHTTP")),
        ("http://localhost.example:30000", ("False", "PlainHTTP")),
        ("http://127.0.0.1.example", ("False", "PlainHTTP")),
    ],
)
def test_plain_http_is_secure_only_to_this_machine(endpoint: str, expected: tuple[str, str]) -> None:
    assert said(looked(endpoint=endpoint), "AgentSecure") == expected


@pytest.mark.parametrize(
    "endpoint", ["https://box.example:30000", "http://127.0.0.1:30000", "unix:///run/toolkeeper.sock"]
)
@pytest.mark.parametrize(
    ("observation", "expected"),
    [
        (Unreachable("NeverSeen", "not yet"), ("Unknown", "NeverSeen")),
        (Unreachable("SecretMissing", "no token"), ("Unknown", "SecretMissing")),
        (Unreachable("ToolboxUnreachable", "silence"), ("Unknown", "ToolboxUnreachable")),
    ],
)
def test_no_connection_is_called_secure_before_there_is_one(
    endpoint: str, observation: Observation, expected: tuple[str, str]
) -> None:
    assert said(looked(observation, endpoint=endpoint), "AgentSecure") == expected


@pytest.mark.parametrize(
    "observation", [Unreachable("AuthenticationFailed"), make_snapshot(runtime_ok=False)]
)
def test_an_answer_of_any_kind_tells_whether_the_connection_is_secure(observation: Observation) -> None:
    assert said(looked(observation, endpoint="https://box.example"), "AgentSecure") == ("True", "SystemTrust")


def test_that_everybody_could_read_along_is_told_before_anything_is_sent() -> None:
    found = looked(Unreachable("NeverSeen"), endpoint="http://box.example:30000")
    assert said(found, "AgentSecure") == ("False", "PlainHTTP")


def test_a_pinned_certificate_is_told() -> None:
    pinned = {"fingerprints": ["sha256:" + "0" * 64]}
    assert said(looked(endpoint="https://box.example", tls=pinned), "AgentSecure") == ("True", "Fingerprint")
    mismatch = looked(Unreachable("CertificateMismatch"), endpoint="https://box.example", tls=pinned)
    assert said(mismatch, "AgentSecure") == ("False", "CertificateMismatch")


@pytest.mark.parametrize("observation", [make_snapshot(), Unreachable("ToolboxUnreachable")])
def test_a_deleted_toolbox_says_what_it_waits_for(observation: Observation) -> None:
    def mood(**annotations: str) -> str:
        marked = {f"toolkeeper.dev/{name}": value for name, value in annotations.items()}
        found = looked(observation, deleted=True, annotations=marked)
        (told,) = [each for each in found.status.conditions if each.type in ("Reconciling", "Stalled")]
        assert (told.type, told.reason) == ("Reconciling", "Deleting")
        return told.message

    assert mood() == "it stays until the servers deleted with it are cleaned up"
    assert mood(**{"force-delete": "yes"}) == (
        "it stays until the servers deleted with it are cleaned up; "
        "toolkeeper.dev/force-delete='yes' means nothing, only 'true' does"
    )


def test_nobody_claims_that_the_gateway_is_isolated_before_there_is_one() -> None:
    assert said(looked(), "GatewayIsolated") == ("Unknown", "NoGateway")


def test_what_is_there_and_what_is_taken_are_counted() -> None:
    one, two = make_server("one"), make_server("two", resources={"memory": "1Gi", "cpu": "500m"})
    snapshot = make_snapshot(make_container(one), foreign=7)
    found = decide(make_world(one, two, observation=snapshot)).toolbox
    assert found is not None
    status = found.status
    assert (status.servers, status.ready, status.foreign) == (2, 1, 7)
    assert status.allocated == {"memory": 1536 * 2**20, "nanoCpus": 1_500_000_000}
    assert status.capacity == {"memory": 64 << 30, "nanoCpus": 16_000_000_000}


def test_declared_capacity_is_what_counts() -> None:
    status = looked(capacity={"servers": 3, "memory": "4Gi"}).status
    assert status.capacity == {"servers": 3, "memory": 4 << 30, "nanoCpus": 16_000_000_000}


def test_a_toolbox_that_falls_silent_keeps_what_was_known_of_it() -> None:
    known = looked(make_snapshot(foreign=7))
    silent = decide(make_world(toolbox=known, observation=Unreachable("ToolboxUnreachable"))).toolbox
    assert silent is not None
    assert (silent.status.foreign, silent.status.agent_version) == (7, "0.1.0")


def test_orphans_are_named() -> None:
    ghost = make_container(make_server("ghost"))
    assert looked(make_snapshot(ghost)).status.orphans == (ghost.name,)


def test_very_many_orphans_are_not_all_named() -> None:
    ghosts = [make_container(make_server(f"ghost-{number}")) for number in range(MOST_NAMED + 1)]
    assert len(looked(make_snapshot(*ghosts)).status.orphans) == MOST_NAMED


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"agent": "dtma"}, "spec.agent: dtma"),
        ({"agent_recovery": "Restart"}, "spec.agentRecovery"),
        ({"gateway": {"publicURL": "https://agents.example"}}, "spec.gateway"),
        ({"gateway": {"maxPolicyAge": 60}}, "spec.gateway"),
    ],
)
def test_a_field_that_nothing_acts_on_is_said_to_have_no_effect(spec: dict[str, Any], field: str) -> None:
    told = find(looked(**spec).status.conditions, "Enforced")
    assert told is not None
    assert (told.status, told.reason) == ("False", "NoEffectYet")
    assert field in told.message


def test_a_toolbox_of_which_every_field_counts_needs_no_such_remark() -> None:
    plain = looked(agent="toolkeeper", drain=True, capacity={"servers": 3})
    assert find(plain.status.conditions, "Enforced") is None
