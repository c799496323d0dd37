"""Where servers belong: where they are beats where they would be put, and not knowing beats guessing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import pytest

from toolkeeper.planning.observed import Observation, Unreachable
from toolkeeper.planning.placement import Placement, place
from toolkeeper.planning.world import Policy
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.testing.builders import make_container, make_server, make_snapshot, make_toolbox

POLICY = Policy("test")
ZONE: dict[str, Any] = {"toolbox_selector": {"zone": "a"}}


def box(name: str, **spec: Any) -> Toolbox:
    return make_toolbox(name, labels={"zone": "a"}, **spec)


def placed(
    servers: list[MCPServer],
    boxes: list[Toolbox],
    seen: Mapping[str, Observation] | None = None,
) -> dict[str, str]:
    """Server → the toolbox it belongs to, or the reason why to none. Empty toolboxes answer unless told otherwise."""
    observations = {each.key: (seen or {}).get(each.metadata.name, make_snapshot()) for each in boxes}
    found = place(servers, boxes, observations, POLICY)
    assert set(found) == {each.key for each in servers}
    return {key.name: _where(placement) for key, placement in found.items()}


def _where(placement: Placement) -> str:
    return placement.reason if placement.toolbox is None else placement.toolbox.name


def remembered(server: MCPServer, toolbox: str) -> MCPServer:
    return server.model_copy(
        update={"status": MCPServerStatus(observed_generation=1, toolbox=f"default/{toolbox}")}
    )


def test_a_reference_is_obeyed() -> None:
    assert placed([make_server("a", toolbox_ref="west")], [box("east"), box("west")]) == {"a": "west"}


def test_a_referenced_toolbox_need_not_have_been_seen() -> None:
    silent = {"box": Unreachable("NeverSeen")}
    assert placed([make_server("a")], [box("box")], silent) == {"a": "box"}


def test_a_selector_admits_only_toolboxes_with_all_its_labels() -> None:
    boxes = [box("east"), make_toolbox("west", labels={"zone": "a", "disk": "fast"})]
    assert placed([make_server("a", toolbox_selector={"zone": "a", "disk": "fast"})], boxes) == {"a": "west"}


def test_servers_spread_over_equal_toolboxes_whatever_the_order_of_anything() -> None:
    servers = [make_server(name, **ZONE) for name in "abc"]
    boxes = [box("east"), box("north"), box("west")]
    found = [
        placed(list(order), list(others)) for order in permutations(servers) for others in permutations(boxes)
    ]
    assert all(each == {"a": "east", "b": "north", "c": "west"} for each in found)


def test_a_container_decides_even_against_what_is_remembered() -> None:
    server = remembered(make_server("a", **ZONE), "east")
    seen = {"west": make_snapshot(make_container(server))}
    assert placed([server], [box("east"), box("west")], seen) == {"a": "west"}


def test_of_two_containers_the_remembered_toolbox_s_counts() -> None:
    server = remembered(make_server("a", **ZONE), "west")
    here = make_snapshot(make_container(server))
    assert placed([server], [box("east"), box("west")], {"east": here, "west": here}) == {"a": "west"}


def test_a_stranger_s_container_decides_nothing() -> None:
    server = make_server("b", **ZONE)
    seen = {"west": make_snapshot(make_container(server, installation="other"))}
    assert placed([server], [box("east"), box("west")], seen) == {"b": "east"}


def test_what_a_silent_toolbox_held_stays_its_own() -> None:
    server = make_server("a", **ZONE)
    silent = Unreachable("ToolboxUnreachable", held=frozenset({("default", "a")}))
    assert placed([server], [box("east"), box("west")], {"west": silent}) == {"a": "west"}


def test_a_newcomer_does_not_wait_for_a_toolbox_that_was_seen_without_it() -> None:
    silent = Unreachable("ToolboxUnreachable", held=frozenset())
    assert placed([make_server("a", **ZONE)], [box("east"), box("west")], {"east": silent}) == {"a": "west"}


def test_a_newcomer_waits_for_a_toolbox_that_was_never_seen() -> None:
    silent = Unreachable("ToolboxUnreachable")
    found = placed([make_server("a", **ZONE)], [box("east"), box("west")], {"west": silent})
    assert found == {"a": "WaitingForToolboxes"}


def test_a_remembered_place_is_kept_while_nothing_can_be_seen() -> None:
    server = remembered(make_server("a", **ZONE), "west")
    silent = Unreachable("NeverSeen")
    assert placed([server], [box("east"), box("west")], {"east": silent, "west": silent}) == {"a": "west"}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"paused": True}, "ToolboxPaused"),
        ({"drain": True}, "ToolboxDraining"),
        ({"capacity": {"servers": 0}}, "InsufficientCapacity"),
        ({"capacity": {"memory": "256Mi"}}, "InsufficientCapacity"),
        ({"capacity": {"cpu": "500m"}}, "InsufficientCapacity"),
    ],
)
def test_a_toolbox_that_takes_nothing_new_says_why(spec: dict[str, Any], reason: str) -> None:
    assert placed([make_server("a")], [box("box", **spec)]) == {"a": reason}


def test_limits_may_add_up_to_more_than_the_host_has_unless_capacity_is_declared() -> None:
    servers = [make_server(f"s{n:02d}", **ZONE) for n in range(50)]
    small = make_snapshot(capacity_memory=8 << 30, capacity_nano_cpus=2_000_000_000)
    assert set(placed(servers, [box("box")], {"box": small}).values()) == {"box"}


def test_a_server_that_may_take_more_than_the_whole_host_has_is_not_put_there() -> None:
    small = make_snapshot(capacity_memory=1 << 28)
    assert placed([make_server("a", **ZONE)], [box("box")], {"box": small}) == {"a": "InsufficientCapacity"}


def test_a_draining_toolbox_gives_a_server_away_once_and_for_all() -> None:
    server = make_server("a", **ZONE)
    here = make_snapshot(make_container(server))
    boxes = [box("east", drain=True), box("north"), box("west")]
    assert placed([server], boxes, {"east": here}) == {"a": "north"}
    moving = remembered(server, "west")
    assert placed([moving, make_server("b", **ZONE)], boxes, {"east": here})["a"] == "west"


def test_a_server_with_volumes_stays_where_its_labels_no_longer_lead() -> None:
    server = make_server("a", toolbox_selector={"zone": "b"}, volumes=[{"name": "data", "path": "/data"}])
    here = make_snapshot(make_container(server))
    assert placed([server], [box("east"), make_toolbox("west", labels={"zone": "b"})], {"east": here}) == {
        "a": "east"
    }


def test_a_server_without_volumes_follows_its_labels() -> None:
    server = make_server("a", toolbox_selector={"zone": "b"})
    here = make_snapshot(make_container(server))
    assert placed([server], [box("east"), make_toolbox("west", labels={"zone": "b"})], {"east": here}) == {
        "a": "west"
    }


# Other namespaces -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("admitted", "where"),
    [((), "NamespaceNotAllowed"), (("team-*",), "box"), (("x",), "NamespaceNotAllowed")],
)
def test_a_toolbox_of_another_namespace_must_admit_this_one(admitted: tuple[str, ...], where: str) -> None:
    server = make_server("a", namespace="team-1", toolbox_ref="default/box")
    assert placed([server], [box("box", allowed_namespaces=admitted)]) == {"a": where}


def test_labels_lead_only_to_toolboxes_that_admit_the_namespace() -> None:
    server = make_server("a", namespace="team-1", **ZONE)
    assert placed([server], [box("box")]) == {"a": "NoToolboxMatches"}
    assert placed([server], [box("box", allowed_namespaces=["*"])]) == {"a": "box"}


def test_a_reference_to_nothing_says_so() -> None:
    assert placed([make_server("a", toolbox_ref="bax")], [box("box")]) == {"a": "ToolboxNotFound"}


# Deleted servers ------------------------------------------------------------------------------------------------------


def released(server: MCPServer, boxes: list[Toolbox], seen: Mapping[str, Observation] | None = None) -> bool:
    observations = {each.key: (seen or {}).get(each.metadata.name, make_snapshot()) for each in boxes}
    return place([server], boxes, observations, POLICY)[server.key].released


def test_a_deleted_server_is_cleaned_up_where_it_is() -> None:
    server = make_server("a", deleted=True, toolbox_ref="east")
    seen = {"west": make_snapshot(make_container(server))}
    assert placed([server], [box("east"), box("west")], seen) == {"a": "west"}


def test_a_deleted_server_that_was_never_placed_goes_once_all_were_seen() -> None:
    server = make_server("a", deleted=True, **ZONE)
    assert released(server, [box("east"), box("west")])
    assert not released(server, [box("east"), box("west")], {"west": Unreachable("NeverSeen")})


def test_a_deleted_server_of_a_vanished_toolbox_is_let_go_only_by_force() -> None:
    server = remembered(make_server("a", deleted=True, toolbox_ref="gone"), "gone")
    assert not released(server, [box("box")])
    forced = make_server(
        "a", deleted=True, toolbox_ref="gone", annotations={"toolkeeper.dev/force-delete": "true"}
    )
    assert released(remembered(forced, "gone"), [box("box")])


@pytest.mark.parametrize("value", ["yes", "True", ""])
def test_a_misspelt_force_of_a_server_whose_toolbox_vanished_is_named(value: str) -> None:
    server = remembered(
        make_server(
            "a", deleted=True, toolbox_ref="gone", annotations={"toolkeeper.dev/force-delete": value}
        ),
        "gone",
    )
    found = place([server], [box("box")], {}, POLICY)[server.key]
    assert not found.released
    assert found.message.endswith(f"force-delete={value!r} means nothing, only 'true' does")


@pytest.mark.parametrize(
    ("silence", "where"),
    [
        (Unreachable("ToolboxUnreachable"), "WaitingForToolboxes"),
        (Unreachable("ToolboxUnreachable", held=frozenset()), "west"),
        (make_snapshot(), "west"),
    ],
)
def test_what_must_not_run_twice_is_not_moved_before_its_old_home_was_seen(
    silence: Observation, where: str
) -> None:
    server = remembered(make_server("a", toolbox_ref="west", exclusive=True), "east")
    assert placed([server], [box("east"), box("west")], {"east": silence}) == {"a": where}


def test_what_may_run_twice_is_moved_at_once() -> None:
    server = remembered(make_server("a", toolbox_ref="west"), "east")
    assert placed([server], [box("east"), box("west")], {"east": Unreachable("NeverSeen")}) == {"a": "west"}


def test_every_server_gets_an_answer_even_without_any_toolbox() -> None:
    servers = [
        make_server("a"),
        make_server("b", **ZONE),
        make_server("c", remote={"url": "https://mcp.example/mcp"}),
    ]
    assert placed(servers, []) == {"a": "ToolboxNotFound", "b": "NoToolboxMatches", "c": "SourceUnsupported"}


def test_the_key_of_a_placement_is_the_toolbox_s_own() -> None:
    found = place([make_server("a")], [box("box")], {}, POLICY)
    assert found[Key("MCPServer", "default", "a")].toolbox == Key("Toolbox", "default", "box")
