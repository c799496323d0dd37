"""Edits of manifests: what takes over, what does not, and what status says."""

from __future__ import annotations

import pytest

from e2e.rig import Rig, is_ready, said

pytestmark = [pytest.mark.docker, pytest.mark.anyio]


def env(**values: str) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]


async def test_an_edit_starts_the_new_version_beside_the_old_and_retires_the_old(rig: Rig) -> None:
    rig.declare("edit", env=env(TINY_VERSION="1.0.0"))
    before = await rig.ready("edit")

    rig.declare("edit", env=env(TINY_VERSION="2.0.0"))
    after = await rig.until("edit", lambda s: is_ready(s) and s.status.server_version == "2.0.0")

    assert after.status.container != before.status.container
    assert rig.container("edit").name == after.status.container
    assert after.status.history[-1].outcome == "Succeeded"


@pytest.mark.parametrize(
    ("name", "broken", "told"),
    [
        ("exits", {"env": env(TINY_BROKEN="exit")}, "3"),
        ("mute", {"env": env(TINY_BROKEN="mute"), "rollout": {"deadlineSeconds": 5}}, "handshake"),
        ("noimage", {"image": "toolkeeper-e2e:no-such-tag", "pullPolicy": "Never"}, "no-such-tag"),
    ],
)
async def test_a_broken_version_leaves_the_old_one_serving_and_says_why(
    rig: Rig, name: str, broken: dict[str, object], told: str
) -> None:
    rig.declare(name)
    before = await rig.ready(name)

    rig.declare(name, **broken)
    after = await rig.until(
        name,
        lambda s: any(c.type == "RolledBack" and c.status == "True" for c in s.status.conditions),
        seconds=90,
    )

    assert (await rig.alone(name)).id == before.status.container_id
    assert said(after.status, "Ready").status == "True"
    assert told in said(after.status, "RolledBack").message
    assert after.status.memory.failed_hash == after.status.wanted_hash


async def test_a_new_operator_does_not_try_the_same_broken_version_again(rig: Rig) -> None:
    rig.declare("once")
    before = await rig.ready("once")
    rig.declare("once", env=env(TINY_BROKEN="exit"))
    await rig.until(
        "once", lambda s: any(c.type == "RolledBack" and c.status == "True" for c in s.status.conditions)
    )

    rig.kill("operator")
    await rig.start_operator()
    # Something else must happen for the new operator to have looked: another server comes up.
    rig.declare("bystander")
    await rig.ready("bystander")

    assert rig.container("once").id == before.status.container_id
    # And the good version again ends it.
    rig.declare("once", env=env(TINY_VERSION="3.0.0"))
    await rig.until("once", lambda s: is_ready(s) and s.status.server_version == "3.0.0")


async def test_a_broken_manifest_changes_nothing_and_delays_nobody(rig: Rig) -> None:
    rig.declare("fine")
    before = await rig.ready("fine")

    rig.write("fine", "apiVersion: toolkeeper.dev/v1alpha1\nkind: MCPServer\nmetadata: {name: fine\n")
    rig.declare("neighbour")
    await rig.ready("neighbour")

    assert rig.container("fine").id == before.status.container_id
    rig.declare("fine", env=env(TINY_VERSION="5.0.0"))
    await rig.until("fine", lambda s: is_ready(s) and s.status.server_version == "5.0.0")


async def test_a_stopped_server_keeps_its_container_and_starts_again(rig: Rig) -> None:
    rig.declare("pausing")
    before = await rig.ready("pausing")

    rig.declare("pausing", running=False)
    await rig.until("pausing", lambda s: s.status.phase == "stopped")
    assert rig.container("pausing").status == "exited"

    rig.declare("pausing")
    after = await rig.ready("pausing")
    assert after.status.container_id == before.status.container_id
