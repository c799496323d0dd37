"""What a leader had on its way when it was frozen arrives after its successor took over, and is refused there.

The frozen one cannot notice anything meanwhile, so what refuses is the node (by the epoch) and the API server (by the
version), and nothing else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from signal import SIGCONT, SIGSTOP

import pytest
from aiohttp import web

from e2e_kubernetes.rig import OperatorProgram, Rig, env, is_ready, server
from e2e_kubernetes.test_leaders import TAKES_OVER, pair, serves
from e2e_kubernetes.test_trouble import through
from stores_kubernetes.door import Door

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker, pytest.mark.anyio]


@pytest.fixture
async def node_door(rig: Rig) -> AsyncIterator[Door]:
    """The way of all operators to the node."""
    direct = f"http://127.0.0.1:{rig.node_port}"
    async with Door(direct, None).open() as door:
        await _move(rig, door.url)
        yield door
        await asyncio.to_thread(rig.stop_operators)
        await _move(rig, direct)


async def _move(rig: Rig, endpoint: str) -> None:
    patch = json.dumps({"spec": {"endpoint": endpoint}})
    await rig.kubectl("patch", "toolbox", "here", "--type=merge", "--patch", patch)


async def frozen(rig: Rig, sleeper: OperatorProgram, standby: OperatorProgram, door: Door) -> None:
    """What the leader sends is kept on its way, and the leader frozen until another leads."""
    await rig.until(lambda: door.held, "something is on its way")
    sleeper.send(SIGSTOP)
    door.holds = None
    await rig.until(lambda: standby.leads, "the standby leads", seconds=TAKES_OVER)


async def awake(rig: Rig, sleeper: OperatorProgram) -> None:
    """It goes on, and ends: it has been replaced."""
    sleeper.send(SIGCONT)
    await rig.until(lambda: not sleeper.runs, "the old leader has ended")
    assert sleeper.process.returncode == 1


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_command_to_the_host_that_comes_too_late_is_refused_by_the_node(
    rig: Rig, node_door: Door, method: str
) -> None:
    sleeper, standby = await pair(rig)
    await rig.apply(server("slow", env=env(TINY_VERSION="1.0.0")))
    await rig.ready("slow")
    node_door.holds = lambda asked: asked.method == method and "/v1/instances/" in asked.path
    await rig.patch("slow", env=env(TINY_VERSION="2.0.0"))
    await frozen(rig, sleeper, standby, node_door)
    await rig.patch("slow", env=env(TINY_VERSION="3.0.0"))
    after = await rig.server("slow", serves("3.0.0"), "version 3 serves")
    await rig.until(lambda: len(rig.containers("slow")) == 1, "one container is left")

    node_door.let_go.set()
    await rig.until(lambda: len(node_door.late) == len(node_door.held), "it arrives")
    assert [status for status, _ in node_door.late] == [409] * len(node_door.held)
    assert all('"Fenced"' in said for _, said in node_door.late)
    await awake(rig, sleeper)
    assert [each.id for each in rig.containers("slow")] == [after["status"]["containerId"]]
    assert standby.leads


@pytest.mark.parametrize(
    ("method", "ends_with", "codes"),
    [
        ("PATCH", "/mcpservers/late/status", {409}),
        ("PATCH", "/mcpservers/late", {409, 422}),
        ("PUT", "/leases/toolkeeper", {409}),
    ],
    ids=["status", "finalizer", "lease"],
)
async def test_a_write_to_the_cluster_that_comes_too_late_is_refused_by_the_api_server(
    rig: Rig, door: Door, method: str, ends_with: str, codes: set[int]
) -> None:
    def kept(asked: web.Request) -> bool:
        return asked.method == method and asked.path.endswith(ends_with)

    sleeper = await rig.leader("sleeper", kubeconfig=through(rig, door))
    standby = rig.operator("standby")
    await rig.until(lambda: standby.asked("/readyz")[0] == 200, "the standby is ready")
    door.holds = kept
    await rig.apply(server("late"))
    await frozen(rig, sleeper, standby, door)
    before = await rig.server("late", is_ready, "the standby did it")

    door.let_go.set()
    await rig.until(lambda: len(door.late) == len(door.held), "it arrives")
    assert {status for status, _ in door.late} <= codes, door.late
    assert await rig.get("late") == before
    assert len(rig.containers("late")) == 1
    await awake(rig, sleeper)
    assert standby.leads
