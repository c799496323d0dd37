"""The chart's Pods from the image itself: Docker is the kubelet, and gives them what they ask for and no more."""

from __future__ import annotations

import os
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_connection, socket
from typing import Any

import docker
import httpx
import pytest
from docker.models.containers import Container

from helm.conftest import Release, Template, declare, established, finalizers
from helm.hands import Cluster, free_port, until
from toolkeeper.resources.meta import FINALIZER
from toolkeeper.testing.fake_runtime import FakeRuntime

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.docker,
    pytest.mark.network,
    pytest.mark.skipif(os.geteuid() != 0, reason="the API server's port in a cluster, 443, needs root"),
]
NAMESPACE = Release.NAMESPACE
ADDRESS = "127.42.0.1"
"""Of `kubernetes.default.svc`; nobody else has this one of the loopback's."""
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class Relay(socketserver.BaseRequestHandler):
    """Passes a connection on to the port of the API server."""

    target: tuple[str, int]

    def handle(self) -> None:
        with create_connection(self.target) as there:
            back = threading.Thread(target=_pump, args=(there, self.request))
            back.start()
            _pump(self.request, there)
            back.join()


def _pump(source: socket, sink: socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
        sink.shutdown(1)


@pytest.fixture
def in_cluster(cluster: Cluster) -> Iterator[None]:
    """The API server where Pods look for it."""
    handler = type("ToServer", (Relay,), {"target": ("127.0.0.1", cluster.server.port)})
    with socketserver.ThreadingTCPServer((ADDRESS, 443), handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@contextmanager
def running(
    engine: docker.DockerClient, image: str, cluster: Cluster, pod: dict[str, Any], port: int
) -> Iterator[Container]:
    """The Pod's one container."""
    [given] = pod["containers"]
    account = cluster.folder / f"account-{free_port()}"
    account.mkdir()
    (account / "token").write_text(cluster.token(NAMESPACE, pod["serviceAccountName"]))
    (account / "namespace").write_text(NAMESPACE)
    (account / "ca.crt").write_bytes(Path(cluster.server.ca).read_bytes())
    fields = {"metadata.namespace": NAMESPACE, "metadata.name": "pod"}
    volatile = {each["name"] for each in pod.get("volumes", []) if "emptyDir" in each}
    container = engine.containers.run(
        image,
        [each.replace("=:8080", f"=127.0.0.1:{port}") for each in given["args"]],
        environment={each["name"]: fields[each["valueFrom"]["fieldRef"]["fieldPath"]] for each in given["env"]},
        user=f"{pod['securityContext']['runAsUser']}:{pod['securityContext']['runAsGroup']}",
        read_only=given["securityContext"]["readOnlyRootFilesystem"],
        cap_drop=given["securityContext"]["capabilities"]["drop"],
        security_opt=["no-new-privileges"],
        tmpfs={each["mountPath"]: "size=64m,mode=1777" for each in given.get("volumeMounts", [])
               if each["name"] in volatile},
        volumes={str(account): {"bind": ACCOUNT, "mode": "ro"}},
        network_mode="host",
        extra_hosts={"kubernetes.default.svc": ADDRESS},
        detach=True,
    )  # fmt: skip
    try:
        yield container
    finally:
        container.remove(force=True)


@pytest.mark.usefixtures("in_cluster")
def test_the_image_runs_as_the_charts_pods(
    docker_engine: docker.DockerClient, program_image: str, cluster: Cluster, release: Release,
    runtime: FakeRuntime, endpoint: str, template: Template,
) -> None:  # fmt: skip
    release.install({"replicas": 1})
    established(cluster)
    declare(cluster, endpoint)
    port = free_port()
    deployment = cluster.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/tk-toolkeeper")
    assert deployment is not None
    pod = deployment["spec"]["template"]["spec"]
    with running(docker_engine, program_image, cluster, pod, port) as operator:
        until(lambda: finalizers(cluster) == [FINALIZER] and runtime.containers, what="deployed")
        url = f"http://127.0.0.1:{port}"
        assert [
            httpx.get(f"{url}/{each}", trust_env=False).status_code for each in ("healthz", "readyz")
        ] == [200, 200]
        assert "toolkeeper_" in httpx.get(f"{url}/metrics", trust_env=False).text
        operator.stop(timeout=20)
        operator.reload()
        assert operator.attrs["State"]["ExitCode"] == 0, operator.logs().decode()
    job = template().one("Job")["spec"]["template"]["spec"]
    pod = job | {
        "serviceAccountName": "tk-toolkeeper"
    }  # the Job's own account comes and goes with the uninstall
    pod["containers"][0]["args"] = [each for each in pod["containers"][0]["args"] if "deployment" not in each]
    with running(docker_engine, program_image, cluster, pod, 0) as retiring:
        assert retiring.wait(timeout=60)["StatusCode"] == 0, retiring.logs().decode()
        assert "took the finalizer off 2 objects" in retiring.logs().decode()
    assert finalizers(cluster) == []
