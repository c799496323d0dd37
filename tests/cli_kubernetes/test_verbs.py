"""Verbs on a cluster's objects: what a person could do with kubectl, in one word."""

from __future__ import annotations

import json

import pytest

from cli_kubernetes.conftest import Terminal, server
from stores_kubernetes.conftest import Cluster
from toolkeeper.resources.meta import FINALIZER, RESTARTED_AT, Key
from toolkeeper.stores.kubernetes import documents
from toolkeeper.stores.kubernetes.visit import MANAGER

TIME = Key("MCPServer", "default", "time")


def stored(cluster: Cluster) -> dict[str, dict[str, object]]:
    with cluster.client() as client:
        document: dict[str, dict[str, object]] = client.get(documents.path(TIME)).json()
        return document


def test_pause_and_resume_set_the_field_and_touch_no_other(terminal: Terminal) -> None:
    terminal.declare(server())
    before = terminal.spec()
    assert terminal.said("pause", "server", "time") == "mcpserver/time is paused\n"
    assert terminal.spec() == before | {"paused": True}
    terminal.said("resume", "server", "time")
    assert terminal.spec() == before | {"paused": False}


def test_stop_and_start_say_whether_it_runs(terminal: Terminal) -> None:
    terminal.declare(server())
    terminal.said("stop", "time")
    assert terminal.spec()["running"] is False
    terminal.said("start", "time")
    assert terminal.spec()["running"] is True


def test_a_restart_is_the_annotation_that_kubectl_would_set(terminal: Terminal) -> None:
    terminal.declare(server(annotations={"team": "blue"}))
    before = terminal.spec()
    terminal.said("restart", "time")
    annotations = stored(terminal.cluster)["metadata"]["annotations"]
    assert isinstance(annotations, dict)
    assert annotations["team"] == "blue"
    assert RESTARTED_AT in annotations
    assert terminal.spec() == before


@pytest.mark.parametrize("named", [(), ("--to", "7")])
def test_a_rollback_brings_the_whole_spec_of_then(terminal: Terminal, named: tuple[str, ...]) -> None:
    terminal.declare(server(image="time:1"))
    then = terminal.spec()
    record = {"revision": 7, "hash": "v1:sha256:" + "a" * 64, "outcome": "Succeeded", "spec": then}
    large = {"revision": 6, "hash": "v1:sha256:" + "c" * 64, "outcome": "Succeeded"}
    status = {"phase": "error", "history": [large, record], "wantedHash": "v1:sha256:" + "b" * 64}
    with terminal.cluster.client() as client:
        patch = {"spec": {"image": "time:2", "args": ["--broken"]}}
        headers = {"Content-Type": "application/merge-patch+json"}
        assert client.patch(documents.path(TIME), content=json.dumps(patch), headers=headers).is_success
        answer = client.patch(
            f"{documents.path(TIME)}/status", content=json.dumps({"status": status}), headers=headers
        )
        assert answer.is_success, answer.text
    unknown = terminal("rollback", "time", "--to", "1")
    assert unknown.exit_code == 1
    assert "revision 1 is not in the history (it has 6, 7)" in unknown.output
    assert "revision 6 was too large to be kept" in terminal("rollback", "time", "--to", "6").output
    terminal.said("rollback", "time", *named)
    assert terminal.spec() == then


def test_a_requested_restart_is_no_version_to_return_to(terminal: Terminal) -> None:
    terminal.declare(server(image="time:1"))
    then = terminal.spec()
    records = [
        {
            "revision": number,
            "hash": f"v1:sha256:{number}",
            "outcome": "Succeeded",
            "spec": then,
            "image": "time:1",
        }
        for number in (1, 2)
    ]
    with terminal.cluster.client() as client:
        client.patch(
            f"{documents.path(TIME)}/status",
            content=json.dumps({"status": {"history": records, "wantedHash": "v1:sha256:2"}}),
            headers={"Content-Type": "application/merge-patch+json"},
        )
    refused = terminal("rollback", "time")
    assert refused.exit_code == 1
    assert "no earlier version than what is declared ever worked" in refused.output
    assert "returns to revision 1 (time:1)" in terminal.said("rollback", "time", "--to", "1")


@pytest.mark.kubernetes
@pytest.mark.parametrize("cluster", ["real_cluster"], indirect=True)  # a fake keeps no owners
def test_the_fields_belong_to_the_person_and_not_to_the_operator(terminal: Terminal) -> None:
    terminal.declare(server())
    terminal.said("pause", "time")
    managers = stored(terminal.cluster)["metadata"]["managedFields"]
    assert isinstance(managers, list)
    owned = {each["manager"]: json.dumps(each["fieldsV1"]) for each in managers}
    assert "f:paused" in owned[MANAGER]
    assert FINALIZER not in json.dumps(owned)


@pytest.mark.parametrize(
    ("metadata", "owner"),
    [
        ({"annotations": {"argocd.argoproj.io/tracking-id": "tools:x"}}, "Argo CD"),
        ({"labels": {"kustomize.toolkit.fluxcd.io/name": "tools"}}, "Flux"),
    ],
)
def test_whoever_works_against_git_is_told_so(
    terminal: Terminal, metadata: dict[str, dict[str, str]], owner: str
) -> None:
    terminal.declare(server("time", image="time:1", **metadata))
    said = terminal.said("pause", "time")
    assert (
        said
        == f"mcpserver/time is paused ({owner} manages it and may undo this: make the change in Git, too)\n"
    )


def test_a_verb_that_means_nothing_for_it_is_refused(terminal: Terminal) -> None:
    terminal.declare(
        "apiVersion: toolkeeper.dev/v1alpha1\nkind: Toolbox\nmetadata: {name: here, namespace: default}\n"
        "spec: {endpoint: 'https://host:30000'}\n"
    )
    result = terminal("restart", "toolbox", "here")
    assert result.exit_code == 1
    assert "restart means nothing for" in result.output
    assert terminal.said("pause", "toolbox", "here") == "toolbox/here is paused\n"
