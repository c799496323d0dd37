"""The labels on a container."""

from __future__ import annotations

from dataclasses import replace

from node_docker.conftest import ask
from toolkeeper.node.docker.marks import Mark, labels, mark_of, marked
from toolkeeper.planning.instance import EnvEntry, FileEntry, PackageSource, Reach, SecretUse

NAME = "tk_prod_default_tiny_00000000"


def test_what_a_restarted_agent_reads_is_what_was_written() -> None:
    secret = SecretUse("keys", "token", "d1")
    request = ask(
        image="",
        package=PackageSource("npm", "@scope/server", "1.2.3"),
        port=9000,
        path="/x",
        host_header="localhost:9000",
        probe_interval=30,
        env=(EnvEntry("A", "1"), EnvEntry("TOKEN", secret=secret)),
        files=(FileEntry("/a", "x"), FileEntry("/b", secret=secret)),
        reach=Reach(peers=("other", "third")),
    )
    mark = mark_of(request, "prod")
    assert marked(NAME, labels(mark)) == mark
    assert (mark.secret_env, mark.secret_files, mark.files) == (("TOKEN",), (1,), 2)
    assert (mark.image, mark.port, mark.peers) == ("npm:@scope/server==1.2.3", 9000, ("other", "third"))


def test_no_value_of_a_secret_is_in_a_label() -> None:
    secret = SecretUse("keys", "token", "d1")
    request = ask(image="i", env=(EnvEntry("TOKEN", secret=secret),), secret_values={"keys/token": "hunter2"})
    assert "hunter2" not in str(labels(mark_of(request, "prod")))


def test_a_container_without_our_labels_is_a_stranger() -> None:
    assert marked(NAME, None) is None
    assert marked(NAME, {"com.example": "x"}) is None


def test_a_container_made_of_an_image_of_ours_is_a_stranger() -> None:
    inherited = labels(mark())
    assert marked("somebodys", inherited) is None
    assert marked(NAME, {**inherited, "toolkeeper.dev/role": "build"}) is None


def test_a_name_of_another_server_does_not_fit() -> None:
    assert marked(NAME, labels(replace(mark(), server="tin"))) is None


def test_labels_that_somebody_broke_are_read_as_far_as_they_go() -> None:
    broken = {**labels(mark()), "toolkeeper.dev/port": "x", "toolkeeper.dev/renderer": ""}
    found = marked(NAME, broken)
    assert found is not None
    assert (found.port, found.renderer) == (0, 0)


def mark() -> Mark:
    return mark_of(ask(image="i"), "prod")
