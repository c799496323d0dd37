"""The chart's roles are exactly sufficient: nothing that the programs ask for is refused, no right goes unused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import yaml

from helm.conftest import CHART, Release, declare, established, finalizers
from helm.hands import Cluster, Hands, until
from toolkeeper.resources.meta import FINALIZER
from toolkeeper.testing.fake_runtime import FakeRuntime

pytestmark = pytest.mark.kubernetes
NAMESPACE = Release.NAMESPACE
Json = dict[str, Any]


class Right(NamedTuple):
    """One verb on one resource."""

    group: str
    resource: str
    verb: str
    name: str = ""
    """Of the only object; empty: any."""
    namespace: str = ""
    """Empty: all."""


@dataclass(frozen=True)
class Asked:
    """One request of an account, as the server's audit has it."""

    right: Right
    uri: str
    code: int


@dataclass(frozen=True)
class Account:
    """A ServiceAccount of the release."""

    cluster: Cluster
    name: str

    def asked(self, since: int) -> list[Asked]:
        """What it asked for, after so many lines of the audit."""
        user = f"system:serviceaccount:{NAMESPACE}:{self.name}"
        lines = [json.loads(line) for line in audit(self.cluster)[since:]]
        return [_asked(each) for each in lines if each["user"]["username"] == user]

    def granted(self) -> set[Right]:
        """What its roles allow, taken from the cluster."""
        found: set[Right] = set()
        for kind in ("role", "clusterrole"):
            for binding in self._items(f"{kind}bindings"):
                if self.name in [each["name"] for each in binding.get("subjects", [])]:
                    roles = (role for role in self._items(f"{kind}s") if _is_of(role, binding))
                    found |= {right for role in roles for right in _rights(role)}
        return found

    def _items(self, kinds: str) -> list[Json]:
        said = self.cluster.kubectl("get", kinds, "-A", "-l", "app.kubernetes.io/instance=tk", "-o", "json")
        items: list[Json] = json.loads(said)["items"]
        return items


def audit(cluster: Cluster) -> list[str]:
    """One line for each request that was answered."""
    return cluster.server.audit.read_text().splitlines()


def _asked(line: Json) -> Asked:
    what = line.get("objectRef") or {"resource": ""}  # a path that is no resource's, such as /apis
    resource = "/".join(filter(None, [what["resource"], what.get("subresource")]))
    right = Right(
        what.get("apiGroup", ""), resource, line["verb"], what.get("name", ""), what.get("namespace", "")
    )
    return Asked(right, line["requestURI"], line.get("responseStatus", {}).get("code", 0))


def _is_of(role: Json, binding: Json) -> bool:
    same = role["metadata"].get("namespace") == binding["metadata"].get("namespace")
    return same and bool(role["metadata"]["name"] == binding["roleRef"]["name"])


def _rights(role: Json) -> Iterator[Right]:
    where = role["metadata"].get("namespace", "") if role["kind"] == "Role" else ""
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames", [""]):
                        yield Right(group, resource, verb, name, where)


def unused(granted: set[Right], asked: Sequence[Asked]) -> set[Right]:
    """What was granted and never asked for."""
    used = {
        each.right._replace(**dict.fromkeys(wide, ""))
        for each in asked
        for wide in ((), ("name",), ("namespace",), ("name", "namespace"))
    }
    return granted - used


def refused(asked: Sequence[Asked]) -> list[Asked]:
    """What was asked for and not granted."""
    return [each for each in asked if each.code == 403]


@pytest.fixture
def _as_new(cluster: Cluster, release: Release) -> None:
    """No trace of an earlier operator: what is made once is made anew."""
    release.install()
    established(cluster)
    release.uninstall("--no-hooks")
    for what in ("lease/toolkeeper", "configmap/toolkeeper", "secret/toolkeeper-digests"):
        cluster.kubectl("-n", NAMESPACE, "delete", what, "--ignore-not-found")
    for namespace in (NAMESPACE, "blue"):
        cluster.kubectl("-n", namespace, "delete", "secret/bot-time-token", "--ignore-not-found")


def change(cluster: Cluster, namespace: str, **spec: Any) -> None:
    """Edit the server, as its owner would."""
    patch = json.dumps({"spec": spec})
    cluster.kubectl("-n", namespace, "patch", "mcpserver", "time", "--type=merge", "-p", patch)


def state(runtime: FakeRuntime) -> str:
    """Of the only container."""
    return next((each.container.state for each in runtime.containers.values()), "absent")


