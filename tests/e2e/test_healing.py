"""What strangers do to containers, and what comes of it."""

from __future__ import annotations

import os
import signal

import pytest

from e2e.rig import TINY, Rig, is_ready, said

pytestmark = [pytest.mark.docker, pytest.mark.anyio]


async def test_a_removed_container_comes_back(rig: Rig) -> None:
    rig.declare("removed")
    before = await rig.ready("removed")
    rig.container("removed").remove(force=True)

    after = await rig.until(
        "removed", lambda s: is_ready(s) and s.status.container_id != before.status.container_id
    )

    assert rig.container("removed").id == after.status.container_id
    assert "NotReady" in await rig.happened("removed")


async def test_a_stopped_container_is_started_again_and_not_replaced(rig: Rig) -> None:
    rig.declare("stopped")
    before = await rig.ready("stopped")
    rig.container("stopped").stop(timeout=1)

    await rig.until("stopped", lambda s: not is_ready(s))
    after = await rig.ready("stopped")

    assert after.status.container_id == before.status.container_id
    assert "Stopped" in await rig.happened("stopped")


async def test_an_edited_memory_limit_is_undone_and_named_from_what_to_what(rig: Rig) -> None:
    rig.declare("edited")
    before = await rig.ready("edited")
    rig.container("edited").update(mem_limit="256m", memswap_limit="256m")

    await rig.until("edited", lambda s: is_ready(s) and s.status.container_id != before.status.container_id)

    assert rig.container("edited").attrs["HostConfig"]["Memory"] == 512 * 1024 * 1024
    happened = await rig.happened("edited")
    assert "memory" in happened
    assert "512Mi" in happened
    assert "256Mi" in happened


async def test_a_killed_process_is_restarted_by_docker_and_counted(rig: Rig) -> None:
    rig.declare("killed")
    before = await rig.ready("killed")
    # From outside Docker: `docker kill` would count as a stop by hand, which Docker does not undo.
    os.kill(rig.container("killed").attrs["State"]["Pid"], signal.SIGKILL)

    after = await rig.until("killed", lambda s: is_ready(s) and s.status.restarts > before.status.restarts)

    assert after.status.container_id == before.status.container_id


async def test_a_crashing_server_is_reported_with_exit_code_and_left_to_docker(rig: Rig) -> None:
    rig.declare("crashing", env=[{"name": "TINY_BROKEN", "value": "exit"}])

    server = await rig.until(
        "crashing",
        lambda s: (
            any(c.reason == "CrashLoopBackOff" for c in s.status.conditions)
            and s.status.exit_code is not None
        ),
    )

    assert server.status.exit_code == 3
    assert "3" in said(server.status, "Ready").message


async def test_foreign_containers_are_counted_and_never_touched(rig: Rig) -> None:
    foreign = rig.engine.containers.run(TINY, name=f"foreign-{rig.plane.installation}", detach=True)
    try:
        rig.declare("beside")
        await rig.ready("beside")
        rig.withdraw("beside")
        await rig.gone("beside")
        foreign.reload()
        assert foreign.status == "running"
    finally:
        foreign.remove(force=True)


async def test_a_deleted_manifest_leaves_no_container(rig: Rig) -> None:
    rig.declare("deleted")
    await rig.ready("deleted")

    rig.withdraw("deleted")
    await rig.gone("deleted")

    assert rig.containers("deleted") == []
