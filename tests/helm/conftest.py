"""The chart: as Helm renders it, and installed on an API server of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm.hands import Cluster
from services import apiserver
from services.helm import helm
from toolkeeper.testing.fake_runtime import FakeRuntime
from toolkeeper.testing.nodes import TOKEN, node_in_a_thread

CHART = Path(__file__).parents[2] / "helm" / "toolkeeper"
KINDS = "/apis/toolkeeper.dev/v1alpha1"
Json = dict[str, Any]


class Rendered:
    """The documents of one `helm template`."""

    def __init__(self, documents: list[Json]) -> None:
        self.documents = documents

    def of(self, kind: str) -> list[Json]:
        """All documents of a kind."""
        return [each for each in self.documents if each["kind"] == kind]

    def one(self, kind: str, name: str | None = None) -> Json:
        """The only document of that kind, or of that name."""
        found = [each for each in self.of(kind) if name in (None, each["metadata"]["name"])]
        assert len(found) == 1, [each["metadata"]["name"] for each in self.of(kind)]
        return found[0]

    @property
    def pod(self) -> Json:
        """The operator's Pod."""
        spec: Json = self.one("Deployment")["spec"]["template"]["spec"]
        return spec

    @property
    def container(self) -> Json:
        """Its one container."""
        [container] = self.pod["containers"]
        assert isinstance(container, dict)
        return container


Template = Callable[..., Rendered]


@pytest.fixture
def template() -> Template:
    """`template(values, namespace=…)` renders the chart as release `tk`."""

    def rendered(values: Json | None = None, *, namespace: str = "tools") -> Rendered:
        said = template_output(values or {}, namespace)
        return Rendered([each for each in yaml.safe_load_all(said) if each])

    return rendered


def template_output(values: Json, namespace: str = "tools") -> str:
    """What `helm template` prints. Raises AssertionError with what it says when it fails."""
    done = helm("template", "tk", str(CHART), "-n", namespace, "-f", "-", given=json.dumps(values))
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(values: Json) -> str:
    """What Helm says about values that it refuses."""
    done = helm("template", "tk", str(CHART), "-f", "-", given=json.dumps(values))
    assert done.returncode != 0, "these values are taken"
    return done.stderr


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server of its own: others bring our definitions themselves, and Helm takes over what is its own only."""
    with apiserver.running(tmp_path_factory.mktemp("helm-apiserver")) as server:
        cluster = Cluster(server, tmp_path_factory.mktemp("helm"))
        for name in ("blue", "green"):
            cluster.kubectl("create", "namespace", name)
        yield cluster


class Release:
    """The chart as release `tk` in the namespace `tools`."""

    NAMESPACE = "tools"

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def install(self, values: Json | None = None, *, chart: Path = CHART) -> str:
        """Install or upgrade it. Returns what Helm says."""
        done = self.cluster.helm(
            "upgrade", "--install", "tk", str(chart), "-n", self.NAMESPACE, "--create-namespace", "-f", "-",
            given=json.dumps(values or {}),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def uninstall(self, *options: str) -> tuple[int, str]:
        """Helm's exit code, and what it says."""
        done = self.cluster.helm("uninstall", "tk", "-n", self.NAMESPACE, *options)
        return done.returncode, done.stdout + done.stderr

    def left(self) -> list[str]:
        """What there is of the release, but for definitions."""
        kinds = ("deployments,services,serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,"
                 "poddisruptionbudgets,networkpolicies,jobs")  # fmt: skip
        selector = "app.kubernetes.io/instance=tk"
        return self.cluster.kubectl("get", kinds, "-A", "-l", selector, "-o", "name").split()


@pytest.fixture
def release(cluster: Cluster) -> Iterator[Release]:
    """The release, not yet installed; nothing of it stays but the definitions."""
    release = Release(cluster)
    yield release
    release.uninstall("--no-hooks")
    for kind in ("mcpservers", "toolboxes", "agentconnections"):
        path = f"{KINDS}/{kind}"
        for each in (cluster.get(path) or {"items": []})["items"]:
            where, name = each["metadata"]["namespace"], each["metadata"]["name"]
            cluster.kubectl(
                "-n", where, "patch", kind, name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'
            )
            cluster.kubectl("-n", where, "delete", kind, name, "--ignore-not-found")
    for left in release.left():
        if "/tk-" in left:
            cluster.kubectl("-n", release.NAMESPACE, "delete", left, "--ignore-not-found", check=False)


@pytest.fixture
def runtime() -> FakeRuntime:
    """The runtime of the one host."""
    runtime = FakeRuntime(features=frozenset({"images", "memory", "network"}))
    runtime.gate.set()
    return runtime


@pytest.fixture
def endpoint(runtime: FakeRuntime) -> Iterator[str]:
    """Where its node listens."""
    with node_in_a_thread(runtime) as url:
        yield url


def declare(cluster: Cluster, endpoint: str, namespace: str = Release.NAMESPACE) -> None:
    """A toolbox with its token, and one server on it."""
    secret = {"apiVersion": "v1", "kind": "Secret", "stringData": {"token": TOKEN},
              "metadata": {"name": "here-token", "labels": {"toolkeeper.dev/credential": "toolbox"}}}  # fmt: skip
    toolbox = {"apiVersion": "toolkeeper.dev/v1alpha1", "kind": "Toolbox", "metadata": {"name": "here"},
               "spec": {"endpoint": endpoint, "tokenRef": {"name": "here-token", "key": "token"}}}  # fmt: skip
    server = {"apiVersion": "toolkeeper.dev/v1alpha1", "kind": "MCPServer", "metadata": {"name": "time"},
              "spec": {"toolboxRef": "here", "image": "registry.example/time:1", "port": 8000,
                       "transport": "streamable-http"}}  # fmt: skip
    cluster.kubectl("-n", namespace, "apply", "-f", "-", given=yaml.safe_dump_all([secret, toolbox, server]))


def finalizers(cluster: Cluster, namespace: str = Release.NAMESPACE) -> list[str] | None:
    """Those of the server; None if it is gone."""
    found = cluster.get(f"{KINDS}/namespaces/{namespace}/mcpservers/time")
    return None if found is None else found["metadata"].get("finalizers", [])


def established(cluster: Cluster) -> None:
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
