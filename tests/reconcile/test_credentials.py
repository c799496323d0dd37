"""The credential that a probe shows, from the store to the toolbox."""

from __future__ import annotations

import asyncio
from typing import Any

from reconcile.rig import Rig, edit
from toolkeeper.errors import Refused
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.testing.builders import make_server
from toolkeeper.testing.fake_container import FakeContainer
from toolkeeper.testing.fake_toolbox import FakeImage, FakeToolbox
from toolkeeper.testing.faults import StoreFaults
from toolkeeper.testing.virtual import in_virtual_time

IMAGES = {"registry.example/time:1": FakeImage(demands="sesame", tools=("tell", "convert"))}
PROBED: dict[str, Any] = {"health": {"credentialsRef": {"name": "creds", "key": "token"}}}
GIVEN = ("give-credential", "take-credential")


def guarded() -> MCPServer:
    return make_server(**PROBED)


def only(rig: Rig) -> FakeContainer:
    [container] = rig.box.of("default", "time")
    return container


async def reason(rig: Rig, type: str) -> str:
    return (await rig.condition(type)).reason


@in_virtual_time
async def test_with_its_credential_a_server_is_ready_with_its_tools() -> None:
    rig = Rig(IMAGES)
    rig.store.put_secret("default", "creds", {"token": "sesame"})
    async with rig.running(guarded()):
        server = await rig.server()
        assert await rig.is_ready()
        assert server.status.tools == ("tell", "convert")
        assert await reason(rig, "Reachable") == "Reachable"
        assert [each.action for each in rig.done("create", *GIVEN)] == ["create", "give-credential"]
        assert "sesame" not in f"{server.model_dump_json()} {rig.actions} {rig.passes}"
        quiet = len(rig.actions)
        await asyncio.sleep(600)
        assert len(rig.actions) == quiet


@in_virtual_time
async def test_without_a_reference_a_server_that_asks_is_reachable_and_no_more_is_known() -> None:
    async with Rig(IMAGES).running(make_server()) as rig:
        assert await rig.is_ready()
        assert await reason(rig, "Reachable") == "AuthRequired"
        assert (await rig.server()).status.tools == ()


@in_virtual_time
async def test_a_wrong_credential_is_said_and_a_right_one_helps_without_a_restart() -> None:
    rig = Rig(IMAGES)
    rig.store.put_secret("default", "creds", {"token": "open"})
    async with rig.running(guarded()):
        before = only(rig)
        await asyncio.sleep(600)
        assert await reason(rig, "Ready") == "CredentialsRefused"
        assert (await rig.condition("Reachable")).status == "True"
        rig.store.put_secret("default", "creds", {"token": "sesame"})
        await asyncio.sleep(90)
        assert await rig.is_ready()
        assert (only(rig), only(rig).run, rig.done("restart")) == (before, 1, [])


@in_virtual_time
async def test_a_restarted_agent_is_given_the_credential_again_and_nobody_notices() -> None:
    rig = Rig(IMAGES)
    rig.store.put_secret("default", "creds", {"token": "sesame"})
    async with rig.running(guarded()):
        await asyncio.sleep(120)
        rig.box.restart_agent()
        await asyncio.sleep(30)
        assert only(rig).credential is not None
        assert await rig.is_ready()
        assert (await rig.server()).status.tools == ("tell", "convert")
        assert rig.done("give-credential")[-1].because == "its probe has no credential yet"
        assert len(rig.done("create", "restart", "remove")) == 1


@in_virtual_time
async def test_a_missing_credential_is_said_and_stops_no_start() -> None:
    async with Rig(IMAGES).running(guarded()) as rig:
        assert only(rig).state == "running"
        assert (await rig.condition("SecretsResolved")).status == "False"
        assert await reason(rig, "Ready") == "SecretMissing"
        rig.store.put_secret("default", "creds", {"token": "sesame"})
        await asyncio.sleep(30)
        assert await rig.is_ready()
        assert (await rig.condition("SecretsResolved")).status == "True"


@in_virtual_time
async def test_an_unmarked_secret_is_shown_to_nobody() -> None:
    rig = Rig(IMAGES)
    rig.store.put_secret(
        "default", "creds", {"token": "sesame"}, labels={"toolkeeper.dev/credential": "toolbox"}
    )
    async with rig.running(guarded()):
        assert only(rig).credential is None
        assert await reason(rig, "SecretsResolved") == "SecretForToolboxes"


