"""Commands on a cluster have the rights of whoever types them, and need no more than they are about."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli_kubernetes.conftest import Terminal, server
from services import apiserver
from stores_kubernetes.conftest import Cluster

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.parametrize("cluster", ["real_cluster"], indirect=True),  # a fake grants everything
]
KINDS = ["toolboxes", "mcpservers"]
USER: list[dict[str, Any]] = [
    {"apiGroups": ["toolkeeper.dev"], "resources": KINDS, "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["toolkeeper.dev"], "resources": ["agentconnections"], "verbs": ["get", "list", "watch"]},
]
"""What the chart's toolkeeper-user reads."""
RBAC = "/apis/rbac.authorization.k8s.io/v1/namespaces/default"


@pytest.fixture
def jane(cluster: Cluster, terminal: Terminal) -> Terminal:
    """A toolkeeper-user of the namespace `default`, where somebody else declared a server."""
    group = "rbac.authorization.k8s.io"
    accounts = "/api/v1/namespaces/default/serviceaccounts"
    with cluster.client() as client:
        client.post(accounts, json={"metadata": {"name": "jane"}})
        client.post(f"{RBAC}/roles", json={"metadata": {"name": "user"}, "rules": USER})
        binding = {
            "metadata": {"name": "jane"},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "user"},
            "subjects": [{"kind": "ServiceAccount", "name": "jane", "namespace": "default"}],
        }
        client.post(f"{RBAC}/rolebindings", json=binding)
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        token = client.post(f"{accounts}/jane/token", json=asked).json()["status"]["token"]
    terminal.declare(server())
    folder = cluster.kubeconfig.parent
    return Terminal(cluster, apiserver.write_kubeconfig(folder, cluster.url, cluster.ca, token))


def test_a_user_of_one_namespace_reads_it_and_no_other(jane: Terminal) -> None:
    assert "time" in jane.said("get", "servers")
    for elsewhere in (("-n", "blue"), ("-A",)):
        result = jane("get", "servers", *elsewhere)
        assert result.exit_code == 1
        assert "Kubernetes forbids" in result.output


def test_who_may_not_read_events_is_told_everything_else(jane: Terminal) -> None:
    result = jane("describe", "server", "time")
    assert result.exit_code == 0, result.output
    assert "Source:       time:1" in result.stdout
    assert "Warning: Kubernetes forbids" in result.stderr
    assert json.loads(jane.said("describe", "server", "time", "-o", "json"))["events"] == []
    assert jane("events").exit_code == 1


@pytest.mark.parametrize("command", [("pause", "time"), ("restart", "time"), ("stop", "time")])
def test_who_may_not_edit_a_server_cannot_steer_it(jane: Terminal, command: tuple[str, ...]) -> None:
    before = jane.spec()
    result = jane(*command)
    assert result.exit_code == 1
    assert "grant it with a Role" in result.output
    assert jane.spec() == before


def test_who_may_not_read_the_operators_namespace_gets_no_plan(jane: Terminal) -> None:
    result = jane("plan")
    assert result.exit_code == 1
    assert "Kubernetes forbids get on /api/v1/namespaces/default/configmaps/toolkeeper" in result.output
