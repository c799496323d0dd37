"""What people type, on both API servers: kubectl is real in either case."""

from __future__ import annotations

import json

import pytest

from stores_kubernetes.conftest import Cluster, Hand

pytestmark = [pytest.mark.anyio, pytest.mark.kubernetes]

SERVER = {
    "apiVersion": "toolkeeper.dev/v1alpha1",
    "kind": "MCPServer",
    "metadata": {"name": "time", "namespace": "default"},
    "spec": {"toolboxRef": "here", "image": "time:1"},
}


@pytest.fixture
def applied(cluster: Cluster, hand: Hand) -> Cluster:
    """A cluster with one MCPServer, as kubectl applied it."""
    cluster.kubectl("apply", "--validate=false", "-f", "-", given=SERVER)
    return cluster


async def test_apply_creates_and_then_changes_nothing(applied: Cluster) -> None:
    said = applied.kubectl("apply", "--validate=false", "-f", "-", given=SERVER)
    assert said.strip() == "mcpserver.toolkeeper.dev/time unchanged"


async def test_server_side_apply_and_its_dry_run(applied: Cluster) -> None:
    changed = SERVER | {"spec": {"toolboxRef": "here", "image": "time:2"}}
    serverside = ("apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-")
    applied.kubectl(*serverside, "--dry-run=server", given=changed)
    assert applied.kubectl("get", "mcpserver", "time", "-o", "jsonpath={.spec.image}") == "time:1"
    applied.kubectl(*serverside, given=changed)
    assert applied.kubectl("get", "mcpserver", "time", "-o", "jsonpath={.spec.image}") == "time:2"


async def test_two_managers_of_one_field_conflict(applied: Cluster) -> None:
    apply = ("apply", "--server-side", "--validate=false", "-f", "-")
    fetch = SERVER | {"metadata": {"name": "fetch", "namespace": "default"}}
    applied.kubectl(*apply, "--field-manager=one", given=fetch)
    other = fetch | {"spec": {"image": "time:9"}}
    said = applied.kubectl(*apply, "--field-manager=two", given=other, check=False)
    assert 'conflict with "one": .spec.image' in said


async def test_a_field_that_is_no_longer_applied_is_gone(applied: Cluster) -> None:
    apply = ("apply", "--server-side", "--validate=false", "--field-manager=one", "-f", "-")
    fetch = SERVER | {"metadata": {"name": "fetch", "namespace": "default"}}
    applied.kubectl(*apply, given=fetch | {"spec": {"toolboxRef": "here", "image": "time:1", "paused": True}})
    applied.kubectl(*apply, given=fetch)
    spec = json.loads(applied.kubectl("get", "mcpserver", "fetch", "-o", "jsonpath={.spec}"))
    assert spec.get("paused", False) is False


async def test_wait_sees_a_condition(applied: Cluster) -> None:
    ready = {"type": "Ready", "status": "True", "reason": "Available", "message": "", "observedGeneration": 1}
    patch = {
        "status": {
            "observedGeneration": 1,
            "conditions": [ready | {"lastTransitionTime": "2026-01-01T00:00:00Z"}],
        }
    }
    applied.kubectl(
        "patch", "mcpserver", "time", "--subresource=status", "--type=merge", "-p", json.dumps(patch)
    )
    said = applied.kubectl("wait", "--for=condition=Ready", "mcpserver", "--all", "--timeout=10s")
    assert "condition met" in said


async def test_a_status_is_not_written_through_the_object(applied: Cluster) -> None:
    patch = json.dumps({"status": {"phase": "active"}})
    applied.kubectl("patch", "mcpserver", "time", "--type=merge", "-p", patch)
    assert applied.kubectl("get", "mcpserver", "time", "-o", "jsonpath={.status.phase}") != "active"


async def test_selectors_choose(applied: Cluster) -> None:
    applied.kubectl("label", "mcpserver", "time", "team=blue")
    assert "time" in applied.kubectl("get", "mcpserver", "-l", "team=blue")
    assert "time" in applied.kubectl("get", "mcpserver", "-l", "team in (blue, green)")
    assert "No resources found" in applied.kubectl("get", "mcpserver", "-l", "team!=blue")
    assert "time" in applied.kubectl("get", "mcpserver", "--field-selector", "metadata.name=time")


async def test_diff_shows_what_apply_would_change(applied: Cluster) -> None:
    changed = SERVER | {"spec": {"toolboxRef": "here", "image": "time:2"}}
    said = applied.kubectl("diff", "-f", "-", given=changed, check=False)
    assert "time:1" in said
    assert "time:2" in said


async def test_delete_waits_for_the_finalizer(applied: Cluster) -> None:
    held = json.dumps({"metadata": {"finalizers": ["toolkeeper.dev/cleanup"]}})
    applied.kubectl("patch", "mcpserver", "time", "--type=merge", "-p", held)
    applied.kubectl("delete", "mcpserver", "time", "--wait=false")
    assert applied.kubectl("get", "mcpserver", "time", "-o", "jsonpath={.metadata.deletionTimestamp}")
    free = json.dumps({"metadata": {"finalizers": None}})
    applied.kubectl("patch", "mcpserver", "time", "--type=merge", "-p", free)
    applied.kubectl("wait", "--for=delete", "mcpserver/time", "--timeout=10s")
    assert "No resources found" in applied.kubectl("get", "mcpserver")