CONNECTION = {
    "apiVersion": "toolkeeper.dev/v1alpha1",
    "kind": "AgentConnection",
    "metadata": {"name": "bot-time"},
    "spec": {"agent": "bot", "serverRef": "time", "tools": {"allow": ["*"]}},
}


def live(cluster: Cluster, runtime: FakeRuntime, namespace: str) -> None:
    """Everything that an operator does to a cluster."""
    until(lambda: finalizers(cluster, namespace) == [FINALIZER] and state(runtime) == "running")
    cluster.kubectl("-n", namespace, "apply", "-f", "-", given=yaml.safe_dump(CONNECTION))
    cluster.kubectl(
        "-n", namespace, "wait", "--for=condition=TokenIssued", "agentconnection/bot-time", "--timeout=30s"
    )
    for _ in range(2):  # the same event twice: it becomes a series
        change(cluster, namespace, running=False)
        until(lambda: state(runtime) == "exited")
        change(cluster, namespace, running=True)
        until(lambda: state(runtime) == "running")


@pytest.mark.usefixtures("_as_new")
@pytest.mark.parametrize(
    ("values", "namespace"),
    [
        ({}, NAMESPACE),
        ({"watch": {"namespaces": [NAMESPACE]}}, NAMESPACE),
        ({"watch": {"namespaces": ["blue"]}}, "blue"),
        ({"rbac": {"secrets": {"namespaces": ["blue"]}}}, "blue"),
    ],
    ids=["cluster-wide", "namespaced", "another-namespace", "secrets-of-one-namespace"],
)
def test_the_operators_rights_are_exactly_what_it_needs(
    cluster: Cluster, release: Release, runtime: FakeRuntime, endpoint: str, values: Json, namespace: str
) -> None:
    began = len(audit(cluster))
    account = Account(cluster, "tk-toolkeeper")
    release.install({"replicas": 1, **values})
    granted = account.granted()
    declare(cluster, endpoint, namespace)
    with Hands(cluster, NAMESPACE).working():
        live(cluster, runtime, namespace)
        cluster.kubectl("-n", namespace, "delete", "mcpserver", "time", "--timeout=30s")
        until(lambda: any("events" in each.right.resource and each.right.verb == "patch"
                          for each in account.asked(began)))  # fmt: skip
    asked = account.asked(began)
    assert refused(asked) == []
    assert unused(granted, asked) == set()
    if "watch" in values:
        assert {each.right.namespace for each in asked if each.right.resource} == {NAMESPACE, namespace}


@pytest.mark.usefixtures("_as_new")
def test_the_rights_of_the_job_before_an_uninstall_are_exactly_what_it_needs(
    cluster: Cluster, release: Release, runtime: FakeRuntime, endpoint: str
) -> None:
    began = len(audit(cluster))
    release.install({"replicas": 1})
    with Hands(cluster, NAMESPACE, deployments=False).working():
        assert release.uninstall()[0] == 0  # no operator ever led
    release.install({"replicas": 1})
    declare(cluster, endpoint)
    with Hands(cluster, NAMESPACE).working():
        until(lambda: finalizers(cluster) == [FINALIZER])
        assert release.uninstall()[0] == 0
    assert runtime.containers
    hooks = yaml.safe_load_all(cluster.helm("template", "tk", str(CHART), "-n", NAMESPACE).stdout)
    roles = [each for each in hooks if each and each["kind"] in ("Role", "ClusterRole") and _is_hook(each)]
    granted = {right for role in roles for right in _rights(role)}
    asked = Account(cluster, "tk-toolkeeper-retire").asked(began)
    assert refused(asked) == []
    assert unused(granted, asked) == set()


def _is_hook(document: Json) -> bool:
    return "helm.sh/hook" in document["metadata"].get("annotations", {})


@pytest.mark.usefixtures("_as_new")
def test_secrets_of_other_namespaces_are_out_of_reach_if_so_wanted(
    cluster: Cluster, release: Release
) -> None:
    release.install({"rbac": {"secrets": {"namespaces": ["blue"]}}})
    account = f"--as=system:serviceaccount:{NAMESPACE}:tk-toolkeeper"
    ask = ("auth", "can-i", account, "get")
    assert cluster.kubectl(*ask, "secrets", "-n", "blue", check=False).strip() == "yes"
    assert cluster.kubectl(*ask, "secrets", "-n", NAMESPACE, check=False).strip() == "no"
    assert cluster.kubectl(*ask, "secrets/toolkeeper-digests", "-n", NAMESPACE, check=False).strip() == "yes"
