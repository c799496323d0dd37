"""A server that demands a bearer token, probed with and without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from e2e.rig import Rig, is_ready, said
from toolkeeper.resources.conditions import find
from toolkeeper.resources.mcpserver import MCPServer

pytestmark = [pytest.mark.docker, pytest.mark.anyio]
TOKEN = "correct-horse-battery-staple"
OFTEN = {"intervalSeconds": 2}
PROBED: dict[str, Any] = {**OFTEN, "credentialsRef": {"name": "probes", "key": "token"}}
DEMANDING: list[dict[str, Any]] = [
    {"name": "TINY_TOKEN", "valueFrom": {"secretKeyRef": {"name": "demands", "key": "token"}}},
    {"name": "TINY_TOOLS", "value": "3"},
]


def secret(rig: Rig, name: str, token: str) -> None:
    """Write a Secret among the manifests, or rotate it."""
    document = {"kind": "Secret", "metadata": {"name": name}, "stringData": {"token": token}}
    rig.plane.manifests.joinpath("servers").mkdir(exist_ok=True)
    rig.plane.edit("servers", name, {"apiVersion": "v1", **document})


def reached(server: MCPServer, reason: str) -> bool:
    """Whether its newest version answered with that reason."""
    found = find(server.status.conditions, "Reachable")
    current = server.status.observed_generation == server.metadata.generation
    return found is not None and found.status == "True" and found.reason == reason and current


async def test_a_server_that_demands_a_token_is_ready_with_its_tools_once_its_probe_shows_it(
    rig: Rig,
) -> None:
    secret(rig, "demands", TOKEN)
    rig.declare("guarded", env=DEMANDING, health=OFTEN)
    asked = await rig.until("guarded", lambda s: reached(s, "AuthRequired"))
    assert asked.status.tools == ()
    container = rig.container("guarded")

    secret(rig, "probes", "wrong-token")
    rig.declare("guarded", env=DEMANDING, health=PROBED)
    refused = await rig.until("guarded", lambda s: reached(s, "CredentialsRefused"))
    assert said(refused.status, "Ready").reason == "CredentialsRefused"

    secret(rig, "probes", TOKEN)
    opened = await rig.until("guarded", is_ready)
    assert opened.status.tools == ("echo", "tool_001", "tool_002")
    assert reached(opened, "Reachable")
    again = rig.container("guarded")
    assert (again.id, again.attrs["State"]["StartedAt"]) == (
        container.id,
        container.attrs["State"]["StartedAt"],
    )
    assert rig.containers("guarded") == [container]


async def test_a_restarted_node_is_given_the_credential_again(rig: Rig) -> None:
    secret(rig, "demands", TOKEN)
    secret(rig, "probes", TOKEN)
    rig.declare("again", env=DEMANDING, health=PROBED)
    before = await rig.until("again", is_ready)

    rig.kill("node")
    secret(rig, "probes", "wrong-token")
    rig.start_node()
    await rig.until("again", lambda s: reached(s, "CredentialsRefused"), seconds=90)
    secret(rig, "probes", TOKEN)
    after = await rig.until("again", is_ready)
    assert after.status.container_id == before.status.container_id
    assert "ToolsChanged" not in await rig.happened("again")


async def test_the_credential_is_nowhere_but_in_its_secret(rig: Rig) -> None:
    shown = "only-the-probe-knows-this"
    secret(rig, "demands", TOKEN)
    secret(rig, "probes", shown)
    rig.declare("quiet", env=DEMANDING, health=PROBED)
    refused = await rig.until("quiet", lambda s: reached(s, "CredentialsRefused"))

    assert shown not in json.dumps(rig.container("quiet").attrs)
    assert shown not in refused.model_dump_json()
    assert shown not in await rig.happened("quiet")
    assert holding(rig.plane.folder, shown) == {"probes.yaml"}


def holding(folder: Path, text: str) -> set[str]:
    """The names of all files of the programs that have it."""
    files = (each for each in folder.rglob("*") if each.is_file())
    return {each.name for each in files if text.encode() in each.read_bytes()}
