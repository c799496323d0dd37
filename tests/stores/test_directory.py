"""A folder of manifests as a store: what may be concluded from files that come, go, break and move."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stores.conftest import HandClock, manifest, reported, server, toolbox, write
from toolkeeper.errors import Unreachable
from toolkeeper.reconcile.ports import Change, Listing, Resource
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.resources.meta import Key
from toolkeeper.stores.directory import DirectoryStore

pytestmark = pytest.mark.anyio
TIME = server().key
BROKEN = "apiVersion: toolkeeper.dev/v1alpha1\nkind: MCPServer\nmetadata: {name: [\n"


class Folder:
    """A folder of manifests and the store over it, which can be opened again."""

    def __init__(self, place: Path) -> None:
        self.root = place / "manifests"
        self.root.mkdir()
        self.state_dir = place / "state"
        self.clock = HandClock()
        self.store: DirectoryStore

    async def open(self, *, allow_prune: bool = False, secrets_dir: Path | None = None) -> DirectoryStore:
        """Open the store; the one that was open before is closed."""
        await self.close()
        self.store = await DirectoryStore.open(
            self.root,
            state_dir=self.state_dir,
            secrets_dir=secrets_dir,
            environment={},
            allow_prune=allow_prune,
            clock=self.clock,
        )
        return self.store

    async def close(self) -> None:
        if hasattr(self, "store"):
            await self.store.aclose()

    def write(self, path: str, *resources: Resource) -> None:
        write(self.root / path, *resources)

    def spoil(self, path: str, text: str = BROKEN) -> None:
        (self.root / path).write_text(text)

    async def listing(self) -> Listing:
        return await self.store.list()

    async def settled(self) -> Listing:
        """The listing after nothing happened for a while."""
        await self.store.list()
        self.clock.seconds += 10
        return await self.store.list()

    async def names(self) -> list[str]:
        return names(await self.settled())

    async def time(self) -> MCPServer:
        found = await self.store.get(TIME)
        assert isinstance(found, MCPServer)
        return found


def names(listing: Listing) -> list[str]:
    return [each.key.name for each in listing.resources]


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Folder]:
    made = Folder(tmp_path)
    await made.open()
    yield made
    await made.close()


class TestReading:
    async def test_manifests_are_found_in_folders_with_every_ending(self, folder: Folder) -> None:
        folder.write("a.yaml", server("a"))
        folder.write("deep/er/b.yml", server("b"))
        folder.write("c.json", server("c"))
        assert await folder.names() == ["a", "b", "c"]

    async def test_dot_names_and_editors_leavings_are_no_manifests(self, folder: Folder) -> None:
        folder.write("a.yaml", server("a"))
        for leaving in (".git/b.yaml", ".b.yaml", "b.yaml~", "b.yaml.swp", "#b.yaml#", "b.yaml___jb_tmp___"):
            (folder.root / leaving).parent.mkdir(exist_ok=True)
            (folder.root / leaving).write_text(manifest(server("b")))
        listing = await folder.listing()
        assert names(listing) == ["a"]
        assert listing.problems == ()

    async def test_the_installation_file_is_no_manifest(self, folder: Folder) -> None:
        folder.write("a.yaml", server("a"))
        (folder.root / "toolkeeper.yaml").write_text("installation: blue\n")
        assert (await folder.listing()).problems == ()

    async def test_the_tree_is_never_written(self, folder: Folder) -> None:
        folder.write("a.yaml", server())
        before = {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()}
        await folder.listing()
        held = await folder.store.set_finalizer(await folder.time(), present=True)
        await folder.store.write_status(held.model_copy(update={"status": MCPServerStatus(phase="active")}))
        await folder.store.patch(TIME, "pause", "true")
        assert {path: path.read_bytes() for path in folder.root.rglob("*") if path.is_file()} == before

    async def test_a_mounted_config_map_is_read_and_its_swap_is_one_edit(self, folder: Folder) -> None:
        for version in ("1", "2"):
            write(folder.root / f"..{version}" / "time.yaml", server(image=f"time:{version}"))
        (folder.root / "..data").symlink_to("..1")
        (folder.root / "time.yaml").symlink_to("..data/time.yaml")
        await folder.listing()
        assert (await folder.time()).spec.image == "time:1"
        (folder.root / "..data_tmp").symlink_to("..2")
        (folder.root / "..data_tmp").rename(folder.root / "..data")
        listing = await folder.settled()
        assert names(listing) == ["time"]
        assert listing.problems == ()
        assert (await folder.time()).spec.image == "time:2"

    async def test_links_in_a_circle_end(self, folder: Folder) -> None:
        folder.write("a/time.yaml", server())
        (folder.root / "a" / "b").symlink_to(folder.root)
        listing = await folder.listing()
        assert names(listing) == ["time"]
        assert listing.problems == ()

    async def test_two_edits_within_one_tick_of_the_clock_are_both_seen(self, folder: Folder) -> None:
        file = folder.root / "time.yaml"
        file.write_text(manifest(server(image="time:1")))
        before = file.stat()
        assert (await folder.time()).spec.image == "time:1"
        with file.open("r+") as same:
            same.write(manifest(server(image="time:2")))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (await folder.time()).spec.image == "time:2"

    async def test_only_what_changed_is_parsed_and_nothing_is_written_at_rest(self, folder: Folder) -> None:
        folder.write("a.yaml", server("a"))
        await folder.listing()
        watch = folder.store.watch()
        versions = [each.metadata.resource_version for each in (await folder.listing()).resources]
        folder.write("b.yaml", server("b"))
        await reported(watch, server("b").key)
        after = (await folder.listing()).resources
        assert [each.metadata.resource_version for each in after][:1] == versions
        assert await folder.listing() == await folder.listing()


class TestRefusals:
    async def test_a_link_out_of_the_folder_is_refused(self, folder: Folder, tmp_path: Path) -> None:
        write(tmp_path / "outside" / "time.yaml", server())
        (folder.root / "time.yaml").symlink_to(tmp_path / "outside" / "time.yaml")
        (folder.root / "more").symlink_to(tmp_path / "outside")
        listing = await folder.listing()
        assert listing.resources == ()
        assert sorted(problem.source for problem in listing.problems) == [
            f"{folder.root}/more",
            f"{folder.root}/time.yaml:1",
        ]
        assert not listing.complete

    async def test_a_large_file_is_refused(self, folder: Folder) -> None:
        folder.spoil("big.yaml", manifest(server()) + "#" * (1024 * 1024))
        assert "larger than 1 MiB" in (await folder.listing()).problems[0].message

    async def test_a_pipe_is_refused_without_waiting_for_it(self, folder: Folder) -> None:
        os.mkfifo(folder.root / "pipe.yaml")
        assert "not a regular file" in (await folder.listing()).problems[0].message

    async def test_bytes_that_are_no_text_are_refused_with_their_line(self, folder: Folder) -> None:
        (folder.root / "latin.yaml").write_bytes(b"# one\n# caf\xe9\n")
        (problem,) = (await folder.listing()).problems
        assert problem.source == f"{folder.root}/latin.yaml:2"

    async def test_a_link_to_nothing_is_reported(self, folder: Folder) -> None:
        (folder.root / "time.yaml").symlink_to("nowhere.yaml")
        assert [each.source for each in (await folder.listing()).problems] == [f"{folder.root}/time.yaml:1"]


class TestBrokenFiles:
    async def test_the_last_good_content_stays_in_force(self, folder: Folder) -> None:
        folder.write("time.yaml", server())
        before = await folder.time()
        folder.spoil("time.yaml")
        listing = await folder.settled()
        assert listing.resources == (before,)
        assert listing.complete

    async def test_it_is_reported_with_file_and_line(self, folder: Folder) -> None:
        folder.spoil("time.yaml")
        (problem,) = (await folder.listing()).problems
        assert problem.source.startswith(f"{folder.root}/time.yaml:")
        assert int(problem.source.rpartition(":")[2]) in {3, 4}

    async def test_other_files_are_not_affected(self, folder: Folder) -> None:
        folder.write("a.yaml", server("a"))
        folder.write("b.yaml", server("b"))
        folder.write("c.yaml", server("c"))
        await folder.listing()
        folder.spoil("a.yaml")
        folder.write("b.yaml", server("b", image="b:2"))
        (folder.root / "c.yaml").unlink()
        folder.write("d.yaml", server("d"))
        listing = await folder.settled()
        assert names(listing) == ["a", "b", "d"]
        assert [each.spec.image for each in listing.resources if isinstance(each, MCPServer)][1] == "b:2"

    async def test_other_documents_of_the_file_are_not_affected(self, folder: Folder) -> None:
        folder.write("all.yaml", server("a"), server("b"))
        await folder.listing()
        folder.spoil("all.yaml", manifest(server("a", image="a:2"), server("b")).replace("time:1", "[]"))
        listing = await folder.settled()
        assert [each.spec.image for each in listing.resources if isinstance(each, MCPServer)] == [
            "a:2",
            "time:1",
        ]
        assert [each.key for each in listing.problems] == [server("b").key]
        assert listing.complete

    async def test_a_restart_with_a_broken_file_keeps_its_last_good_content(self, folder: Folder) -> None:
        folder.write("time.yaml", server())
        before = await folder.time()
        folder.spoil("time.yaml")
        await folder.open()
        listing = await folder.settled()
        assert listing.resources == (before,)
        assert listing.complete

    async def test_a_file_broken_from_the_start_makes_the_listing_incomplete(self, folder: Folder) -> None:
        folder.write("good.yaml", server())
        folder.spoil("bad.yaml")
        listing = await folder.listing()
        assert names(listing) == ["time"]
        assert not listing.complete

    async def test_repairing_it_takes_force(self, folder: Folder) -> None:
        folder.write("time.yaml", server())
        before = await folder.time()
        folder.spoil("time.yaml")
        await folder.listing()
        folder.write("time.yaml", server(image="time:2"))
        listing = await folder.listing()
        assert listing.problems == ()
        after = await folder.time()
        assert (after.spec.image, after.metadata.uid) == ("time:2", before.metadata.uid)

    async def test_an_object_that_may_have_moved_to_a_broken_file_is_kept(self, folder: Folder) -> None:
        folder.write("old.yaml", server())
        folder.write("other.yaml", server("other"))
        await folder.listing()
        (folder.root / "old.yaml").unlink()
        folder.spoil("new.yaml", manifest(server()) + "  - [\n")
        assert await folder.names() == ["other", "time"]
        folder.spoil("new.yaml", "- [\n")
        assert await folder.names() == ["other"]

    async def test_deleting_a_broken_file_deletes_its_objects(self, folder: Folder) -> None:
        folder.write("time.yaml", server())
        folder.write("other.yaml", server("other"))
        await folder.listing()
        folder.spoil("time.yaml")
        await folder.listing()
        (folder.root / "time.yaml").unlink()
        assert await folder.names() == ["other"]


class TestDuplicates:
    async def test_the_first_file_holds_and_the_problem_names_both(self, folder: Folder) -> None:
        folder.write("a.yaml", server(image="time:a"))
        folder.write("b.yaml", server(image="time:b"))
        listing = await folder.listing()
        assert (await folder.time()).spec.image == "time:a"
        (problem,) = listing.problems
        assert problem.key == TIME
        assert problem.source.startswith(f"{folder.root}/b.yaml:")
        assert f"{folder.root}/a.yaml:" in problem.message
        assert listing.complete

    async def test_breaking_the_first_file_does_not_bring_the_second_into_force(self, folder: Folder) -> None:
        folder.write("a.yaml", server(image="time:a"))
        folder.write("b.yaml", server(image="time:b"))
        await folder.listing()
        folder.spoil("a.yaml")
        await folder.settled()
        assert (await folder.time()).spec.image == "time:a"

    async def test_removing_the_first_file_hands_the_object_over(self, folder: Folder) -> None:
        folder.write("a.yaml", server(image="time:a"))
        folder.write("b.yaml", server(image="time:b"))
        before = await folder.time()
        (folder.root / "a.yaml").unlink()
        listing = await folder.settled()
        assert listing.problems == ()
        after = await folder.time()
        assert (after.spec.image, after.metadata.uid) == ("time:b", before.metadata.uid)

    async def test_moving_an_object_to_another_file_is_no_deletion(self, folder: Folder) -> None:
        folder.write("a.yaml", server())
        before = await folder.time()
        (folder.root / "a.yaml").rename(folder.root / "b.yaml")
        assert (await folder.settled()).resources == (before,)


class TestDisappearance:
    async def test_a_deleted_file_deletes_its_objects_once_things_have_settled(self, folder: Folder) -> None:
        folder.write("a.yaml", server("a"))
        folder.write("b.yaml", server("b"))
        await folder.listing()
        (folder.root / "a.yaml").unlink()
        assert names(await folder.listing()) == ["a", "b"]
        folder.clock.seconds += 0.9
        assert names(await folder.listing()) == ["a", "b"]
        folder.clock.seconds += 0.2
        assert names(await folder.listing()) == ["b"]

    async def test_a_file_that_comes_back_was_never_gone(self, folder: Folder) -> None:
        folder.write("time.yaml", server())
        before = await folder.time()
        for _ in range(3):
            (folder.root / "time.yaml").rename(folder.root / "time.yaml~")
            await folder.listing()
            folder.clock.seconds += 0.9
            (folder.root / "time.yaml~").rename(folder.root / "time.yaml")
            assert (await folder.listing()).resources == (before,)

    async def test_a_file_that_is_emptied_and_written_again_was_never_empty(self, folder: Folder) -> None:
        folder.write("time.yaml", server())
        before = await folder.time()
        folder.spoil("time.yaml", "")
        assert (await folder.listing()).resources == (before,)
        folder.write("time.yaml", server())
        assert (await folder.settled()).resources == (before,)

    async def test_a_file_that_stays_empty_declares_nothing(self, folder: Folder) -> None:
        folder.write("time.yaml", server())
        await folder.listing()
        folder.spoil("time.yaml", "# nothing any more\n")
        assert await folder.names() == []

    async def test_a_file_without_a_character_is_no_wish_to_delete(self, folder: Folder) -> None:
        folder.write("two.yaml", server("a"), server("b"))
        folder.write("other.yaml", server("c"))
        await folder.listing()
        folder.spoil("two.yaml", "\n")
        listing = await folder.settled()
        assert names(listing) == ["a", "b", "c"]
        [problem] = listing.problems
        assert problem.source.endswith("two.yaml")
        assert "is empty: what it declared stays in force" in problem.message
        folder.write("zwei.yaml", server("b"))
        folder.spoil("two.yaml", "# a is gone, b moved\n")
        assert await folder.names() == ["b", "c"]

    async def test_what_moved_out_of_an_emptied_file_is_where_it_moved_to(self, folder: Folder) -> None:
        folder.write("a.yaml", server("time"))
        before = await folder.time()
        folder.spoil("a.yaml", "")
        folder.write("b.yaml", server("time"))
        listing = await folder.settled()
        assert (listing.resources, listing.problems) == ((before,), ())

    async def test_a_document_taken_out_deletes_its_object(self, folder: Folder) -> None:
        folder.write("all.yaml", server("a"), server("b"))
        await folder.listing()
        folder.write("all.yaml", server("a"))
        assert await folder.names() == ["a"]

    async def test_what_went_while_nobody_looked_is_gone_at_once(self, folder: Folder) -> None:
        folder.write("a.yaml", server("a"))
        folder.write("b.yaml", server("b"))
        await folder.listing()
        (folder.root / "a.yaml").unlink()
        os.utime(folder.root, (1, 1))
        await folder.open()
        assert names(await folder.listing()) == ["b"]

    async def test_while_things_still_disappear_nothing_is_gone(self, folder: Folder) -> None:
        for name in "abcdefgh":
            folder.write(f"{name}.yaml", server(name))
        await folder.listing()
        for name in "abc":
            (folder.root / f"{name}.yaml").unlink()
            folder.clock.seconds += 0.9
            assert len((await folder.listing()).resources) == 8
        assert len(await folder.names()) == 5


class TestShrinking:
    @pytest.fixture
    async def four(self, folder: Folder) -> Folder:
        for name in "abcd":
            folder.write(f"in/{name}.yaml", server(name))
        await folder.listing()
        return folder

    async def test_an_empty_folder_deletes_nothing(self, four: Folder) -> None:
        for name in "abcd":
            (four.root / "in" / f"{name}.yaml").unlink()
        listing = await four.settled()
        assert names(listing) == ["a", "b", "c", "d"]
        assert not listing.complete
        assert "--allow-prune" in listing.problems[0].message

    async def test_losing_more_than_half_at_once_deletes_nothing(self, four: Folder) -> None:
        for name in "abc":
            (four.root / "in" / f"{name}.yaml").unlink()
        listing = await four.settled()
        assert names(listing) == ["a", "b", "c", "d"]
        assert not listing.complete
        assert "3 of 4" in listing.problems[0].message

    async def test_losing_half_is_believed(self, four: Folder) -> None:
        for name in "ab":
            (four.root / "in" / f"{name}.yaml").unlink()
        assert await four.names() == ["c", "d"]

    async def test_what_is_new_takes_force_all_the_same(self, four: Folder) -> None:
        for name in "abc":
            (four.root / "in" / f"{name}.yaml").unlink()
        four.write("in/d.yaml", server("d", image="d:2"))
        four.write("in/e.yaml", server("e"))
        assert await four.names() == ["a", "b", "c", "d", "e"]

    async def test_files_that_come_back_end_it(self, four: Folder) -> None:
        before = await four.listing()
        (four.root / "in").rename(four.root.parent / "away")
        assert not (await four.settled()).complete
        (four.root.parent / "away").rename(four.root / "in")
        assert await four.listing() == before

    async def test_allow_prune_believes_it(self, four: Folder) -> None:
        for name in "abc":
            (four.root / "in" / f"{name}.yaml").unlink()
        await four.open(allow_prune=True)
        assert await four.names() == ["d"]

    @pytest.mark.parametrize("allow_prune", [False, True])
    async def test_a_vanished_folder_deletes_nothing_whatever_is_allowed(
        self, four: Folder, allow_prune: bool
    ) -> None:
        four.root.rename(four.root.parent / "away")
        for _ in range(2):
            listing = await four.settled()
            assert names(listing) == ["a", "b", "c", "d"]
            assert not listing.complete
            assert listing.problems[0].source == str(four.root)
            await four.open(allow_prune=allow_prune)

    async def test_a_folder_that_cannot_be_listed_deletes_nothing_of_it(self, four: Folder) -> None:
        four.write("out.yaml", server("out"))
        await four.listing()
        (four.root / "in").rename(four.root.parent / "in")
        (four.root / "in").symlink_to(four.root.parent / "in")
        listing = await four.settled()
        assert names(listing) == ["a", "b", "c", "d", "out"]
        assert not listing.complete

    async def test_a_file_in_place_of_the_folder_deletes_nothing(self, four: Folder) -> None:
        four.root.rename(four.root.parent / "away")
        four.root.write_text("")
        listing = await four.settled()
        assert len(listing.resources) == 4
        assert not listing.complete

    async def test_an_empty_folder_that_was_never_full_concludes_nothing(self, folder: Folder) -> None:
        listing = await folder.listing()
        assert not listing.complete
        assert len(listing.problems) == 1

    async def test_the_state_of_another_folder_deletes_nothing(self, folder: Folder) -> None:
        folder.write("a.yaml", server("a"))
        await folder.listing()
        folder.root = folder.root.parent / "elsewhere"
        folder.write("b.yaml", server("b"))
        await folder.open()
        listing = await folder.settled()
        assert names(listing) == ["a", "b"]
        assert not listing.complete

    async def test_a_folder_that_moved_keeps_everything(self, folder: Folder) -> None:
        folder.write("a.yaml", server("a"))
        before = await folder.listing()
        moved = folder.root.parent / "elsewhere"
        folder.root.rename(moved)
        folder.root = moved
        await folder.open()
        assert await folder.settled() == before


class TestDeletionAndReturn:
    async def test_a_file_that_returns_before_its_object_let_go_brings_another_object(
        self, folder: Folder
    ) -> None:
        folder.write("other.yaml", toolbox())
        folder.write("time.yaml", server())
        first = await folder.store.set_finalizer(await folder.time(), present=True)
        (folder.root / "time.yaml").unlink()
        await folder.settled()
        folder.write("time.yaml", server())
        deleted = await folder.time()
        assert deleted.metadata.uid == first.metadata.uid
        assert deleted.metadata.deletion_timestamp is not None
        watch = folder.store.watch()
        await folder.store.set_finalizer(deleted, present=False)
        await reported(watch, TIME)
        second = await folder.time()
        assert second.metadata.uid != first.metadata.uid
        assert second.metadata.deletion_timestamp is None


class TestLostState:
    async def test_objects_come_back_as_new_ones_that_claim_nothing(self, folder: Folder) -> None:
        folder.write("time.yaml", server())
        before = await folder.time()
        await folder.store.write_status(before.model_copy(update={"status": MCPServerStatus(phase="active")}))
        await folder.close()
        for file in folder.state_dir.iterdir():
            file.unlink()
        await folder.open()
        listing = await folder.listing()
        assert names(listing) == ["time"]
        assert listing.complete
        after = await folder.time()
        assert after.metadata.uid != before.metadata.uid
        assert after.status == MCPServerStatus()

    async def test_a_database_deleted_under_a_running_store_is_noticed(self, folder: Folder) -> None:
        folder.write("time.yaml", server())
        before = await folder.time()
        watch = folder.store.watch()
        for file in folder.state_dir.iterdir():
            file.unlink()
        assert (await reported(watch, Key("", "", ""))).key is None
        listing = await folder.listing()
        assert listing.complete
        (after,) = listing.resources
        assert after.metadata.uid != before.metadata.uid

    async def test_a_broken_file_of_a_lost_database_makes_the_listing_incomplete(
        self, folder: Folder
    ) -> None:
        folder.write("time.yaml", server())
        await folder.listing()
        await folder.close()
        folder.spoil("time.yaml")
        for file in folder.state_dir.iterdir():
            file.unlink()
        await folder.open()
        listing = await folder.listing()
        assert listing.resources == ()
        assert not listing.complete


class TestWatching:
    async def test_a_broken_file_is_told(self, folder: Folder) -> None:
        folder.write("time.yaml", server())
        await folder.listing()
        watch = folder.store.watch()
        folder.spoil("time.yaml")
        assert await reported(watch, TIME) == Change(None)
        assert (await folder.listing()).problems != ()

    async def test_a_folder_that_is_replaced_whole_is_followed(self, folder: Folder) -> None:
        folder.write("time.yaml", server())
        current = folder.root.parent / "current"
        current.symlink_to(folder.root)
        second = folder.root.parent / "second"
        write(second / "time.yaml", server(image="time:2"))
        folder.root = current
        await folder.open()
        await folder.listing()
        watch = folder.store.watch()
        (folder.root.parent / "next").symlink_to(second)
        (folder.root.parent / "next").rename(current)
        await reported(watch, TIME)
        assert (await folder.time()).spec.image == "time:2"

    async def test_a_new_folder_is_followed(self, folder: Folder) -> None:
        await folder.listing()
        watch = folder.store.watch()
        folder.write("new/time.yaml", server())
        await reported(watch, TIME)

    async def test_what_another_process_does_to_the_state_is_told(self, folder: Folder) -> None:
        folder.write("time.yaml", server())
        await folder.listing()
        watch = folder.store.watch()
        other = await DirectoryStore.open(folder.root, state_dir=folder.state_dir, environment={})
        await other.patch(TIME, "pause", "true")
        await other.aclose()
        assert (await reported(watch, TIME)).edited
        assert (await folder.time()).spec.paused


SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {name: slack}\nstringData: {token: xoxb-very-secret}\n"


class TestSecrets:
    async def test_a_secret_among_the_manifests_is_read(self, folder: Folder) -> None:
        folder.spoil("secret.yaml", SECRET)
        found = await folder.store.secret("default", "slack")
        assert dict(found.values) == {"token": "xoxb-very-secret"}
        assert "xoxb" not in repr(found)

    async def test_its_values_are_in_no_file_of_ours(self, folder: Folder) -> None:
        folder.spoil("secret.yaml", SECRET)
        folder.spoil("broken.yaml", SECRET + "- [\n")
        await folder.listing()
        await folder.close()
        assert b"xoxb" not in b"".join(file.read_bytes() for file in folder.state_dir.iterdir())

    async def test_a_manifest_goes_before_a_file(self, folder: Folder, tmp_path: Path) -> None:
        kept = tmp_path / "kept" / "default" / "slack"
        kept.mkdir(parents=True)
        (kept / "token").write_text("from a file\n")
        (kept / "user").write_text("alice\n")
        folder.spoil("secret.yaml", SECRET)
        await folder.open(secrets_dir=tmp_path / "kept")
        found = await folder.store.secret("default", "slack")
        assert dict(found.values) == {"token": "xoxb-very-secret", "user": "alice"}

    async def test_a_folder_of_secrets_below_the_manifests_holds_no_manifests(self, folder: Folder) -> None:
        kept = folder.root / "secrets" / "default" / "slack"
        kept.mkdir(parents=True)
        (kept / "config.yaml").write_text("kind: of secret\n")
        folder.write("time.yaml", server())
        await folder.open(secrets_dir=folder.root / "secrets")
        assert (await folder.listing()).problems == ()
        assert dict((await folder.store.secret("default", "slack")).values) == {
            "config.yaml": "kind: of secret"
        }

    async def test_a_rotated_secret_is_told(self, folder: Folder) -> None:
        folder.spoil("secret.yaml", SECRET)
        await folder.listing()
        watch = folder.store.watch()
        folder.spoil("secret.yaml", SECRET.replace("very-secret", "even-more"))
        await reported(watch, TIME)
        assert (await folder.store.secret("default", "slack")).values["token"] == "xoxb-even-more"

    async def test_a_secret_whose_manifest_broke_stays_in_force(self, folder: Folder) -> None:
        folder.spoil("secret.yaml", SECRET)
        await folder.listing()
        folder.spoil("secret.yaml", "- [\n")
        assert (await folder.store.secret("default", "slack")).values["token"] == "xoxb-very-secret"

    async def test_after_a_restart_such_a_secret_is_unknown_rather_than_absent(self, folder: Folder) -> None:
        folder.spoil("secret.yaml", SECRET)
        await folder.listing()
        folder.spoil("secret.yaml", "- [\n")
        await folder.open()
        with pytest.raises(Unreachable, match="broken"):
            await folder.store.secret("default", "slack")
