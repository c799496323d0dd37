"""The state database: durable, shared by processes, honest about damage."""

from __future__ import annotations

# ruff: noqa: ASYNC240 - files of a test are looked at in passing
import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from stores.conftest import reported, server, toolbox
from toolkeeper.errors import Conflict, Invalid, NotFound, Refused, Unreachable
from toolkeeper.resources.events import Event
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.stores.database import Database
from toolkeeper.stores.journal import EVENTS, Action
from toolkeeper.stores.sqlite import SqliteStore
from toolkeeper.stores.writer import Writer

pytestmark = pytest.mark.anyio
TIME = server().key
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


@pytest.fixture
async def store(file: Path) -> AsyncIterator[SqliteStore]:
    opened = await SqliteStore.open(file, environment={})
    yield opened
    await opened.aclose()


def active(resource: object) -> MCPServer:
    assert isinstance(resource, MCPServer)
    return resource.model_copy(update={"status": MCPServerStatus(phase="active")})


class TestFile:
    async def test_everything_is_there_after_reopening(self, store: SqliteStore, file: Path) -> None:
        await store.apply(toolbox())
        written = await store.write_status(
            active(await store.apply(server(env=[{"name": "A", "value": "ä\n"}])))
        )
        await store.set_finalizer(written, present=True)
        before = await store.list()
        await store.aclose()
        again = await SqliteStore.open(file)
        assert await again.list() == before
        await again.aclose()

    async def test_it_is_readable_by_its_owner_alone(self, store: SqliteStore, file: Path) -> None:
        await store.apply(server())
        assert file.parent.stat().st_mode & 0o777 == 0o700
        assert {each.stat().st_mode & 0o777 for each in file.parent.iterdir()} == {0o600}

    async def test_damage_is_reported_with_what_to_do(self, tmp_path: Path) -> None:
        file = tmp_path / "state.db"
        file.write_bytes(b"not a database, whatever its name says" * 100)
        with pytest.raises(
            Invalid,
            match=r"a damaged one .*: check --path; if it is ours, stop Toolkeeper, move it away \(mv .*state\.db",
        ):
            await SqliteStore.open(file)

    async def test_damage_inside_is_found_when_opening(self, store: SqliteStore, file: Path) -> None:
        for number in range(200):
            await store.apply(server(f"s{number}"))
        await store.aclose()
        content = bytearray(file.read_bytes())
        for page in range(4096 * 4, len(content), 4096):
            content[page : page + 2000] = os.urandom(2000)
        file.write_bytes(content)
        with pytest.raises(Invalid, match="damaged"):
            await SqliteStore.open(file)

    async def test_another_programs_database_is_left_alone(self, tmp_path: Path) -> None:
        file = tmp_path / "theirs.db"
        with closing(sqlite3.connect(file)) as theirs:
            theirs.execute("CREATE TABLE theirs (x)")
        before = file.read_bytes()
        with pytest.raises(Invalid, match="another program's"):
            await SqliteStore.open(file)
        assert file.read_bytes() == before

    async def test_a_newer_schema_is_refused(self, store: SqliteStore, file: Path) -> None:
        await store.aclose()
        with closing(sqlite3.connect(file)) as newer:
            newer.execute("PRAGMA user_version = 99")
        with pytest.raises(Invalid, match="newer Toolkeeper"):
            await SqliteStore.open(file)

    async def test_a_folder_that_cannot_be_made_is_unreachable(self, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("a file in the way")
        with pytest.raises(Unreachable, match="does not answer"):
            await SqliteStore.open(tmp_path / "state" / "state.db")

    async def test_a_closed_store_says_so(self, store: SqliteStore) -> None:
        await store.aclose()
        with pytest.raises(Unreachable, match="closed"):
            await store.list()

    async def test_a_database_deleted_while_in_use_is_made_anew(self, store: SqliteStore, file: Path) -> None:
        await store.apply(server())
        for each in file.parent.iterdir():
            each.unlink()
        listing = await store.list()
        assert listing.resources == ()
        assert not listing.complete
        await store.apply(server())
        other = await SqliteStore.open(file)
        assert len((await other.list()).resources) == 1
        await other.aclose()


class TestListing:
    async def test_a_database_that_never_held_anything_concludes_nothing(self, store: SqliteStore) -> None:
        assert not (await store.list()).complete
        await store.apply(server())
        await store.delete(TIME)
        assert (await store.list()).complete

    async def test_an_object_that_cannot_be_read_is_a_problem_of_its_own(
        self, store: SqliteStore, file: Path
    ) -> None:
        await store.apply(server("good"))
        await store.apply(server())
        with closing(sqlite3.connect(file)) as other:
            other.execute("""UPDATE objects SET spec = '{"image": 7}', version = 99 WHERE name = 'time'""")
            other.commit()
        listing = await store.list()
        assert [each.key.name for each in listing.resources] == ["good"]
        assert [each.key for each in listing.problems] == [TIME]
        assert not listing.complete
        with pytest.raises(Invalid, match="apply it again"):
            await store.get(TIME)

    async def test_a_status_that_cannot_be_read_counts_as_lost(self, store: SqliteStore, file: Path) -> None:
        await store.write_status(active(await store.apply(server())))
        with closing(sqlite3.connect(file)) as other:
            other.execute("""UPDATE objects SET status = '{"phase": 7}', version = 99""")
            other.commit()
        listing = await store.list()
        assert listing.resources[0].status == MCPServerStatus()
        assert listing.complete

    async def test_what_the_author_left_out_stays_out(self, store: SqliteStore) -> None:
        applied = await store.apply(server())
        found = await store.get(TIME)
        assert found.spec.model_fields_set == applied.spec.model_fields_set == {"toolbox_ref", "image"}


class TestProcesses:
    async def test_another_connections_write_is_told(self, store: SqliteStore, file: Path) -> None:
        watch = store.watch()
        other = await SqliteStore.open(file)
        await other.apply(server())
        assert (await reported(watch, TIME)).edited
        await other.write_status(active(await other.get(TIME)))
        assert not (await reported(watch, TIME)).edited
        await other.delete(TIME)
        assert (await reported(watch, TIME)).edited
        await other.aclose()

    async def test_our_own_writes_are_told_once(self, store: SqliteStore, file: Path) -> None:
        watch = store.watch()
        await store.apply(server())
        assert (await reported(watch, TIME)).key == TIME
        other = await SqliteStore.open(file)
        await other.apply(server("other"))
        async with asyncio.timeout(60):
            assert (await anext(watch)).key == server("other").key
        await other.aclose()

    async def test_a_writer_that_was_cancelled_is_told_all_the_same(self, store: SqliteStore) -> None:
        watch = store.watch()
        started, cancelled = threading.Event(), threading.Event()

        def slow(writer: Writer) -> object:
            started.set()
            cancelled.wait(5)
            return writer.apply(server())

        applying = asyncio.ensure_future(store.change(slow))
        await asyncio.to_thread(started.wait, 5)
        applying.cancel()
        cancelled.set()
        await asyncio.gather(applying, return_exceptions=True)
        await reported(watch, TIME)
        await store.get(TIME)

    async def test_opening_at_the_same_time_makes_one_database(self, file: Path) -> None:
        stores = await asyncio.gather(*(SqliteStore.open(file) for _ in range(8)))
        for number, each in enumerate(stores):
            await each.apply(server(f"s{number}"))
        assert len((await stores[0].list()).resources) == 8
        for each in stores:
            await each.aclose()

    @pytest.mark.process
    async def test_two_processes_write_at_the_same_time_and_lose_nothing(
        self, store: SqliteStore, file: Path
    ) -> None:
        await store.apply(server())
        with writer(file, "first", writes=50) as first, writer(file, "second", writes=50) as second:
            assert {child.wait(60) for child in (first, second)} == {0}
        listing = await store.list()
        assert len(listing.resources) == 1 + 2 * 50
        versions = [each.metadata.resource_version for each in listing.resources]
        assert len(set(versions)) == len(versions)

    @pytest.mark.process
    async def test_a_process_killed_in_the_middle_of_writing_leaves_whole_objects(self, file: Path) -> None:
        with writer(file, "killed", writes=100_000) as child:
            assert child.stdout is not None
            acknowledged = [child.stdout.readline().strip() for _ in range(50)]
            child.send_signal(signal.SIGKILL)
        store = await SqliteStore.open(file)
        listing = await store.list()
        assert listing.problems == ()
        assert {each.key.name for each in listing.resources} >= set(acknowledged)
        await store.aclose()


def writer(file: Path, prefix: str, *, writes: int) -> subprocess.Popen[str]:
    """A process that applies servers one after another and prints the name of each when it is stored."""
    program = f"""
import asyncio, pathlib
from stores.conftest import server
from toolkeeper.stores.sqlite import SqliteStore
from toolkeeper.stores.writer import Writer
async def main():
    store = await SqliteStore.open(pathlib.Path({str(file)!r}))
    for number in range({writes}):
        await store.apply(server(f"{prefix}-{{number}}"))
        print(f"{prefix}-{{number}}", flush=True)
    await store.aclose()
asyncio.run(main())
"""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


class TestVerbs:
    async def test_a_verb_is_an_edit_here(self, store: SqliteStore) -> None:
        await store.apply(server())
        await store.patch(TIME, "pause", "true")
        found = await store.get(TIME)
        assert isinstance(found, MCPServer)
        assert found.spec.paused
        assert found.metadata.generation == 2

    async def test_a_verb_on_an_absent_object_finds_nothing(self, store: SqliteStore) -> None:
        with pytest.raises(NotFound):
            await store.patch(TIME, "pause", "true")

    async def test_applying_while_deletion_waits_is_a_conflict(self, store: SqliteStore) -> None:
        await store.set_finalizer(await store.apply(server()), present=True)
        await store.delete(TIME)
        with pytest.raises(Conflict, match="being deleted"):
            await store.apply(server(image="time:2"))


class TestJournal:
    EVENT = Event(TIME, "Normal", "Created", "created", at=NOON)

    async def test_a_repetition_raises_the_count_and_moves_to_the_end(self, store: SqliteStore) -> None:
        later = NOON.replace(hour=13)
        await store.emit(self.EVENT)
        await store.emit(replace(self.EVENT, reason="Removed"))
        await store.emit(replace(self.EVENT, at=later))
        recorded = await store.events(TIME)
        assert [(each.event.reason, each.count) for each in recorded] == [("Removed", 1), ("Created", 2)]
        assert (recorded[1].first_at, recorded[1].last_at) == (NOON, later)

    async def test_the_newest_events_are_kept(self, store: SqliteStore) -> None:
        for number in range(EVENTS + 5):
            await store.emit(replace(self.EVENT, message=str(number)))
        recorded = await store.events(limit=2 * EVENTS)
        assert [each.event.message for each in recorded] == [str(number) for number in range(5, EVENTS + 5)]

    async def test_events_can_be_asked_for_one_object(self, store: SqliteStore) -> None:
        await store.emit(self.EVENT)
        await store.emit(replace(self.EVENT, key=server("other").key))
        assert [each.event.key for each in await store.events(TIME)] == [TIME]

    async def test_an_event_that_cannot_be_written_harms_nobody(self, store: SqliteStore) -> None:
        await store.aclose()
        await store.emit(self.EVENT)

    async def test_actions_are_kept_with_their_cause(self, store: SqliteStore) -> None:
        action = Action(TIME, "create", "it does not exist", at=NOON)
        await store.record(action)
        assert await store.actions(TIME) == (action,)


class TestSecrets:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        made = tmp_path / "secrets"
        (made / "default" / "slack").mkdir(parents=True)
        return made

    async def open(self, tmp_path: Path, **environment: str) -> SqliteStore:
        return await SqliteStore.open(
            tmp_path / "state.db", secrets_dir=tmp_path / "secrets", environment=environment
        )

    async def test_files_and_variables_are_keys(self, tmp_path: Path, folder: Path) -> None:
        (folder / "default" / "slack" / "bot-token").write_text("from a file\n")
        store = await self.open(
            tmp_path, TOOLKEEPER_SECRET_SLACK_BOT_TOKEN="hidden", TOOLKEEPER_SECRET_SLACK_USER_NAME="alice"
        )
        values = (await store.secret("default", "slack")).values
        assert values["bot-token"] == "from a file"
        assert values["user-name"] == values["user.name"] == "alice"
        assert "password" not in values
        await store.aclose()

    async def test_a_missing_secret_says_where_to_put_it(self, tmp_path: Path, folder: Path) -> None:
        store = await self.open(tmp_path)
        with pytest.raises(NotFound, match=rf"{folder}/default/git-hub/.*TOOLKEEPER_SECRET_GIT_HUB_<KEY>"):
            await store.secret("default", "git-hub")
        await store.aclose()

    @pytest.mark.parametrize("name", ["..", ".", "../default/slack", "a/b", "", "a\0b"])
    async def test_a_name_never_leads_out_of_the_folder(
        self, tmp_path: Path, folder: Path, name: str
    ) -> None:
        (folder / "default" / "outside").write_text("secret")
        store = await self.open(tmp_path)
        with pytest.raises(Refused):
            await store.secret("default", name)
        await store.aclose()

    async def test_a_link_never_leads_out_of_the_folder(self, tmp_path: Path, folder: Path) -> None:
        (tmp_path / "outside").write_text("secret")
        (folder / "default" / "slack" / "token").symlink_to(tmp_path / "outside")
        store = await self.open(tmp_path)
        with pytest.raises(Refused, match="leads out"):
            await store.secret("default", "slack")
        await store.aclose()


async def test_an_exception_undoes_the_whole_transaction(file: Path) -> None:
    database = await Database.open(file, remedy="")

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO source VALUES (0, 'x')")
        raise Invalid("half way")

    with pytest.raises(Invalid, match="half way"):
        await database.write(work)
    assert await database.read(lambda connection: connection.execute("SELECT * FROM source").fetchall()) == []
    await database.aclose()
