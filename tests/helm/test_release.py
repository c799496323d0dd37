"""The chart on a real API server: installed, upgraded, uninstalled. Its containers run as child processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from helm.conftest import CHART, Release, Template, declare, established, finalizers
from helm.hands import Cluster, Hands, until
from toolkeeper.resources.meta import FINALIZER
from toolkeeper.testing.fake_runtime import FakeRuntime

pytestmark = pytest.mark.kubernetes
NAMESPACE = Release.NAMESPACE
DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/tk-toolkeeper"


def test_installing_twice_is_installing_once(cluster: Cluster, release: Release) -> None:
    said = release.install()
    assert "helm -n tools uninstall tk" in said
    before = cluster.get(DEPLOYMENT)
    release.install()
    after = cluster.get(DEPLOYMENT)
    assert before is not None
    assert after is not None
    assert before["metadata"]["generation"] == after["metadata"]["generation"]


def test_an_upgrade_reaches_the_definitions(cluster: Cluster, release: Release, tmp_path: Path) -> None:
    release.install()
    chart = tmp_path / "toolkeeper"
    shutil.copytree(CHART, chart)
    file = chart / "files" / "crds" / "toolboxes.yaml"
    file.write_text(file.read_text().replace("shortNames:\n    - tbx", "shortNames:\n    - tbx\n    - box"))
    release.install(chart=chart)
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/toolboxes.toolkeeper.dev"
    definition = cluster.get(path)
    assert definition is not None
    assert definition["spec"]["names"]["shortNames"] == ["tbx", "box"]


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_the_pods_meet_the_restricted_standard(cluster: Cluster, template: Template, kind: str) -> None:
    cluster.kubectl("create", "namespace", f"strict-{kind.lower()}")
    label = "pod-security.kubernetes.io/enforce=restricted"
    cluster.kubectl("label", "namespace", f"strict-{kind.lower()}", label)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one"},
        "spec": template().one(kind)["spec"]["template"]["spec"] | {"restartPolicy": "Always"},
    }
    with cluster.client() as client:
        path = f"/api/v1/namespaces/strict-{kind.lower()}/pods"
        assert client.post(path, params={"dryRun": "All"}, json=pod).status_code == 201
        pod["spec"]["hostNetwork"] = True
        assert client.post(path, params={"dryRun": "All"}, json=pod).status_code == 403


def test_uninstalling_leaves_servers_and_no_finalizer(
    cluster: Cluster, release: Release, runtime: FakeRuntime, endpoint: str
) -> None:
    release.install()
    established(cluster)
    declare(cluster, endpoint)
    with Hands(cluster, NAMESPACE).working() as hands:
        until(lambda: finalizers(cluster) == [FINALIZER] and runtime.containers, within=25)
        pods = list(hands.processes["tk-toolkeeper"])
        assert len(pods) == 2
        until(lambda: [each.probe("/readyz") for each in pods] == [200, 200])
        code, said = release.uninstall()
        assert code == 0, said
        assert all(each.child.poll() is not None for each in pods)
        assert "took the finalizer off 2 objects" in "".join(hands.jobs.values())
    assert release.left() == []
    assert finalizers(cluster) == []
    assert len(runtime.containers) == 1
    cluster.kubectl("-n", NAMESPACE, "delete", "mcpserver", "time", "--timeout=10s")
    assert finalizers(cluster) is None


def test_the_notes_remove_everything_with_one_command(
    cluster: Cluster, release: Release, runtime: FakeRuntime, endpoint: str
) -> None:
    said = release.install({"replicas": 1})
    [command] = [line.split() for line in said.splitlines() if line.startswith("  kubectl delete ")]
    established(cluster)
    declare(cluster, endpoint)
    with Hands(cluster, NAMESPACE).working():
        until(lambda: finalizers(cluster) == [FINALIZER] and runtime.containers, within=25)
        cluster.kubectl(*command[1:], "--timeout=60s")
    assert runtime.containers == {}
    assert cluster.kubectl("get", "toolkeeper", "-A", "-o", "name") == ""


def test_installed_again_it_finds_what_it_left(
    cluster: Cluster, release: Release, runtime: FakeRuntime, endpoint: str
) -> None:
    release.install({"replicas": 1})
    established(cluster)
    declare(cluster, endpoint)
    with Hands(cluster, NAMESPACE).working():
        until(lambda: finalizers(cluster) == [FINALIZER] and runtime.containers, within=25)
        assert release.uninstall()[0] == 0
        name = next(iter(runtime.containers))
        release.install({"replicas": 1})
        until(lambda: finalizers(cluster) == [FINALIZER], within=25)
        cluster.kubectl("-n", NAMESPACE, "delete", "mcpserver", "time", "--timeout=60s")
    assert [each for each in runtime.calls if each.startswith("create")] == [f"create {name}"]
    assert runtime.containers == {}


def test_an_uninstall_that_would_strand_a_deletion_is_refused(
    cluster: Cluster, release: Release, runtime: FakeRuntime, endpoint: str
) -> None:
    values: dict[str, Any] = {"replicas": 1, "uninstall": {"waitSeconds": 3}}
    release.install(values)
    established(cluster)
    declare(cluster, endpoint)
    with Hands(cluster, NAMESPACE).working() as hands:
        until(lambda: finalizers(cluster) == [FINALIZER] and runtime.containers, within=25)
        runtime.gate.clear()  # the host does not come to an end with it
        cluster.kubectl("-n", NAMESPACE, "delete", "mcpserver", "time", "--wait=false")
        code, said = release.uninstall()
        assert code != 0, said
        assert "MCPServer tools/time is being deleted" in "".join(hands.jobs.values())
        deployment = cluster.get(DEPLOYMENT)
        assert deployment is not None
        assert deployment["spec"]["replicas"] == 1
        runtime.gate.set()
        until(lambda: finalizers(cluster) is None, within=25)
        code, said = release.uninstall()
        assert code == 0, said


def test_what_helm_shows_is_what_is_there(cluster: Cluster, release: Release) -> None:
    release.install({"watch": {"namespaces": ["blue"]}})
    manifest = yaml.safe_load_all(cluster.helm("get", "manifest", "tk", "-n", NAMESPACE).stdout)
    names = {f"{each['kind']}/{each['metadata']['name']}" for each in manifest if each}
    assert "Role/tk-toolkeeper" in names
    assert json.loads(cluster.kubectl("-n", "blue", "get", "role", "tk-toolkeeper", "-o", "json"))["rules"]
