"""What people ask about the hosts behind a cluster, whose operator runs as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from benchmarks.rig.plane import PROGRAM
from cli_kubernetes.conftest import Terminal, document
from toolkeeper.testing import tiny_mcp
from toolkeeper.testing.fake_runtime import FakeRuntime
from toolkeeper.testing.nodes import TOKEN, node_in_a_thread

pytestmark = pytest.mark.process


@pytest.fixture
def address() -> Iterator[str]:
    """Of a real MCP server, which every container of the host seems to be."""
    with tiny_mcp.Server(("127.0.0.1", 0), tiny_mcp.Connection) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
        server.shutdown()
        thread.join()


@pytest.fixture
def endpoint(address: str) -> Iterator[str]:
    """Of the host's node."""
    runtime = FakeRuntime(features=frozenset({"images", "memory", "network"}), address=address)
    runtime.lines = ("it begins", "it listens")
    runtime.gate.set()
    with node_in_a_thread(runtime) as url:
        yield url


@pytest.fixture
def operated(terminal: Terminal, endpoint: str, tmp_path: Path) -> Iterator[Terminal]:
    """A cluster with an operator, a toolbox and a server that is ready."""
    metadata = {"name": "host", "namespace": "default", "labels": {"toolkeeper.dev/credential": "true"}}
    secret = yaml.safe_dump(
        {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": TOKEN}}
    )
    toolbox = document(
        "Toolbox", "here", {"endpoint": endpoint, "tokenRef": {"name": "host", "key": "token"}}
    )
    server = document(
        "MCPServer", "time",
        {"toolboxRef": "here", "image": "registry.example/time:1", "port": 8000, "transport": "streamable-http"},
    )  # fmt: skip
    with terminal.cluster.client() as client:
        client.delete("/apis/coordination.k8s.io/v1/namespaces/default/leases/toolkeeper")
    terminal.declare(secret, toolbox, server)
    with (tmp_path / "operator.log").open("ab") as log:
        operator = subprocess.Popen(
            [PROGRAM, "operator", "--store", "kubernetes", "--kubeconfig", str(terminal.kubeconfig),
             "--namespace", "default"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            _until_ready(terminal, tmp_path / "operator.log")
            yield terminal
        finally:
            operator.terminate()
            operator.wait(timeout=30)


def _until_ready(terminal: Terminal, log: Path) -> None:
    for _ in range(300):
        if " True " in terminal.said("get", "server", "time"):
            return
        time.sleep(0.2)
    raise AssertionError(terminal.said("describe", "server", "time") + log.read_text())


def test_plan_logs_top_and_events_know_what_runs_for_a_cluster(operated: Terminal) -> None:
    plan = operated.said("plan")
    assert "nothing to do" in plan
    assert operated.said("logs", "time", "--tail", "1") == "it listens\n"
    assert operated("top").exit_code == 0
    assert "Placed" in operated.said("events", "server", "time")

    edited = operated.said("get", "server", "time", "-o", "yaml").replace("time:1", "time:2")
    file = operated.kubeconfig.with_name("edited.yaml")
    file.write_text(edited)
    plan = operated.said("plan", "-f", str(file))
    assert "create tk_" in plan
    assert "image: registry.example/time:1 → registry.example/time:2" in plan
    assert operated.spec()["image"] == "registry.example/time:1"
