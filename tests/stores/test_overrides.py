"""Verbs on an object that lives in Git: in force for one content of its spec, and never in the tree."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stores.conftest import server, toolbox, write
from toolkeeper.errors import Conflict, Invalid, NotFound
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import RESTARTED_AT, Key
from toolkeeper.stores.directory import DirectoryStore
from toolkeeper.stores.overrides import spec_hash

pytestmark = pytest.mark.anyio
TIME = server().key


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[DirectoryStore]:
    write(tmp_path / "manifests" / "time.yaml", server())
    opened = await opened_at(tmp_path)
    yield opened
    await opened.aclose()


async def opened_at(folder: Path) -> DirectoryStore:
    return await DirectoryStore.open(
        folder / "manifests", state_dir=folder / "state", environment={}, settle=0.0
    )


async def found(store: DirectoryStore) -> MCPServer:
    resource = await store.get(TIME)
    assert isinstance(resource, MCPServer)
    return resource


async def test_pause_is_an_edit_of_the_object_and_not_of_the_file(store: DirectoryStore) -> None:
    await store.patch(TIME, "pause", "true")
    paused = await found(store)
    assert paused.spec.paused
    assert paused.metadata.generation == 2


async def test_restart_is_an_annotation(store: DirectoryStore) -> None:
    await store.patch(TIME, "restart", "2026-01-01T12:00:00Z")
    assert (await found(store)).metadata.annotations == {RESTARTED_AT: "2026-01-01T12:00:00Z"}


async def test_stop_and_start(store: DirectoryStore) -> None:
    await store.patch(TIME, "run", "false")
    assert not (await found(store)).spec.running
    await store.patch(TIME, "run", "true")
    assert (await found(store)).spec.running


async def test_rollback_replaces_the_spec_and_other_verbs_hold_on_top_of_it(store: DirectoryStore) -> None:
    await store.patch(TIME, "pause", "true")
    await store.patch(TIME, "rollback", json.dumps({"toolboxRef": "here", "image": "time:0"}))
    after = await found(store)
    assert after.spec.image == "time:0"
    assert after.spec.paused


async def test_approve_pins_the_definitions(store: DirectoryStore) -> None:
    await store.patch(TIME, "approve", "sha256:" + "0" * 64)
    assert (await found(store)).spec.tools.approved == "sha256:" + "0" * 64


async def test_overrides_are_listed_with_who_and_when(store: DirectoryStore) -> None:
    await store.patch(TIME, "pause", "true", actor="alice")
    (override,) = await store.overrides(TIME)
    assert (override.verb, override.value, override.actor) == ("pause", "true", "alice")
    assert override.at is not None
    assert override.spec_hash == spec_hash(server())


async def test_an_edit_of_the_spec_in_the_file_ends_them_for_good(
    store: DirectoryStore, tmp_path: Path
) -> None:
    await store.patch(TIME, "pause", "true")
    write(tmp_path / "manifests" / "time.yaml", server(image="time:2"))
    assert not (await found(store)).spec.paused
    assert await store.overrides() == ()
    write(tmp_path / "manifests" / "time.yaml", server())
    assert not (await found(store)).spec.paused


async def test_an_edit_of_labels_keeps_them(store: DirectoryStore, tmp_path: Path) -> None:
    await store.patch(TIME, "pause", "true")
    write(tmp_path / "manifests" / "time.yaml", server(labels={"team": "blue"}))
    after = await found(store)
    assert after.spec.paused
    assert after.metadata.labels == {"team": "blue"}


async def test_they_survive_a_restart_and_another_look_at_the_files(
    store: DirectoryStore, tmp_path: Path
) -> None:
    await store.patch(TIME, "pause", "true")
    before = await found(store)
    again = await opened_at(tmp_path)
    assert await found(again) == before
    await again.aclose()


async def test_they_end_with_their_object(store: DirectoryStore, tmp_path: Path) -> None:
    write(tmp_path / "manifests" / "here.yaml", toolbox())
    await store.patch(TIME, "pause", "true")
    (tmp_path / "manifests" / "time.yaml").unlink()
    await store.list()
    write(tmp_path / "manifests" / "time.yaml", server())
    assert not (await found(store)).spec.paused


async def verbs(store: DirectoryStore) -> list[str]:
    return [each.verb for each in await store.overrides(TIME)]


async def test_a_verb_that_asks_for_what_the_file_says_lets_the_file_decide_again(
    store: DirectoryStore,
) -> None:
    await store.patch(TIME, "pause", "true")
    await store.patch(TIME, "run", "false")
    await store.patch(TIME, "pause", "false")
    after = await found(store)
    assert not after.spec.paused
    assert not after.spec.running
    assert await verbs(store) == ["run"]
    await store.patch(TIME, "run", "true")
    assert await verbs(store) == []


async def test_a_rollback_to_what_the_file_says_ends_the_one_before(store: DirectoryStore) -> None:
    declared = {"toolboxRef": "here", "image": "time:1"}
    await store.patch(TIME, "rollback", json.dumps(declared | {"image": "time:0"}))
    await store.patch(TIME, "rollback", json.dumps(declared))
    assert (await found(store)).spec == server().spec
    assert await verbs(store) == []


async def test_what_a_rollback_brought_can_be_overridden_with_what_the_file_says(
    store: DirectoryStore,
) -> None:
    await store.patch(TIME, "rollback", json.dumps({"toolboxRef": "here", "image": "a", "paused": True}))
    await store.patch(TIME, "pause", "false")
    assert not (await found(store)).spec.paused
    assert await verbs(store) == ["pause", "rollback"]


async def test_an_override_of_an_old_content_is_a_conflict(store: DirectoryStore, tmp_path: Path) -> None:
    old = spec_hash(server())
    write(tmp_path / "manifests" / "time.yaml", server(image="time:2"))
    with pytest.raises(Conflict, match="edited meanwhile"):
        await store.patch(TIME, "pause", "true", spec_hash=old)


@pytest.mark.parametrize(
    ("verb", "value"),
    [
        ("explode", "true"),
        ("pause", "perhaps"),
        ("rollback", "no json"),
        ("rollback", '{"image": 7}'),
        ("approve", "yes"),
    ],
)
async def test_nonsense_is_refused_and_changes_nothing(store: DirectoryStore, verb: str, value: str) -> None:
    before = await found(store)
    with pytest.raises(Invalid):
        await store.patch(TIME, verb, value)
    assert await found(store) == before
    assert await store.overrides() == ()


async def test_a_verb_on_what_no_file_declares_finds_nothing(store: DirectoryStore) -> None:
    with pytest.raises(NotFound):
        await store.patch(Key("MCPServer", "default", "other"), "pause", "true")


def test_the_hash_of_a_spec_never_changes_with_a_release() -> None:
    assert spec_hash(server()) == "ba5fdb56aaae766fae8f22800e45f5f319f84fb1dcffe7823655877fe0777660"
