"""A directory store over a repository: commits, documents that are broken, and what may be concluded from them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from stores.conftest import manifest, server
from stores_git.conftest import Follower, follower
from toolkeeper.errors import ToolkeeperError
from toolkeeper.reconcile.ports import Listing
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.stores.directory import DirectoryStore
from toolkeeper.telemetry.metrics import GitMetrics
from toolkeeper.testing.git_server import GitRepository

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # each push is several runs of git
BROKEN = "apiVersion: toolkeeper.dev/v1alpha1\nkind: MCPServer\nmetadata: {name: [\n"


def names_of(listing: Listing) -> list[str]:
    return [each.key.name for each in listing.resources]


class Control:
    """The store of one control plane, and the repository that people edit."""

    def __init__(self, place: Path) -> None:
        self.repository = GitRepository(place / "work")
        self.following: Follower
        self.store: DirectoryStore
        self._place = place

    async def open(self, path: str = "servers", *, allow_prune: bool = False) -> None:
        """Open the store, as a restarted operator does."""
        await self.close()
        self.following = follower(self._place / "cache", self.repository.url, path=path)
        self.store = await DirectoryStore.open(
            self.following.cache.root,
            state_dir=self._place / "state",
            environment={},
            allow_prune=allow_prune,
            origin=self.following.cache,
        )

    async def close(self) -> None:
        if hasattr(self, "store"):
            await self.store.aclose()

    async def push(self, **servers: Any) -> str:
        """Commit, pull, and look. A server is its image, a text of its own, or None to withdraw it."""
        files: dict[str, str | None] = {}
        for name, said in servers.items():
            plain = isinstance(said, str) and "\n" not in said
            files[f"servers/{name}.yaml"] = manifest(server(name, image=said)) if plain else said
        commit = self.repository.commit(files)
        await self.following.puller.pull()
        return commit

    async def images(self) -> dict[str, str]:
        listing = await self.store.list()
        return {
            each.key.name: each.spec.image or "" for each in listing.resources if isinstance(each, MCPServer)
        }

    async def get(self, name: str) -> MCPServer:
        found = await self.store.get(server(name).key)
        assert isinstance(found, MCPServer)
        return found


@pytest.fixture
async def control(tmp_path: Path) -> AsyncIterator[Control]:
    made = Control(tmp_path)
    await made.open()
    yield made
    await made.close()


class TestCommits:
    async def test_a_listing_says_which_commit_it_is_of(self, control: Control) -> None:
        for image in ("time:1", "time:2"):
            commit = await control.push(time=image)
            listing = await control.store.list()
            assert listing.revision == commit
            assert listing.complete
            assert listing.problems == ()
            assert await control.images() == {"time": image}

    async def test_an_object_says_since_which_commit_it_is_what_it_is(self, control: Control) -> None:
        first = await control.push(time="time:1", git="git:1")
        await control.store.list()
        second = await control.push(git="git:2")
        await control.store.list()
        time = await control.store.declaration(server("time").key)
        git = await control.store.declaration(server("git").key)
        assert time == ("time.yaml", first)
        assert git == ("git.yaml", second)

    async def test_a_commit_that_does_not_concern_an_object_writes_nothing_of_it(
        self, control: Control
    ) -> None:
        await control.push(time="time:1", git="git:1")
        await control.store.list()
        before = await control.get("time")
        changes = control.store.watch()
        await control.push(git="git:2")
        await control.store.list()
        assert await control.get("time") == before
        assert (await anext(changes)).key == server("git").key
        await changes.aclose()

    async def test_what_a_commit_withdraws_is_gone_at_once(self, control: Control) -> None:
        await control.push(time="time:1", git="git:1")
        await control.store.list()
        await control.push(git=None)
        assert await control.images() == {"time": "time:1"}

    async def test_objects_of_one_commit_become_visible_together(self, control: Control) -> None:
        both = {"one": "x:0", "two": "x:0"}
        await control.push(**both)
        seen = set()

        async def push() -> None:
            for number in range(1, 12):
                await control.push(one=f"x:{number}", two=f"x:{number}")

        pushing = asyncio.create_task(push())
        while not pushing.done():
            images = await control.images()
            assert images["one"] == images["two"]
            seen.add(images["one"])
        await pushing
        assert len(seen) > 3

    async def test_a_restarted_operator_goes_on_with_the_last_good_commit(self, control: Control) -> None:
        commit = await control.push(time="time:1")
        await control.store.list()
        uid = (await control.get("time")).metadata.uid
        control.repository.folder.rename(control.repository.folder.with_name("away"))
        await control.open()
        with suppress(ToolkeeperError):
            await control.following.puller.pull()
        listing = await control.store.list()
        assert listing.revision == commit
        assert listing.complete
        assert "not pulled since" in listing.problems[0].message
        assert (await control.get("time")).metadata.uid == uid


class TestEvents:
    """What a person reads who asks why an object is what it is."""

    async def happened(self, control: Control, name: str) -> list[str]:
        await control.store.list()
        return [
            f"{each.event.type} {each.event.reason} {each.event.message} x{each.count}"
            for each in await control.store.events(server(name).key)
        ]

    async def test_a_commit_is_an_event_of_the_objects_that_it_changes_and_of_no_others(
        self, control: Control
    ) -> None:
        first = await control.push(time="time:1", git="git:1")
        await control.store.list()
        second = await control.push(time="time:2")
        assert await self.happened(control, "time") == [
            f"Normal Synced {first[:7]} (time.yaml) x1",
            f"Normal Synced {first[:7]} → {second[:7]} (time.yaml) x1",
        ]
        assert await self.happened(control, "git") == [f"Normal Synced {first[:7]} (git.yaml) x1"]

    async def test_a_commit_that_breaks_a_file_is_a_warning_once_also_after_a_restart(
        self, control: Control
    ) -> None:
        first = await control.push(time="time:1", git="git:1")
        await control.store.list()
        second = await control.push(time=BROKEN)
        for _ in range(2):
            _, warning = await self.happened(control, "time")
            assert warning.startswith(
                f"Warning NotSynced {second[:7]} is not taken, what {first[:7]} says stays in force: "
            )
            assert "time.yaml:" in warning
            assert warning.endswith(" x1")
            await control.open()
        assert len(await self.happened(control, "git")) == 1

    async def test_what_mends_it_follows_the_last_good_commit(self, control: Control) -> None:
        first = await control.push(time="time:1")
        await control.store.list()
        await control.push(time=BROKEN)
        await control.store.list()
        third = await control.push(time="time:3")
        assert (await self.happened(control, "time"))[-1] == (
            f"Normal Synced {first[:7]} → {third[:7]} (time.yaml) x1"
        )


class TestDoubt:
    async def test_a_broken_document_keeps_its_last_good_content_and_the_rest_goes_on(
        self, control: Control
    ) -> None:
        await control.push(time="time:1", git="git:1")
        await control.store.list()
        await control.push(time=BROKEN, git="git:2")
        listing = await control.store.list()
        assert await control.images() == {"time": "time:1", "git": "git:2"}
        (problem,) = listing.problems
        assert problem.source.startswith(f"{control.following.cache.address}/time.yaml:")
        await control.push(time="time:3")
        assert await control.images() == {"time": "time:3", "git": "git:2"}

    async def test_an_empty_tree_deletes_nothing(self, control: Control) -> None:
        await control.open(path="")
        await control.push(time="time:1", git="git:1")
        await control.store.list()
        commit = await control.push(time=None, git=None)
        listing = await control.store.list()
        assert names_of(listing) == ["git", "time"]
        assert not listing.complete
        assert "nothing is deleted" in listing.problems[0].message
        assert listing.revision == commit

    async def test_an_empty_tree_that_is_meant_deletes(self, control: Control) -> None:
        await control.open(path="", allow_prune=True)
        await control.push(time="time:1", git="git:1")
        await control.store.list()
        await control.push(time=None, git=None)
        assert names_of(await control.store.list()) == []

    @pytest.mark.parametrize("allow_prune", [False, True])
    async def test_a_missing_folder_deletes_nothing_ever(self, control: Control, allow_prune: bool) -> None:
        await control.open(allow_prune=allow_prune)
        await control.push(time="time:1")
        await control.store.list()
        with pytest.raises(ToolkeeperError):
            await control.push(time=None)
        listing = await control.store.list()
        assert names_of(listing) == ["time"]
        assert "no folder servers" in listing.problems[0].message

    async def test_a_lost_cache_deletes_nothing(self, control: Control) -> None:
        await control.push(time="time:1")
        await control.store.list()
        cache = control.following.cache.folder
        cache.rename(cache.with_name("lost"))
        listing = await control.store.list()
        assert names_of(listing) == ["time"]
        assert not listing.complete

    async def test_a_link_that_leads_out_of_the_folder_is_not_followed(
        self, control: Control, tmp_path: Path
    ) -> None:
        (tmp_path / "evil.yaml").write_text(manifest(server("evil")))
        await control.push(time="time:1")
        (control.repository.folder / "servers" / "out.yaml").symlink_to(tmp_path / "evil.yaml")
        (control.repository.folder / "servers" / "up").symlink_to("../..")
        await control.push()
        listing = await control.store.list()
        assert names_of(listing) == ["time"]
        assert {each.message for each in listing.problems if "link that leads out" in each.message}

    async def test_a_name_that_commands_a_terminal_is_shown_and_not_obeyed(self, control: Control) -> None:
        await control.push(time="time:1")
        control.repository.commit({"servers/\x1b]0;evil\x07\n\u202e.yaml": BROKEN})
        await control.following.puller.pull()
        (problem,) = (await control.store.list()).problems
        assert r"/\x1b]0;evil\x07\x0a\x202e.yaml:" in problem.source
        assert problem.source.isprintable()

    async def test_a_file_too_large_is_named(self, control: Control) -> None:
        await control.push(time="time:1", huge="#\n" * (1024 * 1024))
        assert "larger than 1 MiB" in (await control.store.list()).problems[0].message


class TestVerbs:
    async def test_a_pause_holds_over_commits_that_do_not_edit_the_object(self, control: Control) -> None:
        await control.push(time="time:1", git="git:1")
        await control.store.list()
        await control.store.patch(server("time").key, "pause", "true")
        await control.push(git="git:2")
        await control.store.list()
        assert (await control.get("time")).spec.paused
        await control.push(time="time:2")
        await control.store.list()
        assert not (await control.get("time")).spec.paused

    async def test_status_and_finalizers_outlive_commits(self, control: Control) -> None:
        await control.push(time="time:1")
        await control.store.list()
        held = await control.store.set_finalizer(await control.get("time"), present=True)
        await control.store.write_status(held.model_copy(update={"status": MCPServerStatus(phase="active")}))
        await control.push(time="time:2")
        await control.store.list()
        assert (await control.get("time")).status.phase == "active"
        await control.push(time=None, git="git:1")
        await control.store.list()
        assert (await control.get("time")).metadata.deletion_timestamp is not None


class Said:
    """A log that a test reads."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, /, **keys: Any) -> None:
        self.events.append((event, keys))

    debug = warning = error = info


