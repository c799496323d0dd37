"""The laws, in worlds that nobody thought of: any specs, any containers in any state, any memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from generated import examples
from planning.host import Fleet, Host, fleet
from planning.laws import converge
from toolkeeper.planning.lifecycle import STATES
from toolkeeper.planning.observed import Container, Unreachable
from toolkeeper.planning.world import Policy
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.testing.builders import (
    INSTALLATION,
    edited,
    make_container,
    make_handshake,
    make_server,
    make_snapshot,
    make_toolbox,
    references,
)

NAMES = ("a", "b", "c")
IMAGES = (
    "works:1",
    "works:2",
    "crashes:1",
    "silent:1",
    "missing:1",
    "unpullable:1",
    "exits:1",
    "forgetful:1",
    "guarded:1",
)
HASH = "sha256:" + "0" * 64
SECRET = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "api", "key": "token"}}}]

specs = st.fixed_dictionaries(
    {"image": st.sampled_from(IMAGES).map("registry.example/{}".format)},
    optional={
        "exclusive": st.booleans(),
        "running": st.booleans(),
        "paused": st.sampled_from((False, False, True)),
        "transport": st.sampled_from(("stdio", "sse")),
        "restartPolicy": st.sampled_from(("OnFailure", "Never")),
        "rollout": st.sampled_from(
            ({"strategy": "Recreate"}, {"onFailure": "Keep"}, {"deadlineSeconds": 30})
        ),
        "volumes": st.sampled_from(
            ([{"name": "data", "path": "/data"}], [{"name": "data", "path": "/d", "readOnly": True}])
        ),
        "tools": st.sampled_from(({"pin": "Enforce", "approved": HASH}, {"pin": "Off"})),
        "env": st.just(SECRET),
        "deletionPolicy": st.just("Orphan"),
        "reclaim": st.just("Delete"),
        "catalog": st.none(),
        "health": st.sampled_from(
            [{"credentialsRef": {"name": "api", "key": key}} for key in ("token", "probe")]
        ),
        "toolboxSelector": st.sampled_from(({"zone": "a"}, {"zone": "z"})),
    },
)
seldom: st.SearchStrategy[bool] = st.sampled_from((False,) * 5 + (True,))
annotated: st.SearchStrategy[dict[str, str]] = st.sampled_from(
    ({}, {}, {"toolkeeper.dev/restartedAt": "x"}, {"toolkeeper.dev/force-delete": "true"})
)
handshakes = st.sampled_from(
    (
        None,
        make_handshake(),
        make_handshake(reason="AuthRequired"),
        make_handshake(reason="CredentialsRefused", credential="1"),
        make_handshake(tools=("other",)),
        make_handshake(ok=False),
        make_handshake(ok=False, reason="no reason of ours"),
    )
)
conditions = st.fixed_dictionaries(
    {
        "state": st.sampled_from(STATES),
        "handshake": handshakes,
        "age": st.sampled_from((0.0, 5.0, 61.0, 121.0, 4000.0)),
        "restarts": st.integers(0, 5),
        "probe_failures": st.integers(0, 5),
        "exit_code": st.sampled_from((None, 0, 1, 137)),
        "oom_killed": st.booleans(),
        "probe_credential": st.sampled_from(("", "1", "stale")),
        "error_reason": st.sampled_from(("", "", "ImageNotFound", "StartFailed", "what is this")),
    }
)


def a_server(name: str, spec: dict[str, Any], **meta: Any) -> MCPServer:
    over_stdio = spec.get("transport") == "stdio"  # where no probe can show a credential
    given = {field: value for field, value in spec.items() if not (over_stdio and field == "health")}
    return make_server(name, **meta, **{field: value for field, value in given.items() if value is not None})


Pool = dict[str, list[dict[str, Any]]]
"""Each server's versions: what was deployed, what is wanted and what runs are drawn from the same few."""


