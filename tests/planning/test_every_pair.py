"""The wanted container and an older one, each in every state it can be in: none of the pairs breaks a law."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from planning.host import fleet
from planning.laws import converge
from toolkeeper.planning.lifecycle import STATES, Stage, stage
from toolkeeper.planning.observed import Container
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.testing.builders import make_container, make_handshake, make_server, make_toolbox

LOST = {"handshake": make_handshake(ok=False), "probe_failures": 3}
SHAPES: tuple[dict[str, Any] | None, ...] = (
    None,
    *({"state": state, "handshake": None} for state in STATES if state not in ("running", "failed")),
    {"state": "failed", "error_reason": "ImageNotFound"},
    {"state": "failed", "error_reason": "ImagePullFailed"},
    {"state": "created", "error_reason": "StartFailed"},
    {"state": "exited", "handshake": None, "error_reason": "FilesUnavailable"},
    {"state": "dead", "handshake": None, "error_reason": "CreateFailed", "age": 1.0},
    {"state": "running"},
    {"state": "running", "handshake": None, "age": 3.0},
    {"state": "running", "handshake": None},
    {"state": "running", "handshake": make_handshake(ok=False)},
    {"state": "running", "handshake": None, "age": 3.0, "restarts": 5},
    {"state": "running", **LOST},
)
WAYS: dict[str, dict[str, Any]] = {
    "beside": {},
    "recreate": {"rollout": {"strategy": "Recreate"}},
    "keep": {"rollout": {"onFailure": "Keep"}},
    "exclusive": {"exclusive": True},
    "stopped": {"running": False},
    "never": {"restartPolicy": "Never"},
}
Pair = tuple[dict[str, Any] | None, dict[str, Any] | None]
SAMPLE = 1 if os.environ.get("EVERY_PAIR") else 19
REMEMBERED = ("nothing", "the older served", "the wanted served", "the wanted failed")


def containers(server: MCPServer, shape: dict[str, Any] | None, container_id: str) -> Iterator[Container]:
    if shape is not None:
        made = make_container(server, **shape)
        yield replace(made, container_id=container_id if made.container_id else "")


def remembering(server: MCPServer, what: str, wanted: str, older: str) -> MCPServer:
    status = server.status
    if what != "nothing":
        running = wanted if what == "the wanted served" else older
        failed = wanted if what == "the wanted failed" else ""
        memory = status.memory.model_copy(
            update={"failed_hash": failed, "failed_reason": failed and "Exited"}
        )
        update = {"observed_generation": 2, "wanted_hash": wanted, "running_hash": running, "memory": memory}
        status = status.model_copy(update=update)
    return server.model_copy(update={"status": status})


EVERY = pytest.mark.parametrize(
    ("image", "way", "what"), list(product(("works:2", "crashes:2"), WAYS, REMEMBERED))
)


@pytest.mark.slow
@EVERY
def test_no_pair_of_containers_breaks_a_law(image: str, way: str, what: str) -> None:
    """A sample that differs from case to case, so that together they cover every pair; EVERY_PAIR=1 takes all."""
    every = list(product(SHAPES, SHAPES))
    offset = list(WAYS).index(way) + 3 * REMEMBERED.index(what) + (image == "crashes:2")
    check_pairs(image, way, what, every[offset % SAMPLE :: SAMPLE])


def check_pairs(image: str, way: str, what: str, pairs: Iterable[Pair]) -> None:
    older = make_server(image="registry.example/works:1", **WAYS[way])
    wanted = make_server(image=f"registry.example/{image}", generation=2, **WAYS[way])
    hashes = make_container(wanted).hash, make_container(older).hash
    server = remembering(wanted, what, *hashes)
    for first, second in pairs:
        present = [*containers(wanted, first, "id-wanted"), *containers(older, second, "id-older")]
        box = make_toolbox()
        world = fleet([server], [box], {box.key: present})
        converge(world)
        status = world.servers[server.key].status
        left = world.hosts[box.key].snapshot.containers
        assert len(left) <= 1 or way == "keep", f"{first} and {second} leave {len(left)}"
        if image == "works:2" and way in ("beside", "recreate", "exclusive"):
            frozen = any(shape is not None and shape["state"] == "paused" for shape in (first, second))
            assert status.phase == "active" or frozen, f"{first} and {second} end {status.phase}"


def test_the_shapes_reach_every_stage_that_a_container_can_be_at() -> None:
    server = make_server()
    made = [each for shape in SHAPES for each in containers(server, shape, "id")]
    reached = {stage(each, server.spec.health) for each in made} | {Stage.ABSENT}
    assert reached == set(Stage) - {Stage.UNKNOWN}
