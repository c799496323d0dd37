"""What may be named as a repository, and what is refused before any program sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkeeper.errors import Invalid, Refused
from toolkeeper.stores.git.access import Access, Reference
from toolkeeper.stores.git.address import Address

COMMIT = "0123456789" * 4


@pytest.mark.parametrize(
    ("url", "scheme"),
    [
        ("https://github.com/owner/repo.git", "https"),
        ("https://git.example.org:8443/a/b", "https"),
        ("http://127.0.0.1:3000/a/b.git", "http"),
        ("ssh://git@git.example.org:2222/a/b.git", "ssh"),
        ("git@github.com:owner/repo.git", "ssh"),
        ("host.example:repo", "ssh"),
        ("file:///srv/repo.git", "file"),
        ("/srv/repo.git", "file"),
    ],
)
def test_a_url_that_git_would_take_is_taken(url: str, scheme: str) -> None:
    assert Address.of(url).scheme == scheme


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "not the URL"),
        ("repo.git", "not the URL"),
        ("--upload-pack=touch /tmp/x", "not the URL"),
        ("-oProxyCommand=x:y", "not the URL"),
        ("ssh://-oProxyCommand=x/y", "names no host"),
        ("ssh://-oProxyCommand=x@host/y", "names no host"),
        ("-host:repo", "not the URL"),
        ("ext::sh -c x", "not the URL"),
        ("ext::sh", "not the URL"),
        ("git://host/repo", "cannot use git://"),
        ("ftp://host/repo", "cannot use ftp://"),
        ("https://host", "names no host or no repository"),
        ("https:///repo", "names no host"),
        ("https://host:port/repo", "not a URL"),
        ("file://host/repo", "three slashes"),
        ("https://host/repo?ref=main", "leave out what begins with '?'"),
        ("https://host/repo#main", "leave out what begins with '?'"),
        ("https://host/re po", "not the URL"),
        ("https://host/repo\n", "not the URL"),
    ],
)
def test_a_url_that_means_something_else_is_refused(url: str, says: str) -> None:
    with pytest.raises(Invalid) as caught:
        Address.of(url)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "url", ["https://me:hunter2@host/repo", "https://hunter2@host/repo", "ssh://me:hunter2@host/repo"]
)
def test_a_credential_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(Invalid, match="--git-credentials") as caught:
        Address.of(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("ref", ["HEAD", "main", "feature/x-1", "v1.2", "refs/heads/main", "ümlaut", COMMIT])
def test_a_name_that_git_would_take_is_a_ref(ref: str) -> None:
    assert Address.of("/r", ref).ref == ref


@pytest.mark.parametrize(
    "ref", ["", "-x", "--upload-pack=x", "a..b", "a b", "a:b", "a^", "a~1", "a*", "a.lock", "/a", "a/", "a//b", "@{1}"]
)  # fmt: skip
def test_a_name_that_git_would_not_take_is_refused(ref: str) -> None:
    with pytest.raises(Invalid, match="no branch, tag or commit"):
        Address.of("/r", ref)


def test_only_a_whole_commit_is_pinned() -> None:
    assert Address.of("/r", COMMIT).commit == COMMIT
    assert Address.of("/r", COMMIT[:12]).commit is None


@pytest.mark.parametrize(("path", "means"), [("", ""), (".", ""), ("a/b/", "a/b"), ("./a//b", "a/b")])
def test_a_path_leads_down_from_the_top(path: str, means: str) -> None:
    assert Address.of("/r", path=path).path == means


@pytest.mark.parametrize("path", ["/etc", "../x", "a/../../x", ".git", "a/.GIT/b", "a\0b"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(Invalid, match="--path"):
        Address.of("/r", path=path)


def test_addresses_that_differ_have_caches_that_differ() -> None:
    ids = {Address.of("/r", ref, path).id for ref in ("a", "b") for path in ("", "x")}
    assert len(ids) == 4


class TestReferences:
    def test_a_secret_given_in_place_of_a_reference_is_not_repeated(self) -> None:
        with pytest.raises(Invalid, match="give file:PATH or env:NAME") as caught:
            Reference.of("hunter2", "--git-credentials")
        assert "hunter2" not in str(caught.value)

    def test_a_file_is_read_anew_each_time(self, tmp_path: Path) -> None:
        file = tmp_path / "token"
        reference = Reference.of(f"file:{file}", "--x")
        for token in ("one", "two"):
            file.write_text(f"{token}\n")
            assert reference.read("--x") == token

    def test_a_variable_is_read(self) -> None:
        assert Reference.of("env:TOKEN", "--x").read("--x", {"TOKEN": "one"}) == "one"

    @pytest.mark.parametrize("text", ["", "\n", "one\ntwo\n", "one\r\nHost: evil", "a\0b"])
    def test_what_could_not_be_sent_as_one_header_is_refused(self, tmp_path: Path, text: str) -> None:
        file = tmp_path / "token"
        file.write_bytes(text.encode())
        with pytest.raises(Refused) as caught:
            Reference.of(f"file:{file}", "--x").read("--x")
        assert "evil" not in str(caught.value)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(Refused, match="No such file"):
            Reference.of(f"file:{tmp_path}/none", "--x").read("--x")


class TestAccess:
    def test_a_password_never_travels_unencrypted(self) -> None:
        access = Access(Address.of("http://git.example.org/r"), Reference("env", "X"))
        with pytest.raises(Invalid, match="unencrypted"):
            access.check()

    @pytest.mark.parametrize("url", ["git@host:repo", "/r"])
    def test_what_cannot_be_used_is_refused_and_not_ignored(self, url: str) -> None:
        with pytest.raises(Invalid, match="--git-credentials is for https"):
            Access(Address.of(url), Reference("env", "X")).check()

    def test_a_key_is_for_ssh_and_must_be_there(self, tmp_path: Path) -> None:
        with pytest.raises(Invalid, match="--git-ssh-key is for ssh"):
            Access(Address.of("/r"), ssh_key=tmp_path).check()
        with pytest.raises(Invalid, match="there is no such file"):
            Access(Address.of("git@host:repo"), ssh_key=tmp_path / "none").check()

    def test_the_credential_is_for_its_server_only_and_shown_nowhere(self) -> None:
        access = Access(
            Address.of("https://host:8443/a/b"), Reference("env", "X"), environment={"X": "hunter2"}
        )
        run = access.run()
        (key,) = [each for each in run.settings if "extraHeader" in each]
        assert key == "http.https://host:8443/.extraHeader"
        assert "hunter2" not in repr(run) + repr(access)
        assert run.settings[key] not in repr(run)
