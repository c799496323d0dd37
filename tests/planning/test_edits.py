"""What is said about an edit: field by field, bounded, and never a value that may be secret."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkeeper.planning.desired import render
from toolkeeper.planning.edits import REACHES_THE_CONTAINER, change, edits, told, written
from toolkeeper.planning.history import record
from toolkeeper.resources.mcpserver import MCPServer, MCPServerSpec
from toolkeeper.resources.meta import RESTARTED_AT
from toolkeeper.testing.builders import INSTALLATION, make_server

BASE: dict[str, Any] = {"toolboxRef": "box", "image": "acme/x:1"}


def edited(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    old, new = (MCPServerSpec.model_validate({**BASE, **each}) for each in (before, after))
    return edits(written(old), written(new))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, {}, ()),
        ({}, {"image": "acme/x:2"}, ("image: acme/x:1 → acme/x:2",)),
        ({}, {"port": 9000}, ("port: not set → 9000",)),
        ({}, {"resources": {"memory": "1Gi"}}, ("resources.memory: 512Mi → 1Gi",)),
        ({}, {"security": {"writableRoot": True}}, ("security.writableRoot: false → true",)),
        ({"args": ["-v", "a"]}, {"args": ["-v", "b"]}, ("args[1]: a → b",)),
        ({"args": ["a", "b"]}, {"args": ["new", "a", "b"]}, ("args[0]: not set → new",)),
        ({"args": ["a", "b"]}, {"args": ["a"]}, ("args[1]: b → not set",)),
        ({}, {"network": {"peers": ["db"]}}, ("network.peers[0]: not set → db",)),
        (
            {"volumes": [{"name": "d", "path": "/a"}]},
            {"volumes": [{"name": "d", "path": "/b", "readOnly": True}]},
            ("volumes[d].path: /a → /b", "volumes[d].readOnly: false → true"),
        ),
        (
            {"image": None, "package": {"registry": "pypi", "name": "a", "version": "1.0"}},
            {"image": None, "package": {"registry": "pypi", "name": "a", "version": "1.1"}},
            ("package.version: 1.0 → 1.1",),
        ),
        (
            {},
            {"image": None, "package": {"registry": "pypi", "name": "a", "version": "1.0"}},
            ("image: acme/x:1 → not set", "package: not set → pypi a 1.0"),
        ),
    ],
)
def test_a_field_is_named_from_and_to(
    before: dict[str, Any], after: dict[str, Any], said: tuple[str, ...]
) -> None:
    assert edited(before, after) == said


def test_values_of_variables_and_files_are_never_shown() -> None:
    before = {"env": [{"name": "A", "value": "hush"}, {"name": "B", "value": "hush"}]}
    after = {
        "env": [{"name": "A", "value": "silence"}, {"name": "C", "value": "silence"}],
        "files": [{"path": "/etc/x", "value": "silence"}],
    }
    assert edited(before, after) == ("env.A changed", "env.B removed", "env.C added", "files[/etc/x] added")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["--api-key", "hush1"], ["--api-key", "hush2"]),
        (["--token=hush1"], ["--token=hush2"]),
        (["postgres://me:hush1@db/x"], ["postgres://me:hush2@db/x"]),
        (["ghp_hush1"], ["ghp_hush2"]),
        (["hush1" + "a1b2" * 8], ["hush2"]),
        ([], ["--password", "hush1"]),
        (["--password", "hush1"], []),
    ],
)
def test_an_argument_that_looks_like_a_secret_is_not_shown(before: list[str], after: list[str]) -> None:
    said = edited({"args": before}, {"args": after})
    assert said
    assert "hush" not in " ".join(said)


def test_no_more_than_five_edits_are_told_one_by_one() -> None:
    said = told(edited({"args": [*"abcdefgh"]}, {"args": [*"ABCDEFGH"]}))
    assert said.count("→") == 5
    assert said.endswith("; and 3 more")


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=300), max_size=20))
def test_what_is_told_is_one_short_line(args: list[str]) -> None:
    said = told(edited({"args": ["x"]}, {"args": args}))
    assert len(said) < 1000
    assert said.splitlines() == [said] or said == ""


def test_a_field_is_told_if_and_only_if_its_edit_makes_another_container() -> None:
    edit: dict[str, Any] = {
        "pullPolicy": "Never",
        "pullSecretRef": "registry",
        "running": False,
        "paused": True,
        "exclusive": True,
        "sessions": "shared",
        "deletionPolicy": "Orphan",
        "reclaim": "Delete",
        "access": {"tools": ["*"]},
        "tools": {"pin": "Off"},
        "rollout": {"strategy": "Recreate"},
        "health": {"startupSeconds": 5, "failureThreshold": 9},
        "toolboxRef": "other",
        "image": "acme/x:2",
        "transport": "sse",
        "port": 9000,
        "path": "/other",
        "hostHeader": "h",
        "command": ["c"],
        "args": ["a"],
        "env": [{"name": "A", "value": "1"}],
        "files": [{"path": "/f", "value": "1"}],
        "volumes": [{"name": "v", "path": "/v"}],
        "resources": {"pids": 7},
        "security": {"profile": "baseline"},
        "network": {"egress": {"default": "allow"}},
        "restartPolicy": "Never",
    }
    told_of = {field.partition(".")[0] for field in REACHES_THE_CONTAINER}
    elsewhere = {"catalog", "remote", "package", "toolboxSelector"}
    assert {each.alias or name for name, each in MCPServerSpec.model_fields.items()} == {*edit} | elsewhere
    before = make_server(image="acme/x:1")
    for field, value in edit.items():
        after = make_server(**{"image": "acme/x:1", field: value})
        other = _hash(before) != _hash(after)
        assert bool(edits(written(before.spec), written(after.spec))) == other, field
        assert other == (field in told_of and field != "health"), field


def _hash(server: MCPServer) -> str:
    secrets = {"registry/username": "1", "registry/password": "1"}
    return render(server, installation=INSTALLATION, secrets=secrets).hash


def _after(server: MCPServer, spec_hash: str = "v1:sha256:old") -> MCPServer:
    done = record(server, spec_hash, "Succeeded")
    assert done is not None
    status = server.status.model_copy(update={"history": (done,)})
    return server.model_copy(update={"status": status})


SECRET = [{"name": "T", "valueFrom": {"secretKeyRef": {"name": "api", "key": "token"}}}]


def test_the_same_spec_with_another_secret_version_was_rotated() -> None:
    assert change(_after(make_server(env=SECRET)), "v1:sha256:old") == "a secret was rotated"


def test_the_same_spec_with_another_annotation_is_a_requested_restart() -> None:
    server = _after(make_server(env=SECRET))
    metadata = server.metadata.model_copy(update={"annotations": {RESTARTED_AT: "tuesday"}})
    asked = server.model_copy(update={"metadata": metadata})
    assert change(asked, "v1:sha256:old") == "a restart was requested"


def test_of_a_version_that_nobody_remembers_nothing_is_said() -> None:
    assert change(_after(make_server()), "v1:sha256:other") == ""


def test_a_spec_of_another_toolkeeper_is_compared_all_the_same() -> None:
    spec = {**written(make_server(image="acme/x:1").spec), "novelty": 1}
    assert edits(spec, written(make_server(image="acme/x:2").spec)) == ("image: acme/x:1 → acme/x:2",)
