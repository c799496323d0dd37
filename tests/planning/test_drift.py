"""What somebody edited on a container is found field by field; what a faithful host reports is no drift."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from toolkeeper.planning.drift import drifts, expected
from toolkeeper.planning.instance import Instance
from toolkeeper.testing.builders import edited, make_container, make_server, rendered

SPEC: dict[str, Any] = {
    "env": [{"name": "A", "value": "1"}],
    "files": [{"path": "/etc/x", "value": "y"}],
    "volumes": [{"name": "data", "path": "/data"}],
    "security": {"capAdd": ["NET_BIND_SERVICE"]},
}
SERVER = make_server(**SPEC)


def instance() -> Instance:
    drawn = rendered(SERVER).instance
    assert drawn is not None
    return drawn


@pytest.mark.parametrize(
    ("live", "told"),
    [
        ({"memory": 1 << 30}, "memory: 512Mi → 1Gi"),
        ({"memory": 0}, "memory: 512Mi → unlimited"),
        ({"nano_cpus": 500_000_000}, "cpu: 1 → 500m"),
        ({"pids": 0}, "pids: 256 → unlimited"),
        ({"cap_drop": ()}, "capDrop: ALL → none"),
        ({"cap_add": ("SYS_ADMIN",)}, "capAdd: NET_BIND_SERVICE → SYS_ADMIN"),
        ({"read_only_root": False}, "readOnlyRoot: true → false"),
        ({"user": ""}, "user: 65532:65532 → the image's"),
        ({"env_names": ("PATH",)}, "env: set → without A, HOME"),
        ({"mounts": ("/data",)}, "mounts: mounted → without /etc/x"),
        ({"networks": ()}, "networks: internal → none"),
        ({"networks": ("bridge", "internal")}, "networks: internal → bridge, internal"),
        ({"networks": ("egress",)}, "networks: internal → egress"),
        ({"restart": "Never"}, "restartPolicy: Always → Never"),
    ],
)
def test_an_edited_field_is_named_with_what_it_was_and_is(live: dict[str, Any], told: str) -> None:
    assert [str(each) for each in drifts(instance(), edited(make_container(SERVER), **live))] == [told]


@pytest.mark.parametrize(
    "live",
    [
        {"cap_add": ("CAP_NET_BIND_SERVICE",)},
        {"env_names": ("A", "HOME", "PATH", "LANG")},
        {"mounts": ("/data", "/etc/x", "/var/lib/image-volume")},
        {"networks": ("internal", "tk_test_peers_0123456789ab")},
        {"restart": ""},  # of an agent that does not say
    ],
)
def test_what_the_image_or_the_node_adds_is_no_drift(live: dict[str, Any]) -> None:
    assert drifts(instance(), edited(make_container(SERVER), **live)) == ()


def test_a_container_as_a_faithful_host_reports_it_has_not_drifted() -> None:
    assert drifts(instance(), replace(make_container(SERVER), live=expected(instance()))) == ()


def test_nothing_is_compared_where_the_runtime_has_no_such_notion() -> None:
    assert drifts(instance(), replace(make_container(SERVER), live=None)) == ()


def test_the_user_of_the_image_is_not_compared() -> None:
    server = make_server(security={"profile": "baseline"})
    drawn = rendered(server).instance
    assert drawn is not None
    assert drifts(drawn, edited(make_container(server), user="root")) == ()


@pytest.mark.parametrize(
    ("digest", "found"),
    [("sha256:" + "b" * 64, 1), ("sha256:" + "a" * 64, 0), ("repo@sha256:" + "a" * 64, 0), ("", 0)],
)
def test_a_pinned_image_must_be_the_one_that_runs(digest: str, found: int) -> None:
    server = make_server(image="example/time@sha256:" + "a" * 64)
    drawn = rendered(server).instance
    assert drawn is not None
    assert len(drifts(drawn, make_container(server, image_digest=digest))) == found


def test_a_tag_may_have_moved_without_anybody_s_doing() -> None:
    assert drifts(instance(), make_container(SERVER, image_digest="sha256:" + "b" * 64)) == ()
