"""Our CustomResourceDefinitions, judged by API servers: by the same table of samples as the models."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from resources.samples import Sample, samples
from stores_kubernetes.conftest import Cluster, definitions
from toolkeeper.stores.kubernetes import documents

SAMPLES = list(samples())
PLURALS = tuple(documents.PLURALS.values())


def posted(client: httpx.Client, sample: Sample) -> httpx.Response:
    """What the server says to the sample, without keeping it."""
    path = documents.collection(sample.manifest["kind"], "default")
    return client.post(path, json=sample.manifest, params={"dryRun": "All", "fieldValidation": "Strict"})


def test_the_server_says_the_same_as_the_models(cluster: Cluster) -> None:
    wrong = []
    with cluster.client() as client:
        for each in SAMPLES:
            answer = posted(client, each)
            if answer.is_success == bool(each.because) or answer.status_code not in (201, 400, 422):
                spec = json.dumps(each.manifest["spec"])
                wrong.append(
                    f"{each.id}: {answer.status_code} {answer.json().get('message', '')[:300]} {spec[:300]}"
                )
    assert wrong == []


@pytest.mark.parametrize("plural", PLURALS)
def test_the_server_takes_our_definitions_as_they_are(cluster: Cluster, plural: str) -> None:
    """Structural, with every rule compiled and its cost within the budget: otherwise it would not be established."""
    with cluster.client() as client:
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{plural}.toolkeeper.dev"
        conditions = client.get(path).json()["status"]["conditions"]
    assert {"Established": "True", "NamesAccepted": "True"}.items() <= {
        each["type"]: each["status"] for each in conditions
    }.items()
    assert "NonStructuralSchema" not in [each["type"] for each in conditions]


def test_unknown_fields_are_dropped_and_a_fresh_object_has_no_generation_observed(cluster: Cluster) -> None:
    found: dict[str, Any] = next(each for each in SAMPLES if not each.because).manifest
    asked = {**found, "spec": found["spec"] | {"nonsense": 1}, "status": {"observedGeneration": 7}}
    with cluster.client() as client:
        path = documents.collection(found["kind"], "default")
        made = client.post(path, json=asked)
        assert made.status_code == 201, made.text
        name = f"{path}/{found['metadata']['name']}"
        kept = client.get(name).json()
        client.delete(name)
    assert kept["spec"] == found["spec"], "neither more nor less than what was asked for"
    assert kept["status"] == {"observedGeneration": -1}


@pytest.mark.kubernetes
def test_kubectl_prints_the_columns_by_short_name_and_category(cluster: Cluster) -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Available", "message": ""}
    ready["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    manifest = {
        "apiVersion": "toolkeeper.dev/v1alpha1",
        "kind": "MCPServer",
        "metadata": {"name": "columns", "namespace": "blue"},
        "spec": {"toolboxRef": "here", "image": "time:1"},
    }
    cluster.kubectl("apply", "--validate=false", "-f", "-", given=manifest)
    status = json.dumps({"status": {"observedGeneration": 1, "conditions": [ready]}})
    cluster.kubectl(
        "-n", "blue", "patch", "mcpserver", "columns", "--subresource=status", "--type=merge", "-p", status
    )
    names = next(each for each in definitions() if each["spec"]["names"]["kind"] == "MCPServer")["spec"][
        "names"
    ]
    for name in ("mcpservers", *names["shortNames"], *names["categories"]):
        header, row, *_ = cluster.kubectl("-n", "blue", "get", name).splitlines()
        assert {"NAME", "READY", "REASON", "AGE"} <= set(header.split())
        assert "columns" in row
        assert {"True", "Available"} <= set(row.split())
    cluster.kubectl("-n", "blue", "delete", "mcpserver", "columns")


@pytest.mark.kubernetes
@pytest.mark.parametrize("cluster", ["real_cluster"], indirect=True)  # explain needs the published OpenAPI
@pytest.mark.parametrize(
    "field", ["mcpserver.spec.image", "mcpserver.spec.rollout", "toolbox.spec", "agentconnection.spec"]
)
def test_kubectl_explains_our_fields(cluster: Cluster, field: str) -> None:
    said = cluster.kubectl("explain", field)
    assert "DESCRIPTION:" in said
    assert "<empty>" not in said


@pytest.mark.kubernetes
@pytest.mark.parametrize("cluster", ["real_cluster"], indirect=True)  # so does validation by kubectl
def test_a_misspelt_field_is_refused_by_kubectl_apply(cluster: Cluster) -> None:
    manifest = {
        "apiVersion": "toolkeeper.dev/v1alpha1",
        "kind": "MCPServer",
        "metadata": {"name": "misspelt", "namespace": "default"},
        "spec": {"toolboxRef": "here", "image": "time:1", "pausd": True},
    }
    said = cluster.kubectl("apply", "-f", "-", given=manifest, check=False)
    assert 'unknown field "spec.pausd"' in said
