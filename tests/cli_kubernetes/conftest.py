"""The command line on a cluster: on the real API server, and on the one in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from benchmarks.rig.plane import PROGRAM
from stores_kubernetes.conftest import Cluster, cluster, fake_cluster, real_cluster
from toolkeeper.cli.main import cli
from toolkeeper.resources.meta import Key
from toolkeeper.stores.kubernetes import documents

__all__ = ["cluster", "fake_cluster", "real_cluster"]
Json = dict[str, object]


@dataclass
class Terminal:
    """A person with a kubeconfig."""

    cluster: Cluster
    kubeconfig: Path

    def __call__(self, *arguments: str) -> Result:
        """What that command of toolkeeper says."""
        options = ("--store", "kubernetes", "--kubeconfig", str(self.kubeconfig))
        return CliRunner().invoke(cli, [*arguments, *options])

    def said(self, *arguments: str) -> str:
        """Its answer. Fails the test when the command does."""
        result = self(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    @contextmanager
    def watching(self, *arguments: str) -> Iterator[Iterator[str]]:
        """The lines that this command prints with `-w`, as they come."""
        options = ("-w", "--store", "kubernetes", "--kubeconfig", str(self.kubeconfig))
        with subprocess.Popen(
            [PROGRAM, *arguments, *options],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE, text=True,
        ) as running:  # fmt: skip
            assert running.stdout is not None
            try:
                yield running.stdout
            finally:
                running.terminate()

    def declare(self, *texts: str) -> None:
        """Apply these documents, as `kubectl apply --server-side` does."""
        with self.cluster.client() as client:
            for text in texts:
                said = yaml.safe_load(text)
                answer = client.patch(
                    _path(said),
                    params={"fieldManager": "person", "force": "true"},
                    content=json.dumps(said),
                    headers={"Content-Type": "application/apply-patch+yaml"},
                )
                assert answer.is_success, answer.text

    def installed(self, installation: str = "here") -> None:
        """An operator has run in the namespace `default`."""
        with self.cluster.client() as client:
            body = {"metadata": {"name": "toolkeeper"}, "data": {"installation": installation}}
            assert client.post("/api/v1/namespaces/default/configmaps", json=body).is_success

    def spec(self, name: str = "time") -> Json:
        """Of that server, as it is stored."""
        with self.cluster.client() as client:
            spec: Json = client.get(documents.path(Key("MCPServer", "default", name))).json()["spec"]
            return spec


def _path(document: dict[str, Any]) -> str:
    metadata = document["metadata"]
    if document["kind"] == "Secret":
        return f"/api/v1/namespaces/{metadata['namespace']}/secrets/{metadata['name']}"
    return documents.path(Key(document["kind"], metadata["namespace"], metadata["name"]))


def document(kind: str, name: str, spec: Json, **metadata: object) -> str:
    """A manifest."""
    return yaml.safe_dump(
        {
            "apiVersion": "toolkeeper.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": "default", **metadata},
            "spec": spec,
        }
    )


def server(name: str = "time", *, image: str = "time:1", **metadata: object) -> str:
    """The manifest of an MCPServer."""
    return document("MCPServer", name, {"toolboxRef": "here", "image": image}, **metadata)


@pytest.fixture
def terminal(cluster: Cluster) -> Iterator[Terminal]:
    """Somebody with all rights, before a cluster without any object of ours."""
    made = Terminal(cluster, cluster.kubeconfig)
    _wipe(cluster)
    yield made
    _wipe(cluster)


def _wipe(cluster: Cluster) -> None:
    with cluster.client() as client:
        for kind in documents.PLURALS:
            for each in client.get(documents.collection(kind, None)).json()["items"]:
                where = documents.path(documents.key_of(kind, each))
                if each["metadata"].get("finalizers"):  # the operator that would take it off runs no more
                    client.patch(
                        where,
                        content=json.dumps({"metadata": {"finalizers": None}}),
                        headers={"Content-Type": "application/merge-patch+json"},
                    )
                client.delete(where)
        client.delete("/api/v1/namespaces/default/configmaps/toolkeeper")
        client.delete("/api/v1/namespaces/default/secrets")
        client.delete("/apis/events.k8s.io/v1/namespaces/default/events")
