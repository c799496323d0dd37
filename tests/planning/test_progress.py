from __future__ import annotations

from typing import Any

import pytest

from toolkeeper.planning.decide import decide
from toolkeeper.planning.progress import is_progress
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.testing.builders import (
    make_container,
    make_handshake,
    make_server,
    make_snapshot,
    make_toolbox,
    make_wanted,
    make_world,
)


def told(server: MCPServer, **seen: Any) -> MCPServer:
    """What is said about the server when its container is seen like this; None at all without `seen`."""
    containers = [make_container(server, **seen)] if seen else []
    world = make_world(make_wanted(server), observation=make_snapshot(*containers))
    return next(iter(decide(world).servers), server)


CREATING = told(make_server())
PULLING = told(CREATING, state="pulling", handshake=None, container_id="")
STARTING = told(CREATING, state="running", handshake=None, age=0.5)
READY = told(CREATING, state="running", handshake=make_handshake(), age=1.0)


@pytest.mark.parametrize(
    ("before", "after"), [(CREATING, PULLING), (CREATING, STARTING), (PULLING, STARTING)]
)
def test_what_is_on_its_way_may_be_told_a_moment_later(before: MCPServer, after: MCPServer) -> None:
    assert after != before
    assert is_progress(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(make_server(), CREATING, id="where it was placed is memory"),
        pytest.param(STARTING, READY, id="a result"),
        pytest.param(READY, told(READY), id="a loss"),
        pytest.param(
            STARTING,
            told(STARTING, state="restarting", handshake=None, restarts=5, exit_code=1),
            id="a failure",
        ),
    ],
)
def test_everything_else_is_told_at_once(before: MCPServer, after: MCPServer) -> None:
    assert after != before
    assert not is_progress(before, after)


def test_the_sums_of_a_toolbox_may_be_told_later_but_not_what_is_new_about_it() -> None:
    toolbox = make_toolbox()
    known = toolbox.model_copy(
        update={"status": toolbox.status.model_copy(update={"observed_generation": 1, "servers": 1})}
    )
    more = known.model_copy(update={"status": known.status.model_copy(update={"servers": 2, "ready": 1})})
    orphaned = known.model_copy(update={"status": known.status.model_copy(update={"orphans": ("tk_x",)})})
    assert is_progress(known, more)
    assert not is_progress(known, orphaned)
    assert not is_progress(toolbox, known)
