"""What every store does. An adapter is a store when this suite passes on it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from stores.conftest import Source, connection, reported, server, toolbox
from toolkeeper.errors import Conflict, NotFound, Refused
from toolkeeper.reconcile.ports import Change, Store
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.conditions import condition
from toolkeeper.resources.events import Event
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.resources.meta import FINALIZER, Key

pytestmark = pytest.mark.anyio
TIME = Key("MCPServer", "default", "time")


async def found(store: Store, key: Key = TIME) -> MCPServer:
    """The listed object."""
    listing = await store.list()
    (resource,) = [each for each in listing.resources if each.key == key]
    assert isinstance(resource, MCPServer)
    return resource


async def keys(store: Store) -> list[Key]:
    return [each.key for each in (await store.list()).resources]


def with_status(resource: MCPServer, **status: object) -> MCPServer:
    return resource.model_copy(update={"status": MCPServerStatus.model_validate(status)})


class TestObjects:
    async def test_what_was_declared_is_listed(self, source: Source) -> None:
        for each in (server(), toolbox(), connection()):
            await source.put(each)
        listing = await source.store.list()
        assert {each.key for each in listing.resources} == {server().key, toolbox().key, connection().key}
        assert [each.spec for each in listing.resources if each.key == TIME] == [server().spec]
        assert listing.complete
        assert listing.problems == ()

    async def test_a_new_object_has_a_uid_a_generation_and_a_status_that_claims_nothing(
        self, source: Source
    ) -> None:
        await source.put(server())
        new = await found(source.store)
        assert new.metadata.uid
        assert new.metadata.resource_version
        assert new.metadata.generation == 1
        assert new.metadata.creation_timestamp is not None
        assert new.status == MCPServerStatus()

    async def test_two_objects_have_different_uids(self, source: Source) -> None:
        await source.put(server("one"))
        await source.put(server("two"))
        assert len({each.metadata.uid for each in (await source.store.list()).resources}) == 2

    async def test_one_name_in_two_namespaces_is_two_objects(self, source: Source) -> None:
        await source.put(server(namespace="blue"))
        await source.put(server(namespace="green"))
        assert await keys(source.store) == [
            Key("MCPServer", "blue", "time"),
            Key("MCPServer", "green", "time"),
        ]

    async def test_an_edit_of_the_spec_raises_the_generation(self, source: Source) -> None:
        await source.put(server())
        assert (await found(source.store)).metadata.generation == 1
        await source.put(server(image="time:2"))
        after = await found(source.store)
        assert after.spec.image == "time:2"
        assert after.metadata.generation == 2

    async def test_an_edit_of_labels_keeps_the_generation_and_gives_a_new_version(
        self, source: Source
    ) -> None:
        await source.put(server())
        before = await found(source.store)
        await source.put(server(labels={"team": "blue"}))
        after = await found(source.store)
        assert after.metadata.labels == {"team": "blue"}
        assert after.metadata.generation == before.metadata.generation
        assert after.metadata.resource_version != before.metadata.resource_version

    async def test_an_edit_keeps_uid_status_and_finalizers(self, source: Source) -> None:
        await source.put(server())
        written = await source.store.write_status(with_status(await found(source.store), phase="active"))
        await source.store.set_finalizer(written, present=True)
        await source.put(server(image="time:2"))
        after = await found(source.store)
        assert after.metadata.uid == written.metadata.uid
        assert after.status.phase == "active"
        assert after.metadata.finalizers == (FINALIZER,)

    async def test_declaring_the_same_again_changes_nothing(self, source: Source) -> None:
        await source.put(server())
        before = await found(source.store)
        await source.put(server())
        assert await found(source.store) == before

    async def test_listing_twice_gives_the_same(self, source: Source) -> None:
        await source.put(server())
        assert await source.store.list() == await source.store.list()


class TestStatus:
    async def test_a_written_status_is_listed(self, source: Source) -> None:
        await source.put(server())
        ready = condition("Ready", True, "HandshakeSucceeded", generation=1)
        status = MCPServerStatus(
            observed_generation=1,
            phase="active",
            conditions=(ready,),
            tools=("now",),
            exit_code=0,
            last_log=("ä\n",),
        )
        current = await found(source.store)
        written = await source.store.write_status(current.model_copy(update={"status": status}))
        assert written.status == status
        assert await found(source.store) == written

    async def test_a_status_write_changes_version_but_not_generation_or_spec(self, source: Source) -> None:
        await source.put(server())
        before = await found(source.store)
        changed = before.model_copy(update={"spec": server(image="other:1").spec})
        after = await source.store.write_status(with_status(changed, phase="active"))
        assert after.metadata.generation == before.metadata.generation
        assert after.metadata.resource_version != before.metadata.resource_version
        assert (await found(source.store)).spec == before.spec

    async def test_a_status_write_on_an_old_version_is_a_conflict(self, source: Source) -> None:
        await source.put(server())
        old = await found(source.store)
        await source.put(server(image="time:2"))
        await source.store.list()
        with pytest.raises(Conflict):
            await source.store.write_status(with_status(old, phase="active"))
        assert (await found(source.store)).status == MCPServerStatus()

    async def test_of_two_writers_with_one_version_one_wins(self, source: Source) -> None:
        await source.put(server())
        seen = await found(source.store)
        outcomes = await asyncio.gather(
            source.store.write_status(with_status(seen, phase="active")),
            source.store.write_status(with_status(seen, phase="error")),
            return_exceptions=True,
        )
        assert sorted(type(each).__name__ for each in outcomes) == ["Conflict", "MCPServer"]

    async def test_the_returned_version_can_be_written_on(self, source: Source) -> None:
        await source.put(server())
        first = await source.store.write_status(with_status(await found(source.store), phase="starting"))
        assert isinstance(first, MCPServer)
        second = await source.store.write_status(with_status(first, phase="active"))
        assert await found(source.store) == second

    async def test_writing_the_same_status_again_writes_nothing(self, source: Source) -> None:
        await source.put(server())
        written = await source.store.write_status(with_status(await found(source.store), phase="active"))
        again = await source.store.write_status(written)
        assert again.metadata.resource_version == written.metadata.resource_version

    async def test_a_status_write_to_an_absent_object_finds_nothing(self, source: Source) -> None:
        await source.put(server())
        gone = await found(source.store)
        await source.drop(TIME)
        assert await keys(source.store) == []
        with pytest.raises(NotFound):
            await source.store.write_status(with_status(gone, phase="active"))


class TestDeletion:
    async def test_an_object_without_finalizer_is_gone_at_once(self, source: Source) -> None:
        await source.put(server())
        await source.store.list()
        await source.drop(TIME)
        assert await keys(source.store) == []

    async def test_a_deleted_object_stays_until_its_finalizer_is_removed(self, source: Source) -> None:
        await source.put(server())
        held = await source.store.set_finalizer(await found(source.store), present=True)
        await source.drop(TIME)
        deleted = await found(source.store)
        assert deleted.metadata.deletion_timestamp is not None
        assert deleted.metadata.uid == held.metadata.uid
        await source.store.set_finalizer(deleted, present=False)
        assert await keys(source.store) == []

    async def test_a_deleted_toolbox_stays_until_its_finalizer_is_removed(self, source: Source) -> None:
        await source.put(toolbox())
        (box,) = (await source.store.list()).resources
        await source.store.set_finalizer(box, present=True)
        await source.drop(box.key)
        (deleted,) = (await source.store.list()).resources
        assert deleted.metadata.deletion_timestamp is not None
        await source.store.set_finalizer(deleted, present=False)
        assert await keys(source.store) == []

    async def test_deleting_twice_changes_nothing(self, source: Source) -> None:
        await source.put(server())
        await source.store.set_finalizer(await found(source.store), present=True)
        await source.drop(TIME)
        deleted = await found(source.store)
        with suppress(NotFound, FileNotFoundError):
            await source.drop(TIME)
        assert await found(source.store) == deleted

    async def test_a_status_can_be_written_while_deletion_waits(self, source: Source) -> None:
        await source.put(server())
        await source.store.set_finalizer(await found(source.store), present=True)
        await source.drop(TIME)
        written = await source.store.write_status(with_status(await found(source.store), phase="stopped"))
        assert await found(source.store) == written

    async def test_a_deleted_object_takes_no_new_finalizer(self, source: Source) -> None:
        await source.put(server())
        await source.store.set_finalizer(await found(source.store), present=True)
        await source.drop(TIME)
        deleted = await found(source.store)
        bare = await source.store.set_finalizer(deleted, present=False)
        with pytest.raises((Conflict, NotFound)):
            await source.store.set_finalizer(bare, present=True)

    async def test_a_finalizer_set_on_an_old_version_is_a_conflict(self, source: Source) -> None:
        await source.put(server())
        old = await found(source.store)
        await source.put(server(image="time:2"))
        await source.store.list()
        with pytest.raises(Conflict):
            await source.store.set_finalizer(old, present=True)

    async def test_setting_a_finalizer_twice_writes_once(self, source: Source) -> None:
        await source.put(server())
        held = await source.store.set_finalizer(await found(source.store), present=True)
        assert await source.store.set_finalizer(held, present=True) == held

    async def test_a_recreated_object_is_another_object(self, source: Source) -> None:
        await source.put(server())
        first = await source.store.write_status(with_status(await found(source.store), phase="active"))
        await source.drop(TIME)
        await source.store.list()
        await source.put(server())
        second = await found(source.store)
        assert second.metadata.uid != first.metadata.uid
        assert second.metadata.generation == 1
        assert second.status == MCPServerStatus()
        with pytest.raises(Conflict):
            await source.store.write_status(first)
        with pytest.raises(Conflict):
            await source.store.set_finalizer(first, present=True)

    async def test_an_object_that_is_being_deleted_takes_no_edit(self, source: Source) -> None:
        await source.put(server())
        await source.store.set_finalizer(await found(source.store), present=True)
        await source.drop(TIME)
        deleted = await found(source.store)
        with suppress(Conflict):
            await source.put(server(image="time:2"))
        assert await found(source.store) == deleted


class TestWatch:
    async def test_watch_reports_a_new_object(self, source: Source) -> None:
        watch = source.store.watch()
        await source.put(server())
        assert (await reported(watch, TIME)).edited
        assert await keys(source.store) == [TIME]

    async def test_watch_reports_an_edit(self, source: Source) -> None:
        await source.put(server())
        await source.store.list()
        watch = source.store.watch()
        await source.put(server(image="time:2"))
        assert (await reported(watch, TIME)).edited
        assert (await found(source.store)).spec.image == "time:2"

    async def test_watch_reports_a_deletion(self, source: Source) -> None:
        await source.put(server())
        await source.store.list()
        watch = source.store.watch()
        await source.drop(TIME)
        assert (await reported(watch, TIME)).edited
        assert await keys(source.store) == []

    async def test_watch_reports_that_a_deleted_object_let_go(self, source: Source) -> None:
        await source.put(server())
        await source.store.set_finalizer(await found(source.store), present=True)
        await source.drop(TIME)
        deleted = await found(source.store)
        watch = source.store.watch()
        await source.store.set_finalizer(deleted, present=False)
        await reported(watch, TIME)

    async def test_our_own_status_write_is_no_edit(self, source: Source) -> None:
        await source.put(server())
        current = await found(source.store)
        watch = source.store.watch()
        await source.store.write_status(with_status(current, phase="active"))
        assert await reported(watch, TIME) == Change(TIME, edited=False)

    async def test_a_change_before_the_first_wait_is_not_lost(self, source: Source) -> None:
        watch = source.store.watch()
        await source.put(server())
        await source.store.list()
        await reported(watch, TIME)

    async def test_two_watches_both_hear_of_a_change(self, source: Source) -> None:
        watches = [source.store.watch(), source.store.watch()]
        await source.put(server())
        for watch in watches:
            await reported(watch, TIME)

    async def test_closing_the_store_ends_the_watch(self, source: Source) -> None:
        watch = source.store.watch()
        await source.aclose()
        async with asyncio.timeout(60):
            assert [change async for change in watch] == []


class TestTheRest:
    async def test_an_unknown_secret_is_not_found(self, source: Source) -> None:
        with pytest.raises(NotFound, match="default/slack"):
            await source.store.secret("default", "slack")

    async def test_an_event_can_be_recorded_of_any_object(self, source: Source) -> None:
        await source.store.emit(Event(TIME, "Normal", "Created", "created tk_x_default_time_12345678"))


class TestTokens:
    """A store keeps tokens for agents, or says that it does not; each in its own tests."""

    async def test_asking_again_makes_no_second_token(self, source: Source) -> None:
        await source.put(connection())
        told = [await issued(source.store, await found_connection(source.store)) for _ in range(3)]
        assert told in (["made", "there", "there"], ["TokensNotKept"] * 3)

    async def test_one_name_is_the_token_of_one_connection(self, source: Source) -> None:
        first, second = connection("one", token="shared"), connection("two", token="shared")
        for each in (first, second):
            await source.put(each)
        told = [
            await issued(source.store, await found_connection(source.store, each.key))
            for each in (first, second, first)
        ]
        assert told in (["made", "TokenSecretTaken", "there"], ["TokensNotKept"] * 3)

    async def test_no_server_can_ask_for_a_token(self, source: Source) -> None:
        await source.put(connection())
        await issued(source.store, await found_connection(source.store))
        with pytest.raises((NotFound, Refused)):
            await source.store.secret("default", connection().token_secret)

    async def test_a_token_shows_in_no_listing(self, source: Source) -> None:
        await source.put(connection())
        before = await found_connection(source.store)
        await issued(source.store, before)
        assert await found_connection(source.store) == before


async def found_connection(store: Store, key: Key | None = None) -> AgentConnection:
    """The listed connection."""
    wanted = key or connection().key
    (resource,) = [each for each in (await store.list()).resources if each.key == wanted]
    assert isinstance(resource, AgentConnection)
    return resource


async def issued(store: Store, resource: AgentConnection) -> str:
    """`made`, `there`, or the reason for the refusal."""
    try:
        return "made" if await store.issue_token(resource) else "there"
    except Refused as exc:
        return exc.reason