@st.composite
def worlds(draw: st.DrawFn) -> Fleet:
    pool: Pool = {name: draw(st.lists(specs, min_size=1, max_size=3)) for name in NAMES}
    boxes = [make_toolbox("box", labels={"zone": "a"}), make_toolbox("east", labels={"zone": "a"})]
    was = [
        a_server(name, draw(st.sampled_from(pool[name]))) for name in draw(st.sets(st.sampled_from(NAMES)))
    ]
    policy = Policy(
        INSTALLATION,
        surges=draw(st.integers(1, 2)),
        allow_prune=draw(st.booleans()),
        health_restarts=draw(st.integers(0, 2)),
    )
    world = fleet(was, boxes, policy=policy)
    for _ in range(draw(st.integers(0, 3))):
        world.carry_out(world.look())
        world.settle()
    world.pass_time(600)
    _edit(draw, world, pool)
    for key in world.toolboxes:
        _disturb(draw, world, key, pool)
    needed = {reference for each in world.servers.values() for reference in references(each)}
    world.secrets = {each: draw(st.sampled_from(("1", "2", "stale"))) for each in needed if not draw(seldom)}
    world.complete = draw(st.booleans())
    return world


def _edit(draw: st.DrawFn, world: Fleet, pool: Pool) -> None:
    """Any servers, with any memory of what they were."""
    now: dict[Key, MCPServer] = {}
    for name in draw(st.sets(st.sampled_from(NAMES))):
        server = a_server(
            name,
            draw(st.sampled_from(pool[name])),
            generation=2,
            annotations=draw(annotated),
            deleted=draw(seldom),
        )
        known = world.servers.get(server.key)
        if known is not None and draw(st.booleans()):
            server = server.model_copy(update={"status": known.status})
        now[server.key] = server
    world.servers = now


def _disturb(draw: st.DrawFn, world: Fleet, key: Key, pool: Pool) -> None:
    """Anything may have happened to a host."""
    host = world.hosts[key]
    kept = [each for each in host.snapshot.containers if draw(st.booleans())]
    added = draw(st.lists(_containers(pool), max_size=5, unique_by=lambda each: each.name))
    names = {each.name for each in added}
    there = (*added, *(each for each in kept if each.name not in names))
    snapshot = make_snapshot(*there, runtime_ok=not draw(seldom))
    world.hosts[key] = Host(snapshot, Unreachable("ToolboxUnreachable") if draw(seldom) else None)
    spec = {"paused": draw(seldom), "drain": draw(seldom)}
    old: Toolbox = world.toolboxes[key]
    world.toolboxes[key] = old.model_copy(update={"spec": old.spec.model_copy(update=spec)})


@st.composite
def _containers(draw: st.DrawFn, pool: Pool) -> Container:
    name = draw(st.sampled_from(NAMES))
    shape: dict[str, Any] = draw(conditions)
    if shape["state"] not in ("failed", "created"):
        shape["error_reason"] = ""
    made = make_container(a_server(name, draw(st.sampled_from(pool[name]))), **shape)
    if draw(seldom) and made.live is not None:
        made = edited(made, memory=1)
    if draw(seldom):
        made = replace(made, renderer=99, hash="v99:" + made.hash[::-1], name=made.name[::-1])
    if draw(seldom):
        made = replace(made, installation="other", name="x" + made.name, volumes=())
    return made


# Shrinking such worlds takes minutes; the world is small and is told in the failure.
@settings(
    max_examples=examples(150),
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(worlds())
def test_every_world_comes_to_rest_and_looks_the_same_twice(world: Fleet) -> None:
    note("\n".join(told(world)))
    converge(world)


def told(world: Fleet) -> Iterator[str]:
    """What there is, for a person who looks at a failure."""
    for server in world.servers.values():
        yield server.model_dump_json(exclude_defaults=True)
    for key, host in world.hosts.items():
        yield f"{key}: {world.toolboxes[key].spec} {host.silence} {host.snapshot.runtime_ok}"
        yield from (f"  {each}" for each in host.snapshot.containers)
