"""Several operators of one cluster: who leads acts, who led and was replaced can do no more harm."""

from __future__ import annotations

import json
import signal

import pytest

from e2e_kubernetes.rig import Holds, OperatorProgram, Rig, env, is_ready, server

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker, pytest.mark.anyio]
TAKES_OVER = 15.0
"""Seconds."""
NEVER = "2130-01-01T00:00:00.000000Z"


async def pair(rig: Rig) -> tuple[OperatorProgram, OperatorProgram]:
    """A leader, and a standby that has listed everything."""
    leader = await rig.leader("leader")
    standby = rig.operator("standby")
    await rig.until(lambda: standby.asked("/readyz")[0] == 200, "the standby is ready")
    assert not standby.leads
    return leader, standby


def serves(version: str) -> Holds:
    """Whether the server is ready in this version."""
    return lambda each: is_ready(each) and each["status"]["serverVersion"] == version


async def holder(rig: Rig) -> str:
    """Who holds the Lease, by its name before the random part."""
    said = await rig.kubectl("get", "lease", "toolkeeper", "-o", "jsonpath={.spec.holderIdentity}")
    return said.partition("_")[0]


async def test_a_standby_finishes_the_rollout_of_a_leader_that_was_killed(rig: Rig) -> None:
    leader, standby = await pair(rig)
    await rig.apply(server("moving", env=env(TINY_VERSION="1.0.0")))
    await rig.ready("moving")
    await rig.patch("moving", env=env(TINY_VERSION="2.0.0"))
    await rig.until(lambda: len(rig.containers("moving")) == 2, "the rollout has begun")
    leader.send(signal.SIGKILL)
    there = {each.id for each in rig.containers("moving")}
    await rig.until(lambda: acts(standby), "the standby leads, and acts", seconds=TAKES_OVER)
    found = await rig.server("moving", serves("2.0.0"), "version 2 serves")
    await rig.until(lambda: len(rig.containers("moving")) == 1, "one container is left")
    [left] = rig.containers("moving")
    assert left.name == found["status"]["container"]
    assert left.id in there, "the candidate of the old leader serves; no other was made"


def acts(operator: OperatorProgram) -> bool:
    """Whether it leads and has claimed the host: from then on only it can change anything there."""
    return operator.leads and operator.figure("toolkeeper_toolbox_requests_total", operation="claim") > 0


async def test_a_leader_that_is_told_to_end_hands_over_at_once(rig: Rig) -> None:
    leader, standby = await pair(rig)
    leader.send(signal.SIGTERM)
    await rig.until(lambda: standby.leads, "the standby leads", seconds=6)
    await rig.until(lambda: not leader.runs, "the old leader has ended")
    assert leader.process.returncode == 0


async def test_a_leader_that_slept_through_its_lease_can_do_nothing_any_more(rig: Rig) -> None:
    sleeper, standby = await pair(rig)
    await rig.apply(server("fenced", env=env(TINY_VERSION="1.0.0")))
    await rig.ready("fenced")
    await rig.patch("fenced", env=env(TINY_VERSION="2.0.0"))
    await rig.until(lambda: len(rig.containers("fenced")) == 2, "the rollout has begun")
    sleeper.send(signal.SIGSTOP)  # with half a rollout in its hands
    await rig.until(lambda: standby.leads, "the standby leads", seconds=TAKES_OVER)
    await rig.patch("fenced", env=env(TINY_VERSION="3.0.0"))
    after = await rig.server("fenced", serves("3.0.0"), "version 3 serves")
    await rig.until(lambda: len(rig.containers("fenced")) == 1, "one container is left")

    sleeper.send(signal.SIGCONT)
    await rig.until(lambda: not sleeper.runs, "the old leader has ended")
    assert sleeper.process.returncode == 1
    assert "no longer holds the lease" in sleeper.said or "claimed by a newer leader" in sleeper.said
    found = await rig.get("fenced")
    assert found is not None
    assert serves("3.0.0")(found)
    assert found["status"]["containerId"] == after["status"]["containerId"]
    assert [each.id for each in rig.containers("fenced")] == [after["status"]["containerId"]]
    assert standby.leads


async def test_a_deleted_lease_locks_nobody_out_and_one_leads(rig: Rig) -> None:
    await pair(rig)
    for number in range(2):
        await rig.kubectl("delete", "lease", "toolkeeper")
        await rig.until(
            lambda: rig.exists("lease", "toolkeeper"), "the lease is there again", seconds=TAKES_OVER
        )
        await rig.apply(server(f"unlocked-{number}"))
        await rig.ready(f"unlocked-{number}")
        assert sum(each.leads for each in rig.operators if each.runs) == 1


async def test_a_lease_of_somebody_who_is_gone_is_taken_over(rig: Rig) -> None:
    await rig.kubectl("delete", "lease", "toolkeeper", "--ignore-not-found")
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "toolkeeper"},
        "spec": {
            "holderIdentity": "a-ghost",
            "leaseDurationSeconds": 99999,
            "renewTime": NEVER,
        },
    }
    await rig.kubectl("apply", "-f", "-", given=lease)
    await rig.leader("heir")
    assert await holder(rig) == "heir"


async def test_a_change_of_leader_restarts_no_server_that_uses_a_secret(rig: Rig) -> None:
    leader, standby = await pair(rig)
    await rig.kubectl("create", "secret", "generic", "wheel", "--from-literal=token=round")
    await rig.kubectl("label", "secret", "wheel", "toolkeeper.dev/credential=true")
    secret = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "wheel", "key": "token"}}}]
    await rig.apply(server("secretive", env=secret))
    before = await rig.ready("secretive")
    leader.send(signal.SIGKILL)
    await rig.until(lambda: standby.leads, "the standby leads", seconds=TAKES_OVER)
    await rig.apply(server("later"))
    await rig.ready("later")
    after = await rig.ready("secretive")
    assert after["status"]["containerId"] == before["status"]["containerId"]
    assert "round" not in json.dumps(after) + leader.said + standby.said
