"""The options that name a Git repository: each wrong one is answered in a line that says what to do instead."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from cli.conftest import SERVER, Run
from toolkeeper.testing.git_server import GitRepository, GitServer

URL = "https://git.example/acme/servers.git"


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    made = GitRepository(tmp_path / "served" / "work")
    made.commit({"servers/time.yaml": SERVER.format(name="time", image="time:1")})
    return made


@pytest.fixture
def server(tmp_path: Path, repository: GitRepository) -> Iterator[GitServer]:
    with GitServer(tmp_path / "served").running() as serving:
        yield serving


def refused(result: Result, *says: str, code: int = 1) -> None:
    """It ended with that code, said all of this in one line, and showed nobody its insides."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == code
    (line,) = [each for each in result.stderr.splitlines() if each.startswith("Error: ")]
    for each in says:
        assert each in line
    assert "Traceback" not in result.output


def test_the_help_names_every_option_with_an_example(toolkeeper: Run) -> None:
    said = toolkeeper("operator", "--help").output
    for option in ("--git ", "--ref", "--git-interval", "--git-credentials", "--git-ssh-key",
                   "--git-known-hosts", "--webhook-address", "--webhook-secret"):  # fmt: skip
        assert option in said
    assert "toolkeeper operator --store directory --git https://" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--git", "servers"), "--git is not the URL of a repository"),
        (("--git", "--upload-pack=/tmp/evil"), "--git is not the URL of a repository"),
        (("--git", "ext::sh -c evil"), "--git is not the URL of a repository"),
        (("--git", "ext::evil"), "--git is not the URL of a repository"),
        (("--git", "ftp://host/x.git"), "--git cannot use ftp://"),
        (("--git", "https://robot:s3cret@host/x.git"), "name it with --git-credentials"),
        (("--git", "file://host/x.git"), "with three slashes"),
        (("--git", URL, "--ref=-x"), "'-x' is no branch, tag or commit"),
        (("--git", URL, "--ref", "--upload-pack=evil"), "is no branch, tag or commit"),
        (("--git", URL, "--ref", ""), "is no branch, tag or commit"),
        (("--git", URL, "--path", "../elsewhere"), "must lead from the top of the repository"),
        (("--git", URL, "--path", "/etc"), "must lead from the top of the repository"),
        (("--git", URL, "--path", ".git/hooks"), "must lead from the top of the repository"),
        (("--git", URL, "--store", "sqlite"), "use --store directory, not --store sqlite"),
        (("--git", URL, "--git-credentials", "s3cret"), "give file:PATH or env:NAME"),
        (("--git", URL, "--git-credentials", "file:/absent"), "--git-credentials file:/absent: No such file"),
        (("--git", URL, "--git-credentials", "env:ABSENT"), "--git-credentials env:ABSENT: it is empty"),
        (("--git", "http://git.example/x.git", "--git-credentials", "env:HOME"), "use https"),
        (("--git", URL, "--git-ssh-key", "/absent"), "--git-ssh-key is for ssh"),
        (("--git", "git@host:x.git", "--git-ssh-key", "/absent"), "there is no such file"),
        (("--git", "git@host:x.git", "--git-known-hosts", "/absent"), "there is no such file"),
        (("--git", URL, "--git-interval", "0"), "--git-interval is at least 1 s"),
        (("--git", URL, "--git-interval=-5"), "--git-interval is at least 1 s"),
        (("--git", URL, "--git-interval", "nan"), "--git-interval is at least 1 s"),
        (("--git", URL, "--git-interval", "inf"), "--git-interval is at least 1 s"),
        (("--git", URL, "--webhook-address", ":0"), "need each other"),
        (("--git", URL, "--webhook-secret", "env:HOME"), "need each other"),
        (("--git", URL, "--webhook-address", ":0", "--webhook-secret", "env:ABSENT"), "it is empty"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_meant_is_refused_before_git_is_asked(
    toolkeeper: Run, arguments: tuple[str, ...], says: str
) -> None:
    result = toolkeeper("operator", *arguments)
    refused(result, says)
    assert "s3cret" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--git", ""),
        ("--ref", "main"),
        ("--git-interval", "5"),
        ("--git-credentials", "env:X"),
        ("--webhook-address", ":8090"),
    ],
)
def test_an_option_that_would_mean_nothing_is_wrong_usage(
    toolkeeper: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    result = toolkeeper("operator", "--store", "directory", "--path", str(tmp_path), *arguments)
    refused(result, f"{arguments[0]} needs --git URL", code=2)


def test_an_interval_that_is_no_number_is_wrong_usage(toolkeeper: Run) -> None:
    refused(toolkeeper("operator", "--git", URL, "--git-interval", "often"), "--git-interval", code=2)


class TestFirstPull:
    """With nothing in the cache, nobody knows what is declared: the operator ends and says why."""

    def test_without_the_program_it_is_said_what_to_install(
        self, toolkeeper: Run, repository: GitRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        refused(toolkeeper("operator", "--git", repository.url), "there is no git here: install it")

    def test_a_ref_that_is_not_there(self, toolkeeper: Run, repository: GitRepository) -> None:
        result = toolkeeper("operator", "--git", repository.url, "--ref", "mian")
        refused(result, f"{repository.url}@mian: there is no branch or tag mian", "give another --ref")

    def test_a_commit_that_is_not_there(self, toolkeeper: Run, repository: GitRepository) -> None:
        result = toolkeeper("operator", "--git", repository.url, "--ref", "0" * 40)
        refused(result, "the server has no such commit")

    def test_a_folder_that_is_not_there(self, toolkeeper: Run, repository: GitRepository) -> None:
        result = toolkeeper("operator", "--git", repository.url, "--path", "production")
        refused(result, "there is no folder production in it", "give another --path")

    def test_a_repository_that_is_not_there(self, toolkeeper: Run, tmp_path: Path) -> None:
        result = toolkeeper("operator", "--git", f"file://{tmp_path}/absent.git")
        refused(result, "absent.git", "check the address")

    def test_a_server_that_does_not_answer(self, toolkeeper: Run) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
            refused(toolkeeper("operator", "--git", f"http://127.0.0.1:{port}/x.git"), "onnect")

    def test_wrong_credentials_are_named_and_not_repeated(
        self, toolkeeper: Run, repository: GitRepository, server: GitServer, tmp_path: Path
    ) -> None:
        server.login = "robot:right"
        login = tmp_path / "login"
        login.write_text("robot:wr0ng-s3cret\n")
        result = toolkeeper("operator", "--git", server.url(repository), "--git-credentials", f"file:{login}")
        refused(result, "check --git-credentials")
        assert "wr0ng-s3cret" not in result.output

    def test_what_could_not_be_pulled_leaves_nothing_that_holds(
        self, toolkeeper: Run, repository: GitRepository, tmp_path: Path
    ) -> None:
        toolkeeper("operator", "--git", repository.url, "--path", "production")
        assert not [each for each in os.walk(tmp_path / "state") if "trees" in each[0] and each[2]]
