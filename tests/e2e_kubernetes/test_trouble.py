"""What breaks between an operator and its cluster: recovered from, and said in logs, metrics and health."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from e2e_kubernetes.rig import OperatorProgram, Rig, env, is_ready, server
from services.apiserver import ADMIN, write_kubeconfig
from stores_kubernetes.door import Door
from stores_kubernetes.test_permissions import RULES

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker, pytest.mark.anyio]
REQUESTS = "toolkeeper_kubernetes_requests_total"
EXEC = "client.authentication.k8s.io/v1"


@pytest.fixture
async def operator(rig: Rig, door: Door) -> OperatorProgram:
    """An operator that leads, and reaches the cluster through the door."""
    return await rig.leader("behind", kubeconfig=through(rig, door))


def through(rig: Rig, door: Door) -> Path:
    """A kubeconfig whose way leads through the door."""
    folder = rig.folder / "door"
    folder.mkdir(exist_ok=True)
    return write_kubeconfig(folder, door.url, None, ADMIN)


async def healthy(rig: Rig, operator: OperatorProgram) -> None:
    """It lives, and does what it is told."""
    assert operator.asked("/healthz") == (200, "ok\n")
    name = f"after-{len(operator.said)}"
    await rig.apply(server(name))
    await rig.ready(name)


async def test_what_was_deleted_while_no_operator_ran_is_cleaned_up(rig: Rig) -> None:
    await rig.leader("first")
    await rig.apply(server("leaves"), server("stays"))
    await rig.kubectl("wait", "--for=condition=Ready", "mcpserver", "--all", "--timeout=60s")
    await asyncio.to_thread(rig.stop_operators)  # in peace: its successor need not wait for the lease
    await rig.kubectl("delete", "mcpserver", "leaves", "--wait=false")
    await rig.leader("second")
    await rig.gone("leaves")
    await rig.ready("stays")
    assert len(rig.containers("stays")) == 1


async def test_what_was_deleted_during_a_gap_of_the_watch_is_cleaned_up(
    rig: Rig, door: Door, operator: OperatorProgram
) -> None:
    await rig.apply(server("unheard"), server("heard"))
    await rig.kubectl("wait", "--for=condition=Ready", "mcpserver", "--all", "--timeout=60s")
    door.drops_watches = True
    door.cut()
    await rig.kubectl("delete", "mcpserver", "unheard", "--wait=false")
    await rig.kubectl(
        "patch", "mcpserver", "unheard", "--type=merge", '--patch={"metadata":{"finalizers":null}}'
    )
    rig.kubernetes.stop()
    rig.kubernetes.start()  # it has forgotten what happened before
    door.drops_watches = False
    await rig.until(lambda: operator.figure("toolkeeper_kubernetes_watch_gaps_total") > 0, "a gap is counted")
    assert any('"code":410' in each for each in door.errors), door.errors
    # The object is wholly gone: its container is an orphan now, and orphans are looked at for a minute.
    await rig.until(lambda: not rig.containers("unheard"), "the container is gone", seconds=150)
    assert len(rig.containers("heard")) == 1
    await healthy(rig, operator)


async def test_an_api_server_that_restarts_is_met_again(rig: Rig) -> None:
    operator = await rig.leader("waiting")
    await rig.apply(server("survives"))
    before = await rig.ready("survives")
    rig.kubernetes.stop()
    try:
        await rig.until(
            lambda: operator.figure(REQUESTS, code="none") > 0, "requests without an answer are counted"
        )
        assert operator.asked("/healthz") == (200, "ok\n")
        assert operator.asked("/readyz") == (200, "ok\n")
    finally:
        rig.kubernetes.start()
    await healthy(rig, operator)
    after = await rig.ready("survives")
    assert after["status"]["containerId"] == before["status"]["containerId"]


async def test_a_watch_that_is_really_dead_fails_the_probe_and_stops_nothing_else(
    rig: Rig, door: Door
) -> None:
    operator = await rig.leader("deaf", kubeconfig=through(rig, door), arguments=["--watch-seconds=5"])
    door.watches_flow.clear()  # connected, and silent; everything else is answered
    bound = 6 * 5
    await rig.until(lambda: "kubernetes-watch-deaf" in operator.said, "it notices", seconds=bound)
    assert operator.asked("/healthz") == (200, "ok\n")
    await rig.until(lambda: operator.asked("/healthz")[0] == 503, "the probe fails", seconds=bound)
    assert "the watch is dead" in operator.asked("/healthz")[1]
    assert operator.figure("toolkeeper_kubernetes_watch_restarts_total") > 0
    assert operator.figure("toolkeeper_leader") == 1
    await rig.apply(server("unheard-of"))
    await rig.ready("unheard-of")  # by lists
    door.watches_flow.set()
    await rig.until(lambda: operator.asked("/healthz")[0] == 200, "it hears again")
    await healthy(rig, operator)


@pytest.mark.parametrize("status", [429, 500])
async def test_a_storm_of_refusals_passes(
    rig: Rig, door: Door, operator: OperatorProgram, status: int
) -> None:
    await rig.apply(server("calm", env=env(TINY_VERSION="1.0.0")))
    await rig.ready("calm")
    door.refuses, door.retry_after = status, "1" if status == 429 else ""
    door.cut()
    await rig.patch("calm", env=env(TINY_VERSION="2.0.0"))
    await rig.until(
        lambda: (
            operator.figure(REQUESTS, by="operator", code=str(status)) > 1
            and operator.figure(REQUESTS, by="watch", code=str(status)) > 1
        ),
        "the refusals are counted",
    )
    assert operator.asked("/healthz") == (200, "ok\n")
    door.refuses = None
    await rig.server(
        "calm", lambda each: is_ready(each) and each["status"]["serverVersion"] == "2.0.0", "version 2 serves"
    )
    assert "stormy" in operator.said
    await healthy(rig, operator)


async def test_a_long_absence_of_the_cluster_ends_a_leader_and_keeps_a_starter_waiting(
    rig: Rig, door: Door, operator: OperatorProgram
) -> None:
    door.shut = True
    door.cut()
    await rig.until(lambda: not operator.runs, "who could not renew its lease has ended", seconds=30)
    assert "lease" in operator.said
    operator.start()
    await rig.until(lambda: operator.asked("/healthz")[0] == 200, "it lives")
    await rig.until(lambda: "waiting for the cluster" in operator.said, "it says what it waits for")
    status, why = operator.asked("/readyz")
    assert (status, "not listed" in why) == (503, True)
    door.shut = False
    await rig.until(lambda: operator.leads, "it leads")
    await healthy(rig, operator)


async def test_a_second_toolbox_of_a_host_is_refused_and_disturbs_nothing(rig: Rig) -> None:
    operator = await rig.leader("alone")
    await rig.apply(server("before"))
    before = await rig.ready("before")
    toolbox = await rig.get("here", "toolbox")
    assert toolbox is not None
    twin = {**toolbox, "metadata": {"name": "twin"}}
    twin["spec"] = {**twin["spec"], "endpoint": f"http://localhost:{rig.node_port}"}
    await rig.apply({key: twin[key] for key in ("apiVersion", "kind", "metadata", "spec")})
    wait = ("wait", "toolbox/twin", "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=SameHost")
    await rig.kubectl(*wait, "--timeout=60s")
    await healthy(rig, operator)
    assert operator.leads
    assert (await rig.ready("before"))["status"]["containerId"] == before["status"]["containerId"]
    await rig.kubectl("delete", "toolbox", "twin")


async def test_credentials_that_a_program_fetches_expire_without_anybody_noticing(rig: Rig) -> None:
    cluster = rig.kubernetes
    plugin, calls = rig.folder / "get-token", rig.folder / "calls"
    said = {
        "apiVersion": EXEC,
        "kind": "ExecCredential",
        "status": {"token": ADMIN, "expirationTimestamp": "AT"},
    }
    now = "$(date --utc --date '+6 seconds' +%Y-%m-%dT%H:%M:%SZ)"
    plugin.write_text(
        f"#!/bin/sh\necho >> {calls}\ncat <<END\n{json.dumps(said)}\nEND\n".replace('AT"', f'{now}"')
    )
    plugin.chmod(0o755)
    kubeconfig = json.loads(cluster.kubeconfig().read_text())
    kubeconfig["users"][0]["user"] = {"exec": {"apiVersion": EXEC, "command": str(plugin)}}
    path = rig.folder / "as-on-eks"
    path.write_text(json.dumps(kubeconfig))
    operator = await rig.leader("laptop", kubeconfig=path)
    await rig.until(lambda: len(calls.read_text()) >= 6, "it expired twice, for requests and for the watch")
    assert operator.leads
    assert operator.figure(REQUESTS, code="401") == 0
    assert "lease-lost" not in operator.said
    await healthy(rig, operator)


class Account:
    """A service account whose Role changes."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    async def may(self, rules: list[dict[str, Any]]) -> None:
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "operator"},
            "rules": rules,
        }
        await self._rig.kubectl("apply", "-f", "-", given=role)

    async def kubeconfig(self) -> Path:
        await self._rig.kubectl("create", "serviceaccount", "operator")
        account = f"{self._rig.namespace}:operator"
        await self.may(RULES)
        await self._rig.kubectl(
            "create", "rolebinding", "operator", "--role=operator", f"--serviceaccount={account}"
        )
        token = (await self._rig.kubectl("create", "token", "operator")).strip()
        kubernetes = self._rig.kubernetes
        return write_kubeconfig(self._rig.folder, kubernetes.url, kubernetes.ca, token)


async def test_revoked_rights_are_named_and_their_return_is_enough(rig: Rig) -> None:
    account = Account(rig)
    operator = await rig.leader("account", kubeconfig=await account.kubeconfig())
    await rig.apply(server("allowed", env=env(TINY_VERSION="1.0.0")))
    await rig.ready("allowed")
    assert operator.figure(REQUESTS, code="403") == 0

    leases = [each for each in RULES if each["resources"] in (["leases"], ["events"])]
    await account.may(leases)
    await rig.patch("allowed", env=env(TINY_VERSION="2.0.0"))
    await rig.until(lambda: operator.figure(REQUESTS, code="403") > 0, "a refusal is counted", seconds=90)
    await rig.until(lambda: "cannot" in operator.said, "the log names the missing verb", seconds=90)
    assert operator.asked("/healthz") == (200, "ok\n")

    await account.may(RULES)
    await rig.server(
        "allowed",
        lambda each: is_ready(each) and each["status"]["serverVersion"] == "2.0.0",
        "version 2 serves",
        seconds=120,
    )
    said = [json.loads(line) for line in operator.said.splitlines()]
    assert all({"event", "level", "timestamp"} <= each.keys() for each in said)
    await healthy(rig, operator)
