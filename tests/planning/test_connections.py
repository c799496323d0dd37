"""What status says about a connection: four levels, and the first that does not admit is the reason."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from toolkeeper.planning.connections import Answer, connection
from toolkeeper.planning.decide import decide
from toolkeeper.resources.agentconnection import AgentConnection, AgentConnectionSpec
from toolkeeper.resources.conditions import find
from toolkeeper.resources.mcpserver import MOST_NAMED, MCPServer
from toolkeeper.resources.meta import Metadata
from toolkeeper.testing.builders import (
    NOW,
    make_container,
    make_handshake,
    make_server,
    make_snapshot,
    make_toolbox,
    make_world,
)

TOOLS = ("read_file", "read_dir", "write_file")
OPEN: dict[str, Any] = {"agents": ["default/*"], "tools": ["*"]}


def connected(**spec: Any) -> AgentConnection:
    given = {
        "agent": "ada",
        "tools": {"allow": ["*"]},
        **({} if "serverSelector" in spec else {"serverRef": "time"}),
        **spec,
    }
    return AgentConnection(metadata=Metadata(name="ada"), spec=AgentConnectionSpec.model_validate(given))


def ready(name: str = "time", access: dict[str, Any] | None = None, **meta: Any) -> MCPServer:
    server = make_server(name, access=OPEN if access is None else access, **meta)
    seen = make_container(server, handshake=make_handshake(tools=TOOLS))
    return decide(make_world(server, observation=make_snapshot(seen))).servers[0]


def told(resource: AgentConnection, *servers: MCPServer, agents: tuple[str, ...] = ("*",)) -> AgentConnection:
    return connection(resource, servers, [make_toolbox(agents=agents)], NOW)


def said(resource: AgentConnection, type: str) -> tuple[str, str]:
    found = find(resource.status.conditions, type)
    assert found is not None
    return found.status, found.reason


@pytest.mark.parametrize(
    ("spec", "server", "agents", "expected"),
    [
        ({}, {}, ("*",), ("True", "Authorized")),
        ({"active": False}, {}, ("*",), ("False", "Inactive")),
        ({"expiresAt": NOW}, {}, ("*",), ("False", "Expired")),
        ({"expiresAt": NOW + timedelta(seconds=1)}, {}, ("*",), ("True", "Authorized")),
        ({}, {"access": {}}, ("*",), ("False", "AgentNotAdmitted")),
        ({}, {"access": {"agents": ["other/*"]}}, ("*",), ("False", "AgentNotAdmitted")),
        ({}, {}, (), ("False", "AgentNotAdmitted")),
        ({}, {}, ("default/ad?",), ("True", "Authorized")),
    ],
)
def test_every_level_must_admit_the_agent(
    spec: dict[str, Any], server: dict[str, Any], agents: tuple[str, ...], expected: tuple[str, str]
) -> None:
    assert said(told(connected(**spec), ready(**server), agents=agents), "Authorized") == expected


@pytest.mark.parametrize(
    ("rules", "ceiling", "tools"),
    [
        ({"allow": ["*"]}, ["*"], TOOLS),
        ({"allow": ["read_*"]}, ["*"], ("read_file", "read_dir")),
        ({"allow": ["*"], "deny": ["write_*"]}, ["*"], ("read_file", "read_dir")),
        ({"allow": ["*"]}, ["*_file"], ("read_file", "write_file")),
        ({"allow": []}, ["*"], ()),
        ({"allow": ["*"]}, [], ()),
        ({"allow": ["READ_*"]}, ["*"], ()),
    ],
)
def test_a_tool_is_granted_only_within_both_lists(
    rules: dict[str, Any], ceiling: list[str], tools: tuple[str, ...]
) -> None:
    server = ready(access={"agents": ["*"], "tools": ceiling})
    assert told(connected(tools=rules), server).status.tools == tuple(sorted(tools))


def test_labels_may_mean_several_servers() -> None:
    servers = [ready("a", labels={"team": "x"}), ready("b", labels={"team": "x"}), ready("c")]
    found = told(connected(serverSelector={"team": "x"}), *servers)
    assert said(found, "ServerReady") == ("True", "Ready")
    assert said(told(connected(serverSelector={"team": "y"}), *servers), "ServerReady") == (
        "False",
        "ServerNotFound",
    )


def test_of_very_many_tools_not_all_are_named_but_all_are_counted() -> None:
    def many(name: str) -> MCPServer:
        server = ready(name, labels={"team": "files"})
        tools = tuple(f"{name}_{number}" for number in range(900))
        return server.model_copy(update={"status": server.status.model_copy(update={"tools": tools})})

    found = told(connected(serverSelector={"team": "files"}), many("a"), many("b"))
    assert len(found.status.tools) == MOST_NAMED
    resolved = find(found.status.conditions, "ToolsResolved")
    assert resolved is not None
    assert resolved.message == "1800 granted"
    assert told(found, many("a"), many("b")) is found


def test_a_server_of_another_namespace_is_not_meant() -> None:
    elsewhere = ready(namespace="other")
    assert said(told(connected(), elsewhere), "ServerReady") == ("False", "ServerNotFound")


def test_a_server_that_is_not_ready_is_named() -> None:
    found = told(connected(), make_server(access=OPEN))
    assert said(found, "ServerReady") == ("False", "ServerNotReady")
    assert said(found, "ToolsResolved") == ("Unknown", "NotSeen")


def test_nothing_is_said_to_be_enforced_or_ready_before_a_gateway_runs() -> None:
    found = told(connected(), ready())
    assert said(found, "Enforced") == ("False", "NoGateway")
    assert said(found, "Ready") == ("False", "NoGateway")
    assert found.status.endpoint == ""


def test_what_is_known_of_the_token_is_said_and_is_no_grant() -> None:
    taken: Answer = ("False", "TokenSecretTaken", "it is somebody else's")
    found = connection(connected(), [ready()], [make_toolbox(agents=("*",))], NOW, taken)
    assert said(found, "TokenIssued") == ("False", "TokenSecretTaken")
    found = connection(found, [ready()], [make_toolbox(agents=("*",))], NOW, ("True", "Issued", ""))
    assert said(found, "TokenIssued") == ("True", "Issued")
    assert said(found, "Enforced") == said(found, "Ready") == ("False", "NoGateway")


def test_a_connection_that_did_not_change_is_the_very_same_object() -> None:
    first = told(connected(), ready())
    assert told(first, ready()) is first
