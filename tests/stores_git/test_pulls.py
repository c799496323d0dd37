"""What a pull brings into force, and what leaves everything as it is."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
from pathlib import Path

import pytest

from stores_git.conftest import Days, everything, follower
from toolkeeper.errors import Invalid, NotFound, ToolkeeperError, Unreachable
from toolkeeper.stores.git.cache import KEEP_SECONDS
from toolkeeper.stores.git.program import Git, Run
from toolkeeper.testing.git_server import GitRepository

pytestmark = pytest.mark.anyio


class TestCommits:
    async def test_the_manifests_of_the_newest_commit_are_there_and_nothing_else(
        self, repository: GitRepository, here: Path
    ) -> None:
        following = follower(here, repository.url)
        pull = await following.puller.pull()
        assert (pull.commit, pull.before) == (repository.head, "")
        assert following.files() == {"servers/time.yaml": "time: 1\n"}
        assert following.cache.commit == repository.head

    async def test_a_path_is_the_folder_of_manifests(self, repository: GitRepository, here: Path) -> None:
        following = follower(here, repository.url, path="servers/")
        await following.puller.pull()
        assert following.files() == {"time.yaml": "time: 1\n"}

    async def test_a_push_comes_into_force_as_a_whole(self, repository: GitRepository, here: Path) -> None:
        following = follower(here, repository.url)
        await following.puller.pull()
        before = following.cache.root.resolve()
        repository.commit({"servers/time.yaml": "time: 2\n", "servers/more.yaml": "more: 1\n"})
        pull = await following.puller.pull()
        assert not pull.rewritten
        assert following.files() == {"servers/more.yaml": "more: 1\n", "servers/time.yaml": "time: 2\n"}
        # Whoever still reads the one before reads all of it.
        assert (before / "servers" / "time.yaml").read_text() == "time: 1\n"

    async def test_a_tree_goes_when_nobody_can_be_reading_it_any_more(
        self, repository: GitRepository, here: Path
    ) -> None:
        following = follower(here, repository.url)
        await following.puller.pull()
        old = following.cache.root.resolve()
        repository.commit({"servers/time.yaml": "time: 2\n"})
        await following.puller.pull()
        following.clock.seconds += KEEP_SECONDS - 60
        await following.puller.pull()
        assert old.exists()
        following.clock.seconds += 120
        await following.puller.pull()
        assert not old.exists()
        assert following.files() == {"servers/time.yaml": "time: 2\n"}

    async def test_only_the_newest_commit_is_fetched_however_long_the_history(
        self, repository: GitRepository, here: Path
    ) -> None:
        for _ in range(8):
            repository.commit({"noise.bin": base64.b64encode(os.urandom(256 * 1024)).decode()})
        repository.commit({"noise.bin": None})
        following = follower(here, repository.url)
        await following.puller.pull()
        assert sum(len(text) for text in everything(here).values()) < 256 * 1024

    async def test_a_repository_whose_names_are_sha_256_is_pulled_like_any_other(
        self, here: Path, tmp_path: Path
    ) -> None:
        repository = GitRepository(tmp_path / "modern", object_format="sha256")
        for text in ("time: 1\n", "time: 2\n"):
            commit = repository.commit({"time.yaml": text})
            following = follower(here, repository.url)
            assert (await following.puller.pull()).commit == commit
            assert following.files() == {"time.yaml": text}
        pinned = follower(tmp_path / "pinned", repository.url, repository.head)
        assert (await pinned.puller.pull()).commit == repository.head

    async def test_nothing_new_writes_nothing(self, repository: GitRepository, here: Path) -> None:
        following = follower(here, repository.url)
        await following.puller.pull()
        before = {each: each.stat().st_mtime_ns for each in here.rglob("*")}
        following.clock.seconds += 60
        pull = await following.puller.pull()
        assert pull.commit == pull.before == repository.head
        assert {each: each.stat().st_mtime_ns for each in here.rglob("*")} == before

    async def test_rewritten_history_is_followed_and_told(
        self, repository: GitRepository, here: Path
    ) -> None:
        repository.commit({"servers/time.yaml": "time: 2\n"})
        following = follower(here, repository.url)
        await following.puller.pull()
        repository.commit({"servers/time.yaml": "time: 3\n"}, "--amend")
        pull = await following.puller.pull()
        assert pull.rewritten
        assert following.files() == {"servers/time.yaml": "time: 3\n"}

    async def test_several_commits_at_once_are_no_rewriting(
        self, repository: GitRepository, here: Path
    ) -> None:
        following = follower(here, repository.url)
        await following.puller.pull()
        for number in range(5):
            repository.commit({"servers/time.yaml": f"time: {number}\n"})
        assert not (await following.puller.pull()).rewritten

    async def test_going_back_to_an_earlier_commit_is_a_switch_like_any_other(
        self, repository: GitRepository, here: Path
    ) -> None:
        first = repository.head
        following = follower(here, repository.url)
        await following.puller.pull()
        repository.commit({"servers/time.yaml": "time: 2\n"})
        await following.puller.pull()
        repository.git("reset", "--quiet", "--hard", first)
        assert (await following.puller.pull()).rewritten
        assert following.files() == {"servers/time.yaml": "time: 1\n"}

    @pytest.mark.slow
    async def test_the_copy_is_made_anew_before_it_grows_for_ever(
        self, repository: GitRepository, here: Path
    ) -> None:
        following = follower(here, repository.url)
        for number in range(35):
            repository.commit({"servers/time.yaml": f"time: {number}\n"})
            await following.puller.pull()
        assert len(list(here.glob("repository.git/objects/pack/*.pack"))) <= 31
        assert following.files() == {"servers/time.yaml": "time: 34\n"}


class TestRefs:
    async def test_a_branch_is_followed_and_others_are_not(
        self, repository: GitRepository, here: Path
    ) -> None:
        repository.git("branch", "stable")
        stable = repository.head
        repository.commit({"servers/time.yaml": "time: 2\n"})
        assert (await follower(here, repository.url, "stable").puller.pull()).commit == stable

    @pytest.mark.parametrize("options", [(), ("-a", "-m", "annotated")])
    async def test_a_tag_is_followed_also_when_it_moves(
        self, repository: GitRepository, here: Path, options: tuple[str, ...]
    ) -> None:
        repository.git("tag", *options, "v1")
        following = follower(here, repository.url, "v1")
        assert (await following.puller.pull()).commit == repository.head
        assert (await following.puller.pull()).before == repository.head
        moved = repository.commit({"servers/time.yaml": "time: 2\n"})
        repository.git("tag", "--force", *options, "v1")
        assert (await following.puller.pull()).commit == moved

    async def test_a_commit_is_pinned_and_once_here_nobody_is_asked_again(
        self, repository: GitRepository, here: Path
    ) -> None:
        pinned = repository.head
        repository.commit({"servers/time.yaml": "time: 2\n"})
        following = follower(here, repository.url, pinned)
        assert (await following.puller.pull()).commit == pinned
        repository.folder.rename(repository.folder.with_name("gone"))
        assert (await following.puller.pull()).commit == pinned
        assert following.files() == {"servers/time.yaml": "time: 1\n"}

    async def test_a_name_that_means_two_things_is_refused(
        self, repository: GitRepository, here: Path
    ) -> None:
        repository.git("branch", "v1")
        repository.git("tag", "v1")
        with pytest.raises(Invalid, match="give refs/heads/v1 or refs/tags/v1"):
            await follower(here, repository.url, "v1").puller.pull()
        assert (await follower(here, repository.url, "refs/tags/v1").puller.pull()).commit

    async def test_a_ref_that_is_part_of_another_is_not_meant(
        self, repository: GitRepository, here: Path
    ) -> None:
        repository.git("update-ref", "refs/heads/x/refs/heads/y", "HEAD")
        with pytest.raises(NotFound):
            await follower(here, repository.url, "y").puller.pull()

    async def test_a_deleted_branch_leaves_its_last_commit_in_force(
        self, repository: GitRepository, here: Path
    ) -> None:
        repository.git("branch", "feature")
        following = follower(here, repository.url, "feature")
        await following.puller.pull()
        repository.git("branch", "-D", "feature")
        with pytest.raises(NotFound, match="no branch or tag feature: has it been deleted"):
            await following.puller.pull()
        assert following.files() == {"servers/time.yaml": "time: 1\n"}
        (problem,) = following.cache.problems()
        assert f"commit {repository.head[:7]} stays in force" in problem.message
        repository.git("branch", "feature")
        await following.puller.pull()
        assert following.cache.problems() == ()


class TestRefusals:
    """A commit that cannot be read leaves the one before in force."""

    async def refused(self, repository: GitRepository, here: Path, says: str, path: str = "servers") -> None:
        following = follower(here, repository.url, path=path)
        good = following.cache.commit
        with pytest.raises(Invalid, match=says) as caught:
            await following.puller.pull()
        assert f"commit {repository.head[:7]} is not taken" in str(caught.value)
        assert following.cache.commit == good
        assert following.files() == {"time.yaml": "time: 1\n"}
        assert f"commit {good[:7]} stays" in following.cache.problems()[0].message

    async def test_a_commit_without_the_folder(self, repository: GitRepository, here: Path) -> None:
        await follower(here, repository.url, path="servers").puller.pull()
        repository.commit({"servers/time.yaml": None, "other/time.yaml": "time: 2\n"})
        await self.refused(repository, here, "no folder servers")

    async def test_a_commit_in_which_the_folder_is_a_file(
        self, repository: GitRepository, here: Path
    ) -> None:
        await follower(here, repository.url, path="servers").puller.pull()
        repository.commit({"servers/time.yaml": None})
        (repository.folder / "servers").rmdir()
        repository.commit({"servers": "a file\n"})
        await self.refused(repository, here, "servers is no folder")

    async def test_a_commit_in_which_the_folder_is_a_link(
        self, repository: GitRepository, here: Path
    ) -> None:
        await follower(here, repository.url, path="servers").puller.pull()
        (repository.folder / "servers").rename(repository.folder / "real")
        (repository.folder / "servers").symlink_to("real")
        repository.commit()
        await self.refused(repository, here, "servers is no folder")

    @pytest.mark.slow
    async def test_a_commit_that_holds_too_much(self, repository: GitRepository, here: Path) -> None:
        await follower(here, repository.url, path="servers").puller.pull()
        for number in range(70):
            repository.write(f"servers/{number}.yaml", f"# {number}\n" + " " * (1024 * 1024 - 10))
        repository.commit()
        await self.refused(repository, here, "64 MiB")

    async def test_a_commit_whose_installation_is_not_the_one_that_runs(
        self, repository: GitRepository, here: Path
    ) -> None:
        def check(folder: Path) -> None:
            if (folder / "toolkeeper.yaml").exists():
                raise Invalid("it renames the installation")

        following = follower(here, repository.url, check=check)
        await following.puller.pull()
        repository.commit({"toolkeeper.yaml": "installation: other\n"})
        for _ in range(2):
            with pytest.raises(Invalid, match="renames the installation"):
                await following.puller.pull()
        assert following.files() == {"servers/time.yaml": "time: 1\n"}

    async def test_a_tree_with_a_path_that_leads_out(self, repository: GitRepository, here: Path) -> None:
        following = follower(here, repository.url)
        await following.puller.pull()
        blob = repository.git("hash-object", "-w", "--stdin", stdin="evil: 1\n")
        inner = repository.git("mktree", stdin=f"100644 blob {blob}\tx.yaml\n")
        raw = b"40000 ..\0" + bytes.fromhex(inner)
        (repository.folder / "raw").write_bytes(raw)
        tree = repository.git("hash-object", "-t", "tree", "-w", "--literally", "raw")
        commit = repository.git("commit-tree", tree, "-m", "evil", "-p", "HEAD")
        repository.git("update-ref", "HEAD", commit)
        with pytest.raises(ToolkeeperError):
            await following.puller.pull()
        assert not list(here.rglob("x.yaml"))

    async def test_a_tree_in_which_a_link_and_a_folder_share_a_name_writes_nothing_outside(
        self, repository: GitRepository, here: Path, tmp_path: Path
    ) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        following = follower(here, repository.url)
        await following.puller.pull()
        blob = repository.git("hash-object", "-w", "--stdin", stdin="evil: 1\n")
        link = repository.git("hash-object", "-w", "--stdin", stdin=str(outside))
        inner = repository.git("mktree", stdin=f"100644 blob {blob}\tx.yaml\n")
        raw = b"120000 a\0" + bytes.fromhex(link) + b"40000 a\0" + bytes.fromhex(inner)
        (repository.folder / "raw").write_bytes(raw)
        tree = repository.git("hash-object", "-t", "tree", "-w", "--literally", "raw")
        commit = repository.git("commit-tree", tree, "-m", "evil", "-p", "HEAD")
        repository.git("update-ref", "HEAD", commit)
        with pytest.raises(Invalid, match="two things are at one path"):
            await following.puller.pull()
        assert list(outside.iterdir()) == []


class TestBytes:
    async def test_files_are_written_as_they_were_committed(
        self, repository: GitRepository, here: Path
    ) -> None:
        repository.git("config", "filter.evil.smudge", "echo evil")
        repository.commit(
            {
                ".gitattributes": "* text=auto eol=crlf ident filter=evil export-ignore\n",
                "servers/time.yaml": "time: 1 # $Id$\n",
            }
        )
        following = follower(here, repository.url)
        await following.puller.pull()
        assert (following.cache.root / "servers/time.yaml").read_bytes() == b"time: 1 # $Id$\n"

    async def test_what_links_lead_to_is_there_too(self, repository: GitRepository, here: Path) -> None:
        (repository.folder / "servers" / "link.yaml").symlink_to("time.template")
        repository.commit({"servers/time.template": "time: 9\n"})
        following = follower(here, repository.url)
        await following.puller.pull()
        assert (following.cache.root / "servers" / "link.yaml").read_text() == "time: 9\n"

    async def test_a_file_too_large_to_be_read_costs_no_disk(
        self, repository: GitRepository, here: Path
    ) -> None:
        repository.commit({"servers/huge.yaml": "x" * (3 * 1024 * 1024)})
        following = follower(here, repository.url)
        await following.puller.pull()
        huge = following.cache.root / "servers" / "huge.yaml"
        assert huge.stat().st_size > 1024 * 1024
        assert huge.stat().st_blocks == 0

    async def test_a_submodule_is_not_followed_and_that_is_said(
        self, repository: GitRepository, here: Path
    ) -> None:
        repository.git("update-index", "--add", "--cacheinfo", f"160000,{repository.head},servers/sub")
        repository.git("commit", "--quiet", "-m", "Add a submodule")
        following = follower(here, repository.url)
        await following.puller.pull()
        (problem,) = following.cache.problems()
        assert "servers/sub is a submodule and is not followed" in problem.message

    async def test_names_of_any_bytes_are_kept(self, repository: GitRepository, here: Path) -> None:
        name = os.fsdecode(b"servers/gr\xfc\xdfe.yaml")
        repository.commit({name: "a: 1\n", 'servers/a "quoted"\tone.yaml': "b: 1\n"})
        following = follower(here, repository.url)
        await following.puller.pull()
        assert len(following.files()) == 3

    async def test_the_cache_is_for_its_owner_alone(self, repository: GitRepository, here: Path) -> None:
        await follower(here, repository.url).puller.pull()
        assert here.stat().st_mode & 0o077 == 0

    async def test_no_hook_of_anybody_is_run(
        self, repository: GitRepository, here: Path, tmp_path: Path
    ) -> None:
        following = follower(here, repository.url)
        await following.puller.pull()
        for place in (here / "repository.git" / "hooks", repository.folder / ".git" / "hooks"):
            place.mkdir(exist_ok=True)
            for hook in ("reference-transaction", "post-checkout", "post-merge", "pre-auto-gc"):
                (place / hook).write_text(f"#!/bin/sh\ntouch {tmp_path}/evil\n")
                (place / hook).chmod(0o755)
        (repository.folder / ".git" / "hooks").rename(repository.folder / ".git" / "hooks.off")
        repository.commit({"servers/time.yaml": "time: 2\n"})
        (repository.folder / ".git" / "hooks.off").rename(repository.folder / ".git" / "hooks")
        await following.puller.pull()
        assert not (tmp_path / "evil").exists()


class TestCrashes:
    async def test_what_a_killed_process_left_behind_is_no_hindrance(
        self, repository: GitRepository, here: Path
    ) -> None:
        following = follower(here, repository.url)
        await following.puller.pull()
        copy = here / "repository.git"
        for lock in ("shallow.lock", "config.lock", "HEAD.lock", "refs/toolkeeper/pulled.lock"):
            (copy / lock).write_text("")
        (copy / "objects" / "pack" / "tmp_pack_half").write_text("half")
        new = repository.commit({"servers/time.yaml": "time: 2\n"})
        draft = here / "trees" / f".{new}.draft" / "servers"
        draft.mkdir(parents=True)
        (draft / "time.yaml").write_text("")
        (here / ".current.draft").symlink_to("nowhere")
        assert (await follower(here, repository.url).puller.pull()).commit == new
        assert following.files() == {"servers/time.yaml": "time: 2\n"}
        assert "tmp_pack_half" not in str(everything(copy).keys())

    async def test_a_damaged_copy_is_fetched_anew(self, repository: GitRepository, here: Path) -> None:
        following = follower(here, repository.url)
        await following.puller.pull()
        repository.commit({"servers/time.yaml": "time: 2\n"})
        for each in (here / "repository.git" / "objects").rglob("*"):
            if each.is_file():
                each.chmod(0o600)
                each.write_bytes(b"rubbish")
        for _ in range(2):
            try:
                await following.puller.pull()
            except Unreachable:
                assert following.files() == {"servers/time.yaml": "time: 1\n"}
        assert following.files() == {"servers/time.yaml": "time: 2\n"}

    async def test_a_lost_cache_is_pulled_again(self, repository: GitRepository, here: Path) -> None:
        following = follower(here, repository.url)
        await following.puller.pull()
        here.rename(here.with_name("lost"))
        assert (await following.puller.pull()).before == ""
        assert following.files() == {"servers/time.yaml": "time: 1\n"}

    async def test_two_processes_on_one_cache_take_turns(self, repository: GitRepository, here: Path) -> None:
        one, two = follower(here, repository.url), follower(here, repository.url)
        for number in range(3):
            repository.commit({"servers/time.yaml": f"time: {number}\n"})
            pulls = await asyncio.gather(one.puller.pull(), two.puller.pull())
            assert {pull.commit for pull in pulls} == {repository.head}
            assert sorted(pull.before == repository.head for pull in pulls) == [False, True]
        assert one.cache.problems() == two.cache.problems() == ()

    async def test_a_cancelled_pull_leaves_no_program_behind(
        self, repository: GitRepository, here: Path, tmp_path: Path
    ) -> None:
        git = hanging(tmp_path)
        following = follower(here, repository.url, git=git)
        pulling = asyncio.create_task(following.puller.pull())
        pid = await started(tmp_path)
        pulling.cancel()
        await asyncio.gather(pulling, return_exceptions=True)
        assert await gone(pid)

    async def test_a_pull_cancelled_while_its_program_starts_leaves_none_behind(self, tmp_path: Path) -> None:
        git = hanging(tmp_path)
        git._checked = True
        calling = asyncio.create_task(git(["ls-remote"], Run()))
        for _ in range(3):
            await asyncio.sleep(0)
        pid = started_while_nothing_else_happens(tmp_path)
        calling.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(calling, return_exceptions=True)
        assert await gone(pid)


class TestProgram:
    async def test_a_missing_git_says_what_to_install(self, repository: GitRepository, here: Path) -> None:
        with pytest.raises(Invalid, match="apt-get install git"):
            await follower(here, repository.url, git=Git("no-such-git")).puller.pull()

    async def test_a_git_that_would_ignore_our_settings_is_refused(
        self, repository: GitRepository, here: Path, tmp_path: Path
    ) -> None:
        old = program(tmp_path, "echo git version 2.20.1")
        with pytest.raises(Invalid, match=r"or newer is needed, and this is git version 2\.20\.1"):
            await follower(here, repository.url, git=Git(str(old))).puller.pull()

    async def test_a_git_that_hangs_is_ended_with_all_that_it_started(
        self, repository: GitRepository, here: Path, tmp_path: Path
    ) -> None:
        following = follower(here, repository.url, git=hanging(tmp_path), patience=0.5)
        with pytest.raises(Unreachable, match=r"git ls-remote was ended: it took longer than 0\.5 s"):
            await following.puller.pull()
        assert await gone(await started(tmp_path))

    async def test_the_users_own_settings_and_hooks_mean_nothing(
        self, repository: GitRepository, here: Path, tmp_path: Path
    ) -> None:
        (tmp_path / ".gitconfig").write_text('[url "file:///elsewhere"]\n\tinsteadOf = file://\n')
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_DIR": "/elsewhere"}
        following = follower(here, repository.url, git=Git(environment=environment))
        assert (await following.puller.pull()).commit == repository.head

    async def test_a_full_disk_or_a_read_only_one_keeps_the_last_good_commit(
        self, repository: GitRepository, here: Path
    ) -> None:
        following = follower(here, repository.url, clock=Days())
        await following.puller.pull()
        repository.commit({"servers/time.yaml": "time: 2\n"})
        trees = here / "trees"
        trees.rename(here / "real")
        trees.symlink_to("/proc/self/nothing")
        with pytest.raises(Unreachable):
            await following.puller.pull()
        trees.unlink()
        (here / "real").rename(trees)
        assert following.files() == {"servers/time.yaml": "time: 1\n"}
        await following.puller.pull()
        assert following.files() == {"servers/time.yaml": "time: 2\n"}


def program(folder: Path, script: str) -> Path:
    """A program of that script."""
    file = folder / "a-git"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return file


def hanging(folder: Path) -> Git:
    """A git whose child hangs for ever, once it was asked for more than its version."""
    script = f'[ "$1" = version ] && exec git version\nsleep 600 &\necho $! > {folder}/pid\nwait'
    return Git(str(program(folder, script)))


async def started(folder: Path) -> int:
    """The child's process id."""
    async with asyncio.timeout(60):
        while not (folder / "pid").exists() or not (folder / "pid").read_text().strip():  # noqa: ASYNC110 - a shell
            await asyncio.sleep(0.01)
    return int((folder / "pid").read_text())


def started_while_nothing_else_happens(folder: Path) -> int:
    """The same, and the event loop has no turn meanwhile."""
    subprocess.run(["sh", "-c", f"until [ -s {folder}/pid ]; do :; done"], timeout=10, check=True)
    return int((folder / "pid").read_text())


async def gone(pid: int) -> bool:
    """Whether the process ends."""
    for _ in range(2000):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        await asyncio.sleep(0.01)
    return False
