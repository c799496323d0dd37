"""What somebody with kubectl does all day, on real containers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from e2e.rig import TINY
from e2e_kubernetes.rig import Rig, connection, env, is_ready, server

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker, pytest.mark.anyio]
EXAMPLES = Path(__file__).parents[2] / "examples" / "kubernetes"


@pytest.fixture
async def kept(rig: Rig) -> Rig:
    """The namespace with an operator that leads."""
    await rig.leader()
    return rig


async def test_applied_servers_are_waited_for_like_everything_else(kept: Rig) -> None:
    await kept.apply(server("one"), server("two"), server("three"))
    said = await kept.kubectl("wait", "--for=condition=Ready", "mcpserver", "--all", "--timeout=60s")
    assert said.count("condition met") == 3
    for name in ("one", "two", "three"):
        (container,) = kept.containers(name)
        assert container.status == "running"
    listed = (await kept.kubectl("get", "mcp")).splitlines()
    assert {"NAME", "READY", "PHASE", "REASON", "TOOLBOX", "AGE"} <= set(listed[0].split())
    assert [each.split()[:2] for each in listed[1:]] == [["one", "True"], ["three", "True"], ["two", "True"]]


@pytest.mark.network
async def test_the_examples_become_ready(kept: Rig) -> None:
    for each in sorted(EXAMPLES.glob("*.yaml")):
        await kept.apply(yaml.safe_load(each.read_text().replace("docker-1", "here")))
    said = await kept.kubectl("wait", "--for=condition=Ready", "mcpserver", "--all", "--timeout=400s")
    assert said.count("condition met") == 3
    for each in sorted(EXAMPLES.glob("*.yaml")):
        text = each.read_text().replace("docker-1", "here")
        assert await kept.kubectl("diff", "-f", "-", given=yaml.safe_load(text)) == ""


async def test_describe_shows_conditions_and_events_of_the_object(kept: Rig) -> None:
    await kept.apply(server("told"))
    await kept.ready("told")
    described = await kept.kubectl("describe", "mcpserver", "told")
    assert "Reachable" in described
    placed = [line.split(None, 4) for line in described.splitlines() if " Placed " in line]
    assert [each[3:] for each in placed] == [["toolkeeper.dev/operator", f"on toolbox {kept.namespace}/here"]]


@pytest.mark.parametrize("how", [(), ("--server-side",)], ids=["by-kubectl", "by-the-server"])
async def test_diff_shows_an_edit_and_nothing_afterwards(kept: Rig, how: tuple[str, ...]) -> None:
    bot = f"bot{''.join(how)}"  # nobody collects the first one's Secret here, and it is not the second one's
    declared = [server("differs"), connection(bot, "differs")]
    await kept.kubectl("apply", *how, "-f", "-", given=declared)
    await kept.ready("differs")
    await kept.kubectl("wait", "--for=condition=TokenIssued", f"agentconnection/{bot}", "--timeout=30s")
    assert await kept.kubectl("diff", *how, "-f", "-", given=declared) == ""
    changed = server("differs", env=env(TINY_VERSION="2.0.0"))
    said = await kept.kubectl("diff", *how, "-f", "-", given=changed, check=False)
    assert "+    value: 2.0.0" in said
    await kept.kubectl("delete", "agentconnection", bot)


async def test_a_server_side_dry_run_changes_nothing_on_the_host(kept: Rig) -> None:
    dry = ("apply", "--server-side", "--dry-run=server", "-f", "-")
    assert "(server dry run)" in await kept.kubectl(*dry, given=server("dry"))
    assert await kept.get("dry") is None
    await kept.apply(server("dry"))
    before = await kept.ready("dry")
    changed = server("dry", env=env(TINY_VERSION="2.0.0"))
    await kept.kubectl(*dry, "--force-conflicts", given=changed)
    assert (await kept.get("dry") or {})["metadata"]["resourceVersion"] == before["metadata"][
        "resourceVersion"
    ]


async def test_an_edit_rolls_out_beside_the_old_container(kept: Rig) -> None:
    await kept.apply(server("edited", env=env(TINY_VERSION="1.0.0")))
    before = await kept.ready("edited")
    await kept.patch("edited", env=env(TINY_VERSION="2.0.0"))
    after = await kept.server(
        "edited",
        lambda each: is_ready(each) and each["status"]["serverVersion"] == "2.0.0",
        "version 2 serves",
    )
    assert after["status"]["container"] != before["status"]["container"]
    await kept.until(lambda: len(kept.containers("edited")) == 1, "the old container is gone")


async def test_an_annotation_restarts_a_server(kept: Rig) -> None:
    await kept.apply(server("again"))
    before = await kept.ready("again")
    await kept.kubectl("annotate", "mcpserver", "again", "toolkeeper.dev/restartedAt=now")
    after = await kept.server(
        "again",
        lambda each: is_ready(each) and each["status"]["containerId"] != before["status"]["containerId"],
        "another container serves",
    )
    assert after["metadata"]["generation"] == before["metadata"]["generation"]


async def test_a_deleted_server_is_gone_once_kubectl_says_so(kept: Rig) -> None:
    await kept.apply(server("gone"))
    await kept.ready("gone")
    assert "deleted" in await kept.kubectl("delete", "mcpserver", "gone", "--timeout=60s")
    assert kept.containers("gone") == []


async def test_a_user_s_object_is_as_its_owner_wrote_it_but_for_the_finalizer(kept: Rig) -> None:
    await kept.kubectl("apply", "--server-side", "--field-manager=owner", "-f", "-", given=server("mine"))
    found = await kept.ready("mine")
    everything = json.loads(
        await kept.kubectl("get", "mcpserver", "mine", "-o", "json", "--show-managed-fields")
    )
    ours = [each for each in everything["metadata"]["managedFields"] if each["manager"] != "owner"]
    fields = [each["fieldsV1"] for each in ours if each.get("subresource") != "status"]
    assert fields == [{"f:metadata": {"f:finalizers": {".": {}, 'v:"toolkeeper.dev/cleanup"': {}}}}]
    assert found["spec"]["image"] == TINY
    assert "annotations" not in found["metadata"]


async def test_a_server_that_cannot_run_says_why_in_its_reason(kept: Rig) -> None:
    await kept.apply(server("never", image="toolkeeper-e2e:no-such-tag", pullPolicy="Never"))
    await kept.server(
        "never",
        lambda each: "no-such-tag" in json.dumps(each.get("status", {}).get("conditions")),
        "it says why",
    )
    await kept.patch("never", image=TINY, pullPolicy="IfNotPresent")
    await kept.ready("never")


@pytest.mark.parametrize("kind", ["toolbox", "mcpserver", "agentconnection"])
async def test_every_field_explains_itself(kept: Rig, kind: str) -> None:
    explained = await kept.kubectl("explain", kind, "--recursive")
    assert "<no description>" not in (await kept.kubectl("explain", f"{kind}.spec"))
    assert "FIELDS:" in explained