@in_virtual_time
async def test_a_reference_that_is_removed_takes_the_credential_back() -> None:
    rig = Rig(IMAGES)
    rig.store.put_secret("default", "creds", {"token": "sesame"})
    async with rig.running(guarded()):
        before = only(rig)
        await edit(rig)
        await asyncio.sleep(10)
        assert (only(rig), only(rig).credential) == (before, None)
        assert await reason(rig, "Reachable") == "AuthRequired"
        assert await rig.is_ready()


@in_virtual_time
async def test_a_toolbox_that_knows_no_credentials_is_given_none() -> None:
    rig = Rig(IMAGES)
    rig.box.features = tuple(each for each in rig.box.features if each != "probe-credentials")
    async with rig.running(guarded()):
        assert rig.done(*GIVEN) == []
        assert (await rig.condition("Enforced")).message == "no effect here: spec.health.credentialsRef"
        assert (await rig.condition("SecretsResolved")).status == "True"
        assert await rig.is_ready()


class Picky(FakeToolbox):
    """Takes no credential, but for a while."""

    picky = True

    async def give_credential(self, *args: Any, **options: Any) -> None:
        if self.picky:
            raise Refused("value: too long", reason="Invalid")
        await super().give_credential(*args, **options)


def with_picky() -> tuple[Rig, Picky]:
    rig, box = Rig(IMAGES), Picky(images=IMAGES)
    rig.box = rig.boxes["http://127.0.0.1:30000"] = box
    rig.store.put_secret("default", "creds", {"token": "sesame"})
    return rig, box


@in_virtual_time
async def test_what_a_toolbox_does_not_take_is_said_and_tried_again_now_and_then() -> None:
    rig, box = with_picky()
    async with rig.running(guarded()):
        await asyncio.sleep(1200)
        assert await reason(rig, "Ready") == "CredentialsNotGiven"
        assert "value: too long" in (await rig.condition("Ready")).message
        assert len(rig.done("restart", "remove")) == 0
        assert len(rig.done("give-credential")) <= 6
        box.picky = False
        await asyncio.sleep(600)
        assert await rig.is_ready()


@in_virtual_time
async def test_a_rotated_credential_that_a_toolbox_does_not_take_ends_readiness_once_the_old_one_does() -> (
    None
):
    rig, box = with_picky()
    box.picky = False
    async with rig.running(guarded()):
        box.picky = True
        rig.store.put_secret("default", "creds", {"token": "longer"})
        await asyncio.sleep(120)
        assert await rig.is_ready()
        box.restart_agent()
        await asyncio.sleep(600)
        assert "value: too long" in (await rig.condition("Ready")).message


@in_virtual_time
async def test_a_server_that_was_ready_without_a_credential_stays_so_while_one_is_on_its_way() -> None:
    rig = Rig(IMAGES)
    rig.store.put_secret("default", "creds", {"token": "sesame"})
    async with rig.running(make_server()):
        told = len(rig.store.events)
        await edit(rig, **PROBED)
        await asyncio.sleep(30)
        assert await reason(rig, "Reachable") == "Reachable"
        assert [each.reason for each in rig.store.events[told:]] == []
        rig.store.put_secret("default", "creds", {"token": "wrong"})
        await asyncio.sleep(30)
        assert await reason(rig, "Ready") == "CredentialsRefused"


@in_virtual_time
async def test_a_store_that_fails_when_the_value_is_read_delays_it_only() -> None:
    faults = StoreFaults()
    rig = Rig(IMAGES, faults=faults)
    rig.store.put_secret("default", "creds", {"token": "sesame"})
    async with rig.running(guarded()):
        faults.unreachable = True
        rig.box.restart_agent()
        await asyncio.sleep(120)
        assert only(rig).credential is None
        faults.unreachable = False
        await asyncio.sleep(120)
        assert only(rig).credential is not None
        assert await rig.is_ready()


@in_virtual_time
async def test_a_server_that_moves_leaves_nothing_behind_before_its_credential_is_accepted() -> None:
    rig = Rig(IMAGES)
    rig.store.put_secret("default", "creds", {"token": "sesame"})
    async with rig.running(guarded()):
        there = await rig.add_box("there", "http://127.0.0.1:30001")
        rig.store.put_secret("default", "creds", {"token": "wrong"})
        await edit(rig, toolbox_ref="there", **PROBED)
        await asyncio.sleep(120)
        assert [each.serving for each in (*there.of("default", "time"), only(rig))] == [True, True]
        rig.store.put_secret("default", "creds", {"token": "sesame"})
        await asyncio.sleep(120)
        assert rig.box.of("default", "time") == []
        assert await rig.is_ready()
