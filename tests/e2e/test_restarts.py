"""Killing the programs of Toolkeeper itself: servers go on, and everything converges."""

from __future__ import annotations

import pytest

from e2e.rig import Rig, is_ready

pytestmark = [pytest.mark.docker, pytest.mark.anyio]


async def test_killing_the_operator_in_the_middle_of_a_rollout_ends_with_one_container(rig: Rig) -> None:
    rig.declare("midway", env=[{"name": "TINY_VERSION", "value": "1.0.0"}])
    await rig.ready("midway")
    rig.declare("midway", env=[{"name": "TINY_VERSION", "value": "2.0.0"}])
    await rig.until("midway", lambda s: s.status.wanted_hash != s.status.running_hash)

    rig.kill("operator")
    await rig.start_operator()

    after = await rig.until("midway", lambda s: is_ready(s) and s.status.server_version == "2.0.0")
    assert (await rig.alone("midway")).id == after.status.container_id


async def test_a_restarted_node_adopts_what_runs(rig: Rig) -> None:
    rig.declare("adopted")
    before = await rig.ready("adopted")
    started = rig.container("adopted").attrs["State"]["StartedAt"]

    rig.kill("node")
    rig.start_node()
    rig.declare("after")
    await rig.ready("after")
    after = await rig.ready("adopted")

    assert after.status.container_id == before.status.container_id
    assert rig.container("adopted").attrs["State"]["StartedAt"] == started


async def test_a_lost_status_database_restarts_nothing(rig: Rig) -> None:
    rig.declare("known")
    before = await rig.ready("known")
    started = rig.container("known").attrs["State"]["StartedAt"]

    rig.kill("operator")
    await rig.store.aclose()
    for file in rig.database.parent.glob("state.db*"):
        file.unlink()
    await rig.start_operator()
    await rig.open()

    after = await rig.ready("known")
    assert after.status.container_id == before.status.container_id
    assert rig.container("known").attrs["State"]["StartedAt"] == started
