from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from random import Random

import pytest

from toolkeeper.errors import NotReadyYet, Refused, Unreachable
from toolkeeper.reconcile.keyring import Keyring, digest
from toolkeeper.reconcile.ports import Secret
from toolkeeper.stores.memory import MemoryStore
from toolkeeper.testing.virtual import VirtualClock, in_virtual_time, never

USE = ("creds", "token")


class Vault(MemoryStore):
    """A store whose secrets can be out of reach."""

    trouble: Exception | None = None
    hangs = False
    reads = 0
    labels: Mapping[str, str] = {}

    async def secret(self, namespace: str, name: str) -> Secret:
        self.reads += 1
        if self.hangs:
            await never()
        if self.trouble is not None:
            raise self.trouble
        found = await super().secret(namespace, name)
        return replace(found, labels=self.labels)


class Rig:
    def __init__(self) -> None:
        self.vault = Vault(VirtualClock())
        self.vault.put_secret("default", "creds", {"token": "one"})
        self.changed: list[str] = []
        self.keyring = Keyring(
            self.vault,
            b"key",
            lambda namespace, name: self.changed.append(f"{namespace}/{name}"),
            clock=VirtualClock(),
            rng=Random(1),
        )

    async def digest(self) -> str | None:
        await self.keyring.read("default", [USE])
        return self.keyring.versions("default", [USE]).digests.get("creds/token")

    def problem(self) -> str:
        return self.keyring.versions("default", [USE]).problems["creds/token"].message

    def reason(self) -> str:
        return self.keyring.versions("default", [USE]).problems["creds/token"].reason


def test_a_digest_depends_on_the_value_the_place_and_the_installation() -> None:
    one = digest(b"key", "default", "creds", "token", "one")
    others = [
        digest(b"key", "default", "creds", "token", "two"),
        digest(b"key", "default", "creds", "other", "one"),
        digest(b"key", "other", "creds", "token", "one"),
        digest(b"another key", "default", "creds", "token", "one"),
    ]
    assert len(one) == 16
    assert one not in others


@in_virtual_time
async def test_a_secret_is_read_once_for_many_questions() -> None:
    rig = Rig()
    assert await rig.digest() == digest(b"key", "default", "creds", "token", "one")
    await rig.digest()
    assert rig.vault.reads == 1


@in_virtual_time
async def test_a_missing_secret_and_a_missing_key_say_so() -> None:
    rig = Rig()
    await rig.keyring.read("default", [("none", "token"), ("creds", "none")])
    problems = rig.keyring.versions("default", [("none", "token"), ("creds", "none")]).problems
    assert "there is no secret default/none" in problems["none/token"].message
    assert problems["creds/none"].message == "the secret creds has no key none"
    assert {each.reason for each in problems.values()} == {"SecretMissing"}


@in_virtual_time
async def test_a_secret_that_nobody_may_use_counts_as_missing() -> None:
    rig = Rig()
    rig.vault.trouble = Refused("the secret default/creds is not marked for use", reason="SecretNotMarked")
    assert await rig.digest() is None
    assert "not marked" in rig.problem()
    assert rig.reason() == "SecretNotMarked"


@in_virtual_time
async def test_a_secret_that_was_never_read_is_not_called_missing() -> None:
    rig = Rig()
    assert rig.reason() == "ReadingSecrets"
    rig.vault.trouble = Unreachable("the vault does not answer")
    assert await rig.digest() is None
    assert rig.reason() == "StoreUnreachable"


@in_virtual_time
async def test_a_rotation_is_noticed_within_a_minute_or_so() -> None:
    rig = Rig()
    before = await rig.digest()
    task = asyncio.create_task(rig.keyring.run())
    rig.vault.put_secret("default", "creds", {"token": "two"})
    rig.changed.clear()
    await asyncio.sleep(80.0)
    task.cancel()
    assert rig.changed == ["default/creds"]
    assert await rig.digest() != before


@in_virtual_time
async def test_a_vault_that_does_not_answer_leaves_what_was_known_in_force() -> None:
    rig = Rig()
    before = await rig.digest()
    rig.vault.trouble = Unreachable("the vault does not answer")
    rig.keyring.refresh()
    await asyncio.sleep(10.0)
    assert await rig.digest() == before


@in_virtual_time
async def test_a_vault_that_hangs_holds_a_pass_up_for_a_second_only_once() -> None:
    rig, loop = Rig(), asyncio.get_running_loop()
    rig.vault.hangs = True
    await rig.digest()
    assert loop.time() == 1.0
    await asyncio.sleep(10.0)
    began = loop.time()
    assert await rig.digest() is None
    assert loop.time() == began


@in_virtual_time
async def test_values_are_handed_out_only_as_they_were_decided_on() -> None:
    rig = Rig()
    decided = {"creds/token": await rig.digest() or ""}
    assert await rig.keyring.values("default", [USE], decided) == {"creds/token": "one"}
    rig.vault.put_secret("default", "creds", {"token": "two"})
    with pytest.raises(NotReadyYet):
        await rig.keyring.values("default", [USE], decided)


@in_virtual_time
async def test_a_secret_that_nobody_uses_any_more_is_no_longer_read() -> None:
    rig = Rig()
    await rig.digest()
    task = asyncio.create_task(rig.keyring.run())
    await asyncio.sleep(2000.0)
    reads = rig.vault.reads
    await asyncio.sleep(2000.0)
    task.cancel()
    assert rig.vault.reads == reads


@in_virtual_time
async def test_no_server_gets_what_opens_a_toolbox() -> None:
    rig = Rig()
    rig.vault.labels = {"toolkeeper.dev/credential": "toolbox"}
    assert await rig.digest() is None
    assert rig.reason() == "SecretForToolboxes"
    with pytest.raises(Refused, match="for toolboxes only"):
        await rig.keyring.values("default", [USE], {})


@in_virtual_time
async def test_a_mark_that_means_nothing_opens_a_secret_to_no_server() -> None:
    rig = Rig()
    rig.vault.labels = {"toolkeeper.dev/credential": "Toolbox"}
    assert await rig.digest() is None
    assert rig.reason() == "SecretNotMarked"
    with pytest.raises(
        Refused, match=r"toolkeeper.dev/credential='Toolbox' means nothing, write true or toolbox"
    ):
        await rig.keyring.values("default", [USE], {})