class TestFollowing:
    async def test_a_ring_pulls_at_once_and_those_who_watch_are_told(self, control: Control) -> None:
        await control.push(time="time:1")
        await control.store.list()
        registry, log = CollectorRegistry(), Said()
        changes = control.store.watch()
        following = asyncio.create_task(
            control.following.puller.follow(
                3600, rng=random.Random(1), log=log, metrics=GitMetrics(registry), switched=control.store.look
            )
        )
        commit = control.repository.commit({"servers/time.yaml": manifest(server(image="time:2"))})
        control.following.puller.ring()
        async with asyncio.timeout(10):
            while await control.images() != {"time": "time:2"}:
                await anext(changes)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await changes.aclose()
        assert ("commit in force", commit) in [(event, keys.get("commit")) for event, keys in log.events]
        assert registry.get_sample_value("toolkeeper_git_commit", {"commit": commit}) == 1
        assert registry.get_sample_value("toolkeeper_git_pulls_total", {"outcome": "switched"}) == 1

    async def test_a_failure_is_logged_once_and_so_is_its_end(self, control: Control) -> None:
        await control.push(time="time:1")
        registry, log = CollectorRegistry(), Said()
        work, away = control.repository.folder, control.repository.folder.with_name("away")
        work.rename(away)
        told = asyncio.Queue[None]()

        def failures() -> float:
            return registry.get_sample_value("toolkeeper_git_pulls_total", {"outcome": "failed"}) or 0

        following = asyncio.create_task(
            control.following.puller.follow(
                1, rng=random.Random(1), log=log, metrics=GitMetrics(registry),
                switched=lambda: told.put_nowait(None),
            )
        )  # fmt: skip
        async with asyncio.timeout(20):
            await told.get()
            while failures() < 2:  # noqa: ASYNC110 - the second failure is no news to anybody
                await asyncio.sleep(0.05)
            away.rename(work)
            await told.get()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        said = [event for event, _ in log.events]
        assert said == ["source not pulled, the last good commit holds", "source pulled again"]
        assert registry.get_sample_value("toolkeeper_git_failing") == 0
