"""From a spec to the exact container wanted, and to a hash that changes only when the container must."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from toolkeeper.planning.canonical import canonical, spec_hash
from toolkeeper.planning.decide import decide
from toolkeeper.planning.desired import NEWEST, RENDERERS, container_name, render, secret_uses
from toolkeeper.planning.instance import EnvEntry, Instance, SecretUse
from toolkeeper.planning.profiles import PROFILES
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.testing.builders import (
    make_container,
    make_server,
    make_snapshot,
    make_wanted,
    make_world,
    rendered,
)

TOKEN = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "api", "key": "token"}}}
DIGEST = "@sha256:" + "a" * 64


def instance_of(server: MCPServer, **secrets: str) -> Instance:
    drawn = render(server, installation="test", secrets=secrets or dict.fromkeys(["api/token"], "1"))
    assert drawn.instance is not None
    return drawn.instance


def test_a_short_spec_gets_every_default_written_out() -> None:
    drawn = instance_of(make_server(image="example/time:1"))
    assert (drawn.port, drawn.path, drawn.probe_interval) == (8000, "/mcp", 15)
    assert (drawn.limits.memory, drawn.limits.nano_cpus, drawn.limits.pids) == (512 * 2**20, 10**9, 256)
    assert drawn.hardening == PROFILES["restricted"]
    assert drawn.reach.egress == "deny"


@pytest.mark.parametrize(("transport", "port", "path"), [("sse", 8000, "/sse"), ("stdio", 0, "")])
def test_each_transport_has_its_own_default_endpoint(transport: str, port: int, path: str) -> None:
    drawn = instance_of(make_server(transport=transport))
    assert (drawn.port, drawn.path) == (port, path)


def test_a_read_only_root_comes_with_a_home_that_can_be_written() -> None:
    assert EnvEntry("HOME", "/tmp") in instance_of(make_server()).env
    assert instance_of(make_server(security={"writableRoot": True})).env == ()
    assert instance_of(make_server(env=[{"name": "HOME", "value": "/data"}])).env == (
        EnvEntry("HOME", "/data"),
    )


def test_a_quantity_without_quotes_is_the_same_container() -> None:
    numbers = make_server(resources={"memory": 536870912, "cpu": 2})
    texts = make_server(resources={"memory": "512Mi", "cpu": "2"})
    assert instance_of(numbers).limits.memory == 512 * 2**20
    assert spec_hash(instance_of(numbers)) == spec_hash(instance_of(texts))


def test_the_port_stays_a_placeholder_for_the_node_to_fill_in() -> None:
    assert instance_of(make_server(args=["--port", "{{port}}"])).args == ("--port", "{{port}}")


def test_a_volume_carries_its_server_s_name_on_the_host() -> None:
    (volume,) = instance_of(make_server(volumes=[{"name": "data", "path": "/data"}])).volumes
    assert volume.volume == "tk_test_default_time_data"


@pytest.mark.parametrize(
    ("security", "expected"),
    [
        ({"profile": "restricted", "capAdd": ["NET_BIND_SERVICE"]}, {"cap_add": ("NET_BIND_SERVICE",)}),
        ({"profile": "restricted", "runAsUser": 1000}, {"user": "1000:1000"}),
        ({"profile": "restricted", "writableRoot": True}, {"read_only_root": False}),
        ({"profile": "baseline"}, {"user": "", "read_only_root": False, "no_new_privileges": True}),
        ({"profile": "permissive"}, {"cap_drop": ("NET_RAW",), "no_new_privileges": False, "pids": 256}),
        ({"profile": "permissive", "capAdd": ["NET_RAW"]}, {"cap_drop": (), "cap_add": ("NET_RAW",)}),
        ({"profile": "permissive", "capAdd": ["ALL"]}, {"cap_drop": (), "cap_add": ("ALL",)}),
        ({"profile": "permissive", "runAsUser": 0}, {"user": "0:0"}),
    ],
)
def test_a_profile_is_a_preset_with_explicit_exceptions(
    security: dict[str, Any], expected: dict[str, Any]
) -> None:
    drawn = instance_of(make_server(security=security))
    pids = expected.pop("pids", drawn.limits.pids)
    assert {field: getattr(drawn.hardening, field) for field in expected} == expected
    assert (drawn.limits.pids, drawn.hardening.nofile, drawn.hardening.log_max_size) == (pids, 1024, "10m")


def test_no_profile_keeps_a_capability_that_it_drops() -> None:
    assert PROFILES["restricted"].cap_drop == PROFILES["baseline"].cap_drop == ("ALL",)
    assert "SYS_ADMIN" not in PROFILES["baseline"].cap_add


# Hashes ---------------------------------------------------------------------------------------------------------------


def test_the_canonical_form_never_changes_under_a_version_that_is_in_use() -> None:
    """If this fails, an upgrade would replace every container there is: add a renderer version instead."""
    everything = make_server(
        image="example/time:1",
        port=9000,
        path="/x",
        host_header="localhost",
        command=["run"],
        args=["é", "{{port}}"],
        env=[TOKEN, {"name": "A", "value": "1"}],
        files=[{"path": "/etc/x", "value": "y"}],
        volumes=[{"name": "data", "path": "/data"}],
        resources={"memory": "1Gi", "cpu": "500m", "pids": 10},
        network={"egress": {"allow": ["b.example:443", "a.example:443"]}, "peers": ["git"]},
        restartPolicy="OnFailure",
        health={"intervalSeconds": 30},
        annotations={"toolkeeper.dev/restartedAt": "today"},
    )
    assert spec_hash(instance_of(everything)) == (
        "v1:sha256:73fb477ea958e6100a9ee96cf835f68459e4bf4c35145fd594177cff83cd8af0"
    )
    packaged = make_server(
        package={
            "registry": "npm",
            "name": "@x/y",
            "version": "1.0.0",
            "with": ["b@1.0.0", "a@1.0.0"],
            "system": ["git"],
        },
        transport="stdio",
        security={"profile": "baseline"},
    )
    assert spec_hash(instance_of(packaged)) == (
        "v1:sha256:88a9c436a218f99ffe4e41e6e76f3017c5f6abc3886adcc311cabc2cbae17fdc"
    )


def test_the_canonical_form_writes_every_default_out() -> None:
    assert '"nofile":1024' in canonical(instance_of(make_server()))


@pytest.mark.parametrize(
    "edit",
    [
        {"pullPolicy": "Always"},
        {"pullSecretRef": "registry"},
        {"rollout": {"drainSeconds": 60}},
        {"health": {"failureThreshold": 9, "startupSeconds": 9}},
        {"running": False},
        {"paused": True},
        {"exclusive": True},
        {"access": {"agents": ["*"]}},
        {"tools": {"pin": "Off"}},
        {"deletionPolicy": "Orphan"},
        {"reclaim": "Delete"},
        {"resources": {"memory": "0.5Gi", "cpu": "1000m"}},
        {"port": 8000, "path": "/mcp"},
    ],
    ids=str,
)
def test_an_edit_that_changes_nothing_about_the_container_restarts_nothing(edit: dict[str, Any]) -> None:
    assert rendered(make_server(**edit)).hash == rendered(make_server()).hash


@pytest.mark.parametrize(
    "edit",
    [
        {"image": "registry.example/time:2"},
        {"image": "registry.example/time" + DIGEST},
        {"command": ["x"]},
        {"args": ["x"]},
        {"env": [{"name": "A", "value": "1"}]},
        {"env": [TOKEN]},
        {"files": [{"path": "/etc/x", "value": "y"}]},
        {"volumes": [{"name": "data", "path": "/data"}]},
        {"resources": {"memory": "1Gi"}},
        {"resources": {"pids": 1}},
        {"security": {"profile": "baseline"}},
        {"network": {"egress": {"default": "allow"}}},
        {"network": {"peers": ["git"]}},
        {"transport": "sse"},
        {"port": 9000},
        {"hostHeader": "localhost"},
        {"restartPolicy": "Never"},
        {"annotations": {"toolkeeper.dev/restartedAt": "now"}},
    ],
    ids=str,
)
def test_an_edit_of_the_container_changes_its_hash(edit: dict[str, Any]) -> None:
    assert rendered(make_server(**edit)).hash != rendered(make_server()).hash


def test_the_order_of_what_has_no_order_means_nothing() -> None:
    one = make_server(
        env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        network={"egress": {"allow": ["a.example:1", "b.example:1"]}},
        volumes=[{"name": "x", "path": "/x"}, {"name": "y", "path": "/y"}],
    )
    other = make_server(
        env=[{"name": "B", "value": "2"}, {"name": "A", "value": "1"}],
        network={"egress": {"allow": ["b.example:1", "a.example:1"]}},
        volumes=[{"name": "y", "path": "/y"}, {"name": "x", "path": "/x"}],
    )
    assert rendered(one).hash == rendered(other).hash


def test_a_rotated_secret_is_another_container_whose_value_nobody_sees() -> None:
    server = make_server(env=[TOKEN])
    old, new = (render(server, installation="test", secrets={"api/token": version}) for version in "12")
    assert old.hash != new.hash
    assert new.instance is not None
    assert SecretUse("api", "token", "2") in [entry.secret for entry in new.instance.env]


def test_a_long_restart_annotation_becomes_a_short_token() -> None:
    drawn = instance_of(make_server(annotations={"toolkeeper.dev/restartedAt": "x" * 100_000}))
    assert len(drawn.restart_token) == 16


# Secrets and refusals ------------------------------------------------------------------------------------------------


def test_every_secret_must_resolve_before_anything_is_rendered() -> None:
    server = make_server(
        env=[TOKEN], files=[{"path": "/k", "secretRef": {"name": "tls", "key": "key"}}], pullSecretRef="hub"
    )
    needed = (("api", "token"), ("hub", "password"), ("hub", "username"), ("tls", "key"))
    assert secret_uses(server.spec) == needed
    drawn = render(server, installation="test", secrets={"api/token": "1"})
    assert drawn.instance is None
    assert drawn.missing_secrets == ("hub/password", "hub/username", "tls/key")


@pytest.mark.parametrize(
    ("spec", "features", "reason"),
    [
        ({"catalog": {"name": "io.example/time", "version": "1"}}, (), "SourceUnsupported"),
        ({"remote": {"url": "https://mcp.example/mcp"}}, (), "SourceUnsupported"),
        ({}, ("packages",), "RuntimeUnsupported"),
        ({"transport": "stdio"}, ("images",), "RuntimeUnsupported"),
        ({"volumes": [{"name": "v" * 63, "path": "/data"}]}, (), "NameTooLong"),
    ],
)
def test_a_spec_that_cannot_run_is_refused_with_a_reason(
    spec: dict[str, Any], features: tuple[str, ...], reason: str
) -> None:
    server = make_server(name="n" * 63, namespace="m" * 63, **spec)
    drawn = render(server, installation="i" * 63, secrets={}, node_features=frozenset(features))
    assert drawn.instance is None
    assert drawn.refused is not None
    assert drawn.refused[0] == reason


def test_what_a_node_announces_never_changes_what_is_rendered() -> None:
    server = make_server()
    bare = render(server, installation="test", secrets={})
    assert render(server, installation="test", secrets={}, node_features=frozenset({"images"})) == bare


# Names and versions ---------------------------------------------------------------------------------------------------


def test_the_longest_names_still_make_a_container_name() -> None:
    name = container_name("i" * 63, "m" * 63, "n" * 63, rendered(make_server()).hash)
    assert len(name) <= 210


def test_two_servers_cannot_have_one_container_name() -> None:
    spec_hash = rendered(make_server()).hash
    assert container_name("a", "b-c", "d", spec_hash) != container_name("a", "b", "c-d", spec_hash)


def _second(server: MCPServer, installation: str, secrets: Any) -> Instance:
    """A later Toolkeeper with another default."""
    drawn = RENDERERS[1](server, installation, secrets)
    return replace(drawn, renderer=2, hardening=replace(drawn.hardening, nofile=4096))


def test_a_new_renderer_version_restarts_nothing_and_arrives_with_the_next_rollout() -> None:
    server = make_server()
    old = make_container(server)
    settled = decide(make_world(server, observation=make_snapshot(old)))
    (server,), toolbox = settled.servers, settled.toolbox
    upgraded = render(server, installation="test", secrets={}, renderers={**RENDERERS, 2: _second})
    assert upgraded.hash.startswith("v2:")
    fields: dict[str, Any] = {
        "hash": upgraded.hash,
        "hashes": upgraded.hashes,
        "instances": upgraded.instances,
    }
    wanted = make_wanted(server, instance=upgraded.instance, **fields)
    after_upgrade = decide(make_world(wanted, toolbox=toolbox, observation=make_snapshot(old)))
    assert str(after_upgrade.plan).endswith("nothing to do")
    assert after_upgrade.servers == ()
    removed = decide(make_world(wanted, toolbox=toolbox, observation=make_snapshot()))
    (step,) = removed.plan.steps
    assert step.hash == upgraded.hash
    assert step.instance is not None
    assert step.instance.hardening.nofile == 4096


def test_an_older_container_is_compared_with_the_version_that_made_it() -> None:
    server = make_server()
    old = make_container(server)
    upgraded = render(server, installation="test", secrets={}, renderers={**RENDERERS, 2: _second})
    assert upgraded.instances[1] != upgraded.instances[2]
    fields: dict[str, Any] = {
        "hash": upgraded.hash,
        "hashes": upgraded.hashes,
        "instances": upgraded.instances,
    }
    wanted = make_wanted(server, instance=upgraded.instance, **fields)
    assert old.live is not None
    edited = replace(old, live=replace(old.live, memory=1))
    (step,) = decide(make_world(wanted, observation=make_snapshot(edited))).plan.steps
    assert (step.verb, step.container) == ("remove", old.name)


def test_the_newest_version_is_what_new_containers_are_made_from() -> None:
    assert instance_of(make_server()).renderer == NEWEST == max(RENDERERS)
