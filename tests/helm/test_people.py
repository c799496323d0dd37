"""What people may do whom the chart's roles are given: admins deploy servers, users connect their own agents."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from helm.conftest import KINDS, Release, Template, declare, established, finalizers
from helm.hands import Cluster, Hands, until
from toolkeeper.resources.meta import FINALIZER
from toolkeeper.testing.fake_runtime import FakeRuntime

pytestmark = pytest.mark.kubernetes
NAMESPACE = Release.NAMESPACE
JANE = "--as=jane"
Say = Callable[..., str]


@pytest.fixture
def jane(cluster: Cluster, release: Release) -> Say:
    """What kubectl tells jane, who is a toolkeeper-user of one namespace."""
    release.install({"replicas": 1})
    established(cluster)
    bind = ("create", "rolebinding", "jane", "--clusterrole=toolkeeper-user", "--user=jane")
    cluster.kubectl("-n", NAMESPACE, *bind, check=False)
    return lambda *arguments, given="": cluster.kubectl(JANE, *arguments, given=given, check=False)


def document(kind: str, name: str, **spec: Any) -> str:
    """A manifest."""
    metadata = {"name": name}
    return yaml.safe_dump(
        {"apiVersion": "toolkeeper.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
    )


def connection(name: str = "bot-time", **spec: Any) -> str:
    said = {"agent": "bot", "serverRef": "time", "tools": {"allow": ["*"]}, **spec}
    return document("AgentConnection", name, **said)


def test_a_user_connects_agents_of_the_own_namespace(jane: Say) -> None:
    assert "created" in jane("-n", NAMESPACE, "apply", "-f", "-", given=connection())
    assert "bot-time" in jane("-n", NAMESPACE, "get", "agentconnections")
    assert "configured" in jane("-n", NAMESPACE, "apply", "-f", "-", given=connection(active=False))
    assert "deleted" in jane("-n", NAMESPACE, "delete", "agentconnection", "bot-time")


def test_a_user_cannot_connect_agents_of_another_namespace(jane: Say) -> None:
    assert "forbidden" in jane("-n", "green", "apply", "-f", "-", given=connection())
    said = jane("-n", NAMESPACE, "apply", "-f", "-", given=connection(agent="green/bot"))
    assert "spec.agent" in said
    assert "Invalid value" in said


def test_a_user_sees_servers_and_cannot_make_or_change_them(jane: Say, cluster: Cluster) -> None:
    server = document("MCPServer", "mine", toolboxRef="here", image="evil:1")
    toolbox = document("Toolbox", "mine", endpoint="https://evil.example")
    assert "forbidden" in jane("-n", NAMESPACE, "create", "-f", "-", given=server)
    assert "forbidden" in jane("-n", NAMESPACE, "create", "-f", "-", given=toolbox)
    cluster.kubectl("-n", NAMESPACE, "create", "-f", "-", given=server)
    assert "mine" in jane("-n", NAMESPACE, "get", "mcpservers")
    assert "forbidden" in jane("-n", NAMESPACE, "delete", "mcpserver", "mine")
    assert "forbidden" in jane("-n", "green", "get", "mcpservers")


def test_a_user_is_told_what_happened(jane: Say, cluster: Cluster) -> None:
    server = document("MCPServer", "told", toolboxRef="here", image="registry.example/time:1")
    cluster.kubectl("-n", NAMESPACE, "create", "-f", "-", given=server)
    uid = cluster.kubectl("-n", NAMESPACE, "get", "mcpserver", "told", "-o", "jsonpath={.metadata.uid}")
    happened = {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": "told.1", "namespace": NAMESPACE},
        "eventTime": "2026-11-21T12:00:00.000000Z",
        "type": "Normal",
        "reason": "Ready",
        "action": "Ready",
        "note": "it serves over stdio",
        "regarding": {
            "apiVersion": "toolkeeper.dev/v1alpha1",
            "kind": "MCPServer",
            "namespace": NAMESPACE,
            "name": "told",
            "uid": uid,
        },
        "reportingController": "toolkeeper.dev/operator",
        "reportingInstance": "test",
    }
    cluster.kubectl("-n", NAMESPACE, "create", "-f", "-", given=json.dumps(happened))
    assert "it serves over stdio" in jane("-n", NAMESPACE, "describe", "mcpserver", "told")
    assert "it serves over stdio" in jane("-n", NAMESPACE, "get", "events.events.k8s.io")
    assert "forbidden" in jane("-n", "green", "get", "events")


def test_a_user_cannot_write_a_status(jane: Say) -> None:
    jane("-n", NAMESPACE, "apply", "-f", "-", given=connection())
    patch = '{"status":{"endpoint":"https://evil.example"}}'
    path = ("-n", NAMESPACE, "patch", "agentconnection", "bot-time", "--subresource=status", "--type=merge")
    assert "forbidden" in jane(*path, "-p", patch)


def test_a_user_has_no_right_on_secrets(jane: Say) -> None:
    for verb in ("get", "list", "create", "patch", "delete"):
        assert jane("-n", NAMESPACE, "auth", "can-i", verb, "secrets").strip() == "no"


def test_a_user_neither_reads_nor_overwrites_a_secret_through_the_operator(
    jane: Say, cluster: Cluster, runtime: FakeRuntime, endpoint: str
) -> None:
    declare(cluster, endpoint)
    value = "the-password-of-the-database"
    secret = ("-n", NAMESPACE, "create", "secret", "generic", "database", f"--from-literal=token={value}")
    cluster.kubectl(*secret)
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/database"
    before = cluster.get(path)
    bearer = {"header": "X-Key", "secretRef": {"name": "database", "key": "token"}}
    jane("-n", NAMESPACE, "apply", "-f", "-", given=connection("steal", tokenSecretRef="database"))
    jane("-n", NAMESPACE, "apply", "-f", "-", given=connection("peek", credentials=[bearer]))
    with Hands(cluster, NAMESPACE).working() as hands:
        until(lambda: finalizers(cluster) == [FINALIZER])
        until(lambda: all(_observed(cluster, each) for each in ("steal", "peek")))
        said = [each.said() for each in hands.processes["tk-toolkeeper"]]
    everything = cluster.kubectl(
        "-n", NAMESPACE, "get", "agentconnections,mcpservers,toolboxes,events", "-o", "json"
    )
    assert value not in everything + "".join(said)
    assert cluster.get(path) == before
    taken = _condition(cluster, "steal", "TokenIssued")
    assert taken["status"] == "False"
    cluster.kubectl("-n", NAMESPACE, "delete", "secret", "database")


def _observed(cluster: Cluster, name: str) -> bool:
    found = cluster.get(f"{KINDS}/namespaces/{NAMESPACE}/agentconnections/{name}")
    return found is not None and found.get("status", {}).get("observedGeneration") == 1


def _condition(cluster: Cluster, name: str, type: str) -> dict[str, Any]:
    said = cluster.kubectl("-n", NAMESPACE, "get", "agentconnection", name, "-o", "json")
    conditions = json.loads(said)["status"]["conditions"]
    [found] = [each for each in conditions if each["type"] == type]
    assert isinstance(found, dict)
    return found


def test_no_server_is_given_what_opens_its_host(
    cluster: Cluster, release: Release, runtime: FakeRuntime, endpoint: str
) -> None:
    release.install({"replicas": 1})
    established(cluster)
    declare(cluster, endpoint)
    reference = {"secretKeyRef": {"name": "here-token", "key": "token"}}
    thief = document(
        "MCPServer", "thief", toolboxRef="here", image="registry.example/time:1",
        env=[{"name": "TOKEN", "valueFrom": reference}],
    )  # fmt: skip
    cluster.kubectl("-n", NAMESPACE, "apply", "-f", "-", given=thief)
    resolved = "{.status.conditions[?(@.type=='SecretsResolved')].reason}"
    with Hands(cluster, NAMESPACE).working():
        until(lambda: finalizers(cluster) == [FINALIZER])  # the toolbox itself may use it
        wait = ("wait", "mcpserver/thief", f"--for=jsonpath={resolved}=SecretForToolboxes", "--timeout=30s")
        cluster.kubectl("-n", NAMESPACE, *wait)
    assert [each.container.server for each in runtime.containers.values()] == ["time"]


def test_kubernetes_own_roles_include_ours(template: Template) -> None:
    roles = {each["metadata"]["name"]: each["metadata"]["labels"] for each in template().of("ClusterRole")}
    assert roles["toolkeeper-admin"]["rbac.authorization.k8s.io/aggregate-to-admin"] == "true"
    assert roles["toolkeeper-user"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    assert template({"rbac": {"aggregate": False}}).of("ClusterRole")
    assert not [each for each in template({"rbac": {"aggregate": False}}).of("ClusterRole")
                if each["metadata"]["name"].startswith("toolkeeper-")]  # fmt: skip


def test_an_admin_deploys_servers_and_writes_nobodys_secrets(cluster: Cluster, release: Release) -> None:
    release.install()
    established(cluster)
    cluster.kubectl(
        "-n",
        "green",
        "create",
        "rolebinding",
        "joe",
        "--clusterrole=toolkeeper-admin",
        "--user=joe",
        check=False,
    )
    ask = ("--as=joe", "-n", "green", "auth", "can-i")
    assert cluster.kubectl(*ask, "create", "mcpservers", check=False).strip() == "yes"
    assert cluster.kubectl(*ask, "delete", "toolboxes", check=False).strip() == "yes"
    assert cluster.kubectl(*ask, "get", "secrets", check=False).strip() == "no"
    assert (
        cluster.kubectl(
            "--as=joe", "-n", "blue", "auth", "can-i", "create", "mcpservers", check=False
        ).strip()
        == "no"
    )
