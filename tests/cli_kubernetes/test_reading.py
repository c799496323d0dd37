"""What people read of a cluster with the same commands, and in the same words, as of any other store."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from cli_kubernetes.conftest import Terminal, document, server
from stores_kubernetes.conftest import Cluster
from toolkeeper.clock import SystemClock
from toolkeeper.resources.conditions import carry, condition
from toolkeeper.resources.events import Event
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.resources.meta import Key
from toolkeeper.stores.kubernetes.store import KubernetesStore

TIME = Key("MCPServer", "default", "time")
AT = datetime(2026, 11, 21, tzinfo=UTC)


def observed(cluster: Cluster, *events: Event) -> None:
    """Have an operator write a status of the server `time`, and these events."""

    async def write() -> None:
        store = KubernetesStore(login=cluster.login, clock=SystemClock())
        store.start()
        (found,) = [each for each in (await store.list()).resources if each.key == TIME]
        assert isinstance(found, MCPServer)
        new = condition("Ready", False, "CrashLoopBackOff", "it exits with 3", generation=1)
        conditions = carry((), (new,), AT)
        status = MCPServerStatus(phase="error", conditions=conditions, container="tk_x_default_time_1")
        await store.write_status(found.model_copy(update={"status": status}))
        for each in events:
            await store.emit(each)
        await store.aclose()

    asyncio.run(write())


def test_get_lists_what_is_there_in_the_namespace_that_is_meant(terminal: Terminal) -> None:
    terminal.declare(server(), server("other", namespace="blue"))
    assert [line.split()[0] for line in terminal.said("get", "servers").splitlines()] == ["NAME", "time"]
    assert "other" in terminal.said("get", "servers", "-n", "blue")
    everywhere = terminal.said("get", "servers", "-A").splitlines()
    assert [line.split()[:2] for line in everywhere] == [
        ["NAMESPACE", "NAME"], ["blue", "other"], ["default", "time"],
    ]  # fmt: skip


def test_get_lists_several_kinds_at_once(terminal: Terminal) -> None:
    terminal.declare(document("Toolbox", "here", {"endpoint": "http://127.0.0.1:1"}), server())
    named = ["toolbox/here", "mcpserver/time"]
    assert terminal.said("get", "all", "-o", "name").split() == named
    assert terminal.said("get", "servers,connections", "-o", "name").split() == ["mcpserver/time"]


@pytest.mark.process
def test_who_watches_several_kinds_sees_each_with_its_header(terminal: Terminal) -> None:
    terminal.declare(server())
    with terminal.watching("get", "all") as lines:
        assert [next(lines).split()[0] for _ in range(2)] == ["NAME", "mcpserver/time"]
        terminal.declare(document("Toolbox", "here", {"endpoint": "http://127.0.0.1:1"}))
        assert [line.split()[:1] for line in (next(lines), next(lines), next(lines))] == [
            [], ["NAME"], ["toolbox/here"],
        ]  # fmt: skip


def test_the_namespace_is_that_of_the_kubeconfigs_context(terminal: Terminal, tmp_path: Path) -> None:
    terminal.declare(server(), server("other", namespace="blue"))
    config = json.loads(terminal.kubeconfig.read_text())
    config["contexts"][0]["context"]["namespace"] = "blue"
    (tmp_path / "kubeconfig").write_text(json.dumps(config))
    blue = Terminal(terminal.cluster, tmp_path / "kubeconfig")
    assert [line.split()[0] for line in blue.said("get", "servers").splitlines()] == ["NAME", "other"]
    assert "time" in blue.said("get", "servers", "-n", "default")


@pytest.mark.process
def test_who_watches_sees_what_changes(terminal: Terminal) -> None:
    terminal.declare(server())
    with terminal.watching("get", "servers", "-o", "name") as lines:
        assert next(lines) == "mcpserver/time\n"
        terminal.declare(server("other"))
        assert next(lines) == "mcpserver/other\n"


def test_get_prints_documents_that_kubectl_takes_back(terminal: Terminal) -> None:
    terminal.declare(server())
    got = yaml.safe_load(terminal.said("get", "server", "time", "-o", "yaml"))
    assert (got["kind"], got["spec"]["image"]) == ("MCPServer", "time:1")
    assert "source" not in got["status"]
    listed = json.loads(terminal.said("get", "servers", "-o", "json"))
    assert [each["metadata"]["name"] for each in listed["items"]] == ["time"]


def test_describe_names_state_remedy_and_what_happened(terminal: Terminal) -> None:
    terminal.declare(server())
    event = Event(TIME, "Warning", "CrashLoopBackOff", "it exits with 3", at=SystemClock().now())
    observed(terminal.cluster, event, event)
    said = terminal.said("describe", "server", "time")
    assert "Phase:        error" in said
    assert "→ Read the last lines with toolkeeper logs" in said
    assert "CrashLoopBackOff   it exits with 3" in said.partition("Events:")[2]
    assert json.loads(terminal.said("describe", "server", "time", "-o", "json"))["events"][0]["count"] == 2


def test_events_are_the_operators_of_one_object_or_of_all(terminal: Terminal) -> None:
    terminal.declare(server())
    now = SystemClock().now()
    other = Event(Key("Toolbox", "default", "here"), "Normal", "Reachable", "it answers", at=now)
    observed(terminal.cluster, Event(TIME, "Normal", "Created", "on here", at=now), other)
    assert "toolbox/here" in terminal.said("events")
    assert "toolbox/here" not in terminal.said("events", "server", "time")
    assert "mcpserver/time" in terminal.said("events", "server", "time")
    assert "Created" not in terminal("events", "-n", "blue").output


def test_what_is_missing_is_said_and_fails(terminal: Terminal) -> None:
    terminal.declare(server())
    for command in (("get", "server", "tmie"), ("describe", "server", "tmie"), ("pause", "server", "tmie")):
        result = terminal(*command)
        assert result.exit_code == 1
        assert "MCPServer tmie does not exist in namespace default; did you mean time?" in result.output


def test_logs_without_a_container_or_its_toolbox_say_why(terminal: Terminal) -> None:
    terminal.declare(server())
    assert "time has no container yet" in terminal("logs", "time").output
    observed(terminal.cluster)
    assert "the toolbox  does not exist" not in terminal("logs", "time").output
    assert terminal("logs", "time").exit_code == 1


def test_a_plan_where_no_operator_ever_ran_says_where_to_look(terminal: Terminal) -> None:
    result = terminal("plan")
    assert result.exit_code == 1
    assert "--operator-namespace" in result.output


def test_a_plan_sees_what_is_declared_and_creates_nothing(terminal: Terminal) -> None:
    terminal.installed()
    toolbox = document("Toolbox", "here", {"endpoint": "http://127.0.0.1:1"})
    terminal.declare(toolbox, server())
    result = terminal("plan")
    assert result.exit_code == 1
    assert "default/here:" in result.output
    assert "cannot be seen" in result.output
    with terminal.cluster.client() as client:
        assert client.get("/api/v1/namespaces/default/secrets").json()["items"] == []


@pytest.mark.parametrize("command", [("apply", "-f", "FILE"), ("delete", "server", "time")])
def test_what_is_kubectls_is_left_to_it(terminal: Terminal, tmp_path: Path, command: tuple[str, ...]) -> None:
    manifest = tmp_path / "time.json"
    manifest.write_text(server())
    command = tuple(each.replace("FILE", str(manifest)) for each in command)
    result = terminal(*command)
    assert result.exit_code == 1
    assert "that is kubectl's" in result.output


def test_a_cluster_that_cannot_be_reached_is_one_line(terminal: Terminal) -> None:
    result = terminal("get", "servers", "--context", "absent")
    assert result.exit_code == 1
    assert "absent" in result.output
    assert "Traceback" not in result.output
