"""Pulling from servers: those that ask who is there, those that break, and those that lie."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from stores_git.conftest import everything, follower
from toolkeeper.clock import SystemClock
from toolkeeper.errors import Refused, Unreachable
from toolkeeper.node.certificate import ensure_certificate
from toolkeeper.stores.git.access import Reference
from toolkeeper.stores.git.program import Git
from toolkeeper.testing.git_server import GitRepository, GitServer

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # each pull is several runs of git, on both sides
LOGIN = "robot:hunter2-s3cret"
TOKEN = Reference("env", "GIT_LOGIN")


class TestCredentials:
    async def test_a_user_and_a_password_are_sent_to_the_server(
        self, repository: GitRepository, server: GitServer, here: Path
    ) -> None:
        server.login = LOGIN
        following = follower(
            here, server.url(repository), credentials=TOKEN, environment={"GIT_LOGIN": LOGIN}
        )
        assert (await following.puller.pull()).commit == repository.head

    async def test_a_token_alone_is_enough(
        self, repository: GitRepository, server: GitServer, here: Path
    ) -> None:
        server.login = "x-access-token:ghp_123"
        following = follower(
            here, server.url(repository), credentials=TOKEN, environment={"GIT_LOGIN": "ghp_123"}
        )
        assert (await following.puller.pull()).commit == repository.head

    async def test_without_or_with_wrong_ones_the_pull_is_refused_and_says_what_to_check(
        self, repository: GitRepository, server: GitServer, here: Path
    ) -> None:
        server.login = LOGIN
        with pytest.raises(Refused, match="check --git-credentials"):
            await follower(here, server.url(repository)).puller.pull()
        wrong = follower(
            here, server.url(repository), credentials=TOKEN, environment={"GIT_LOGIN": "robot:wrong-pass"}
        )
        with pytest.raises(Refused, match="check --git-credentials") as caught:
            await wrong.puller.pull()
        assert "wrong-pass" not in str(caught.value)

    async def test_rotated_ones_are_used_with_the_next_pull(
        self, repository: GitRepository, server: GitServer, here: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "login"
        file.write_text(LOGIN + "\n")
        server.login = LOGIN
        following = follower(here, server.url(repository), credentials=Reference("file", str(file)))
        await following.puller.pull()
        server.login = "robot:rotated"
        repository.commit({"servers/time.yaml": "time: 2\n"})
        with pytest.raises(Refused):
            await following.puller.pull()
        assert following.files() == {"servers/time.yaml": "time: 1\n"}
        file.write_text("robot:rotated")
        await following.puller.pull()
        assert following.files() == {"servers/time.yaml": "time: 2\n"}

    async def test_they_are_on_no_disk_and_in_no_argument(
        self, repository: GitRepository, server: GitServer, here: Path
    ) -> None:
        server.login = LOGIN
        server.stalled.set()
        following = follower(
            here, server.url(repository), credentials=TOKEN, environment={"GIT_LOGIN": LOGIN}
        )
        pulling = asyncio.create_task(following.puller.pull())
        assert await asyncio.to_thread(server.waiting.wait, 10)
        arguments = command_lines()
        server.stalled.clear()
        await pulling
        secrets = [b"hunter2", base64.b64encode(LOGIN.encode())]
        assert any(server.address.encode() in line for line in arguments)
        assert not [line for line in arguments for secret in secrets if secret in line]
        assert not [name for name, text in everything(here).items() for each in secrets if each in text]

    async def test_they_follow_nobody_who_says_that_the_repository_moved(
        self, repository: GitRepository, server: GitServer, here: Path, tmp_path: Path
    ) -> None:
        with GitServer(tmp_path / "served").running() as thief:
            server.moved_to = thief.address
            following = follower(
                here, server.url(repository), credentials=TOKEN, environment={"GIT_LOGIN": LOGIN}
            )
            with pytest.raises(Unreachable, match="give its new address"):
                await following.puller.pull()
            assert thief.requests == []

    async def test_without_credentials_nothing_is_sent(
        self, repository: GitRepository, server: GitServer, here: Path
    ) -> None:
        await follower(here, server.url(repository)).puller.pull()
        assert server.authorizations == []


class TestTls:
    @pytest.fixture
    def certificate(self, tmp_path: Path) -> tuple[Path, Path]:
        return ensure_certificate(tmp_path, ["127.0.0.1"], SystemClock().now())

    @pytest.fixture
    def encrypted(self, tmp_path: Path, certificate: tuple[Path, Path]) -> Iterator[GitServer]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*certificate)
        with GitServer(tmp_path / "served", tls).running() as serving:
            yield serving

    async def test_credentials_go_to_the_server_whose_certificate_is_trusted(
        self, repository: GitRepository, encrypted: GitServer, here: Path, certificate: tuple[Path, Path]
    ) -> None:
        encrypted.login = LOGIN
        git = Git(environment={**os.environ, "GIT_SSL_CAINFO": str(certificate[0])})
        following = follower(
            here, encrypted.url(repository), git=git, credentials=TOKEN, environment={"GIT_LOGIN": LOGIN}
        )
        assert (await following.puller.pull()).commit == repository.head

    async def test_a_server_whose_certificate_is_not_trusted_gets_no_credentials(
        self, repository: GitRepository, encrypted: GitServer, here: Path
    ) -> None:
        git = Git(environment={**os.environ, "GIT_SSL_NO_VERIFY": "1"})
        following = follower(
            here, encrypted.url(repository), git=git, credentials=TOKEN, environment={"GIT_LOGIN": LOGIN}
        )
        with pytest.raises(Unreachable, match="GIT_SSL_CAINFO names a CA of your own"):
            await following.puller.pull()
        assert encrypted.requests == []


class TestBrokenServers:
    async def test_one_that_is_down_leaves_everything_as_it_is_until_it_is_back(
        self, repository: GitRepository, server: GitServer, here: Path, tmp_path: Path
    ) -> None:
        following = follower(here, server.url(repository))
        await following.puller.pull()
        server.close()
        with pytest.raises(Unreachable, match=r"[Cc]onnect"):
            await following.puller.pull()
        assert following.files() == {"servers/time.yaml": "time: 1\n"}
        (problem,) = following.cache.problems()
        assert "not pulled since" in problem.message

    @pytest.mark.parametrize("status", [404, 429, 500, 503])
    async def test_one_that_says_no_is_asked_again_later(
        self, repository: GitRepository, server: GitServer, here: Path, status: int
    ) -> None:
        following = follower(here, server.url(repository))
        await following.puller.pull()
        repository.commit({"servers/time.yaml": "time: 2\n"})
        server.status = status
        with pytest.raises(Unreachable):
            await following.puller.pull()
        assert following.files() == {"servers/time.yaml": "time: 1\n"}
        server.status = None
        await following.puller.pull()
        assert following.files() == {"servers/time.yaml": "time: 2\n"}
        assert following.cache.problems() == ()

    @pytest.mark.parametrize("size", [0, 1, 40, 150])
    async def test_half_an_answer_is_no_commit(
        self, repository: GitRepository, server: GitServer, here: Path, size: int
    ) -> None:
        following = follower(here, server.url(repository))
        await following.puller.pull()
        repository.commit({"servers/time.yaml": "time: 2\n"})
        server.cut_after = size
        with pytest.raises(Unreachable):
            await following.puller.pull()
        assert following.files() == {"servers/time.yaml": "time: 1\n"}
        server.cut_after = None
        await following.puller.pull()
        assert following.files() == {"servers/time.yaml": "time: 2\n"}

    async def test_one_that_never_ends_its_answer_is_hung_up_on(
        self, repository: GitRepository, server: GitServer, here: Path
    ) -> None:
        server.stalled.set()
        following = follower(here, server.url(repository), patience=1.0)
        with pytest.raises(Unreachable, match="git fetch was ended: it took longer than 1 s"):
            await following.puller.pull()

    async def test_while_a_git_of_a_killed_operator_lives_nobody_else_writes_to_the_cache(
        self, repository: GitRepository, server: GitServer, here: Path
    ) -> None:
        server.stalled.set()
        dying = follower(here, server.url(repository))
        async with dying.cache.locked() as lock:
            orphan = await asyncio.create_subprocess_exec("sleep", "600", pass_fds=[lock])
        # As after kill -9: the lock was let go here, and the program that inherited it lives on.
        server.stalled.clear()
        pulling = asyncio.create_task(follower(here, server.url(repository)).puller.pull())
        await asyncio.sleep(0.3)
        assert not pulling.done()
        orphan.kill()
        await orphan.wait()
        assert (await pulling).commit == repository.head


class TestSsh:
    """A stand-in for ssh writes down how it was called, and then runs what it was to run there."""

    def ssh(self, folder: Path) -> Git:
        (folder / "bin").mkdir()
        program = folder / "bin" / "ssh"
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/called\nfor last; do :; done\nexec sh -c "$last"\n'
        )
        program.chmod(0o755)
        return Git(environment={**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"})

    async def test_only_known_servers_are_believed_and_nobody_is_asked(
        self, repository: GitRepository, here: Path, tmp_path: Path
    ) -> None:
        key, known = tmp_path / "the key", tmp_path / "known hosts"
        key.touch()
        known.touch()
        following = follower(
            here,
            f"git@host.example:{repository.folder}",
            git=self.ssh(tmp_path),
            ssh_key=key,
            known_hosts=known,
        )
        assert (await following.puller.pull()).commit == repository.head
        called = (tmp_path / "called").read_text().splitlines()
        for option in ("BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "ForwardAgent=no"):
            assert called[called.index(option) - 1] == "-o"
        assert f'UserKnownHostsFile="{known}"' in called
        assert called[called.index("-i") + 1] == str(key)
        assert "git@host.example" in called

    async def test_an_unknown_server_is_refused_and_the_remedy_named(
        self, repository: GitRepository, here: Path, tmp_path: Path
    ) -> None:
        git = self.ssh(tmp_path)
        (tmp_path / "bin" / "ssh").write_text("#!/bin/sh\necho Host key verification failed. >&2\nexit 255\n")
        with pytest.raises(Refused, match="--git-known-hosts"):
            await follower(here, f"git@host.example:{repository.folder}", git=git).puller.pull()


def command_lines() -> list[bytes]:
    """Of every process of this machine: what everybody on it can see."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                found.append((process / "cmdline").read_bytes())
            except OSError:  # it ended meanwhile
                continue
    return found
