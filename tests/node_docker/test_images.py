"""Images: pulled from a real registry, refused by it, and collected when nobody needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import docker
import pytest
from docker.errors import ImageNotFound

from node_docker.conftest import Place, ask, silent
from toolkeeper.errors import Fenced, Refused
from toolkeeper.node.docker.engine import Engine
from toolkeeper.node.docker.image_record import ImageRecord
from toolkeeper.node.docker.images import (
    Credentials,
    Images,
    PullProgress,
    facts_of,
    ours_to_remove,
    pull_error,
)
from toolkeeper.node.docker.settings import DAY
from toolkeeper.planning.observed import DockerState

anyio_test = pytest.mark.anyio
real = pytest.mark.registry

USER, PASSWORD = "toolkeeper", "correct horse"


@pytest.fixture
async def images(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Images]:
    engine = Engine("unix:///var/run/docker.sock")
    yield Images(engine, ImageRecord(tmp_path / "images.json"))
    await engine.aclose()


@pytest.fixture
def pushed(docker_engine: docker.DockerClient, image_registry: str, tiny_image: str) -> Iterator[str]:
    """An image in the open registry, and not on this host."""
    yield from push(docker_engine, f"{image_registry}/tiny", tiny_image)


@pytest.fixture
def private(docker_engine: docker.DockerClient, private_registry: str, tiny_image: str) -> Iterator[str]:
    """An image in the registry with a password, and not on this host."""
    yield from push(docker_engine, f"{private_registry}/tiny", tiny_image)


def push(engine: docker.DockerClient, repository: str, image: str) -> Iterator[str]:
    engine.images.get(image).tag(repository, "1")
    said = engine.api.push(repository, "1", auth_config={"username": USER, "password": PASSWORD}, stream=True)
    assert b"error" not in b"".join(said)
    engine.images.remove(f"{repository}:1")
    yield f"{repository}:1"
    for each in engine.images.list(repository):
        names = [*each.tags, *each.attrs["RepoDigests"]]  # others of the same content stay
        for name in [name for name in names if name.startswith(repository)]:
            with suppress(ImageNotFound):
                engine.images.remove(name)


@real
@anyio_test
async def test_an_image_is_pulled_with_progress_and_its_digest_is_known(images: Images, pushed: str) -> None:
    said: list[tuple[str, str]] = []
    facts = await images.ensure(pushed, "IfNotPresent", Credentials(), lambda *step: said.append(step))
    assert said[0] == ("pulling", "")
    assert facts.digest.startswith("sha256:")
    assert facts.digest != facts.id
    assert facts.starts


@real
@anyio_test
async def test_what_is_there_is_not_pulled_again_unless_asked_to(images: Images, pushed: str) -> None:
    await images.ensure(pushed, "IfNotPresent", Credentials(), silent)
    said: list[tuple[str, str]] = []
    for policy, expected in (("IfNotPresent", 0), ("Never", 0), ("Always", 1)):
        await images.ensure(pushed, policy, Credentials(), lambda *step: said.append(step))  # type: ignore[arg-type]
        assert len([step for step in said if step == ("pulling", "")]) == expected


@real
@anyio_test
async def test_many_ask_and_one_pulls(images: Images, pushed: str) -> None:
    said: list[tuple[str, str]] = []

    async def one() -> None:
        await images.ensure(pushed, "IfNotPresent", Credentials(), lambda *step: said.append(step))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(one)
    assert said.count(("pulling", "")) == 1


@real
@anyio_test
async def test_a_digest_pins_the_image(images: Images, pushed: str) -> None:
    digest = (await images.ensure(pushed, "IfNotPresent", Credentials(), silent)).digest
    pinned = f"{pushed.removesuffix(':1')}@{digest}"
    assert (await images.ensure(pinned, "IfNotPresent", Credentials(), silent)).digest == digest


@real
@anyio_test
async def test_a_registry_lets_in_who_has_the_password(images: Images, private: str) -> None:
    for credentials in (Credentials(), Credentials(USER, "wrong")):
        with pytest.raises(Refused) as refused:
            await images.ensure(private, "IfNotPresent", credentials, silent)
        assert refused.value.reason == "RegistryDenied"
        assert "wrong" not in str(refused.value)
    assert (await images.ensure(private, "IfNotPresent", Credentials(USER, PASSWORD), silent)).starts


@real
@anyio_test
async def test_the_password_of_a_request_reaches_the_registry_and_nothing_else(
    place: Place, private: str
) -> None:
    name = await place.up(ask(image=private, username=USER, password=PASSWORD))
    seen = await place.runtime.look_at(name)
    assert seen is not None
    assert seen.container.image_digest.startswith("sha256:")
    assert PASSWORD not in str(place.engine.api.inspect_container(name))


@real
@anyio_test
async def test_an_image_that_does_not_exist_is_told_from_one_that_cannot_be_had_now(
    images: Images, image_registry: str
) -> None:
    reasons = {}
    for reference in (f"{image_registry}/none:1", "localhost:1/none:1"):
        with pytest.raises(Refused) as refused:
            await images.ensure(reference, "IfNotPresent", Credentials(), silent)
        reasons[reference] = refused.value.reason
    assert list(reasons.values()) == ["ImageNotFound", "ImagePullFailed"]


@real
@anyio_test
async def test_whether_an_image_could_be_pulled_is_asked_without_pulling_it(
    images: Images, image_registry: str, pushed: str
) -> None:
    await images.offered(pushed, 10)
    assert await images.find(pushed) is None
    for reference in (f"{image_registry}/none:1", "localhost:1/none:1"):
        with pytest.raises(Refused, match=f"{reference} cannot be pulled"):
            await images.offered(reference, 10)


@pytest.mark.docker
@anyio_test
async def test_an_image_that_must_not_be_pulled_is_not(images: Images) -> None:
    with pytest.raises(Refused, match="pullPolicy is Never") as refused:
        await images.ensure("localhost:1/none:1", "Never", Credentials(), silent)
    assert refused.value.reason == "ImageNotFound"


@real
@anyio_test
async def test_a_pull_for_a_stale_leader_is_given_up(images: Images, pushed: str) -> None:
    def fenced(state: DockerState, text: str) -> None:
        raise Fenced("a newer leader exists")

    with pytest.raises(Fenced):
        await images.ensure(pushed, "IfNotPresent", Credentials(), fenced)
    assert await images.find(pushed) is None


@real
@anyio_test
async def test_only_what_this_node_brought_and_nobody_uses_is_collected(
    images: Images, pushed: str, docker_engine: docker.DockerClient, tiny_image: str
) -> None:
    facts = await images.ensure(pushed, "IfNotPresent", Credentials(), silent)
    using = docker_engine.containers.create(pushed)

    async def collect(now: float, keep: str = "") -> tuple[str, ...]:
        return await images.collect(keep=frozenset({keep}), unused_seconds=100, now=now)

    assert await collect(1000) == ()
    assert await collect(2000) == ()
    using.remove()
    assert await collect(2050) == ()
    assert await collect(2300, keep=pushed) == ()
    assert await collect(2350) == ()
    assert await collect(2500) == (pushed,)
    assert await images.find(pushed) is None
    assert await images.find(tiny_image) is not None  # of the same content, and not ours
    assert await collect(9999) == ()
    assert facts.id not in dict(images.record.entries())


def test_a_record_outlives_the_agent_and_a_broken_one_is_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "state" / "images.json"
    record = ImageRecord(path)
    record.brought("sha256:1", "a:1")
    record.used("sha256:1", 5.0)
    record.used("sha256:strange", 5.0)
    assert [each.used for _, each in ImageRecord(path).entries()] == [5.0]
    path.write_text("{broken")
    assert list(ImageRecord(path).entries()) == []


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("manifest for localhost:5000/x:1 not found: manifest unknown: manifest unknown", "ImageNotFound"),
        ("no matching manifest for linux/arm64 in the manifest list entries", "ImageNotFound"),
        ("invalid reference format: repository name must be lowercase", "ImageNotFound"),
        (
            "pull access denied for x, repository does not exist or may require 'docker login': denied: "
            "requested access to the resource is denied",
            "RegistryDenied",
        ),
        ("Get http://r/v2/x/manifests/1: no basic auth credentials", "RegistryDenied"),
        ("unauthorized: authentication required", "RegistryDenied"),
        ("Get https://r/v2/: dial tcp 192.0.2.1:443: i/o timeout", "ImagePullFailed"),
        ("Get https://r/v2/: dial tcp: lookup r: no such host", "ImagePullFailed"),
        ("toomanyrequests: You have reached your pull rate limit", "ImagePullFailed"),
        ("received unexpected HTTP status: 503 Service Unavailable", "ImagePullFailed"),
        ("write /var/lib/docker/tmp/x: no space left on device", "NoSpace"),
    ],
)
def test_what_a_daemon_says_of_a_failed_pull_has_a_reason(said: str, reason: str) -> None:
    error = pull_error("x:1", said, anonymous=True)
    assert error.reason == reason
    assert said in str(error)


def test_a_refusal_says_what_to_try() -> None:
    assert "pullSecretRef" in str(pull_error("x:1", "unauthorized", anonymous=True))
    assert "pullSecretRef's user" in str(pull_error("x:1", "unauthorized", anonymous=False))


def message(layer: str, status: str, current: int = 0, total: int = 0) -> dict[str, object]:
    return {"id": layer, "status": status, "progressDetail": {"current": current, "total": total}}


def test_a_pull_is_half_downloading_and_half_unpacking_and_whole_only_at_its_end() -> None:
    progress = PullProgress()
    said = [
        progress.feed(each)
        for each in (
            message("1", "Pulling from x"),
            message("a", "Downloading", 50, 100),
            message("a", "Downloading", 50, 100),
            message("b", "Downloading", 0, 300),
            message("a", "Downloading", 100, 100),
            message("b", "Downloading", 300, 300),
            message("a", "Extracting", 100, 100),
            message("a", "Pull complete"),
            message("b", "Pull complete"),
        )
    ]
    assert said == [None, "25 %", None, "6 %", "12 %", "50 %", "62 %", None, "99 %"]


def test_facts_are_read_from_what_the_daemon_says() -> None:
    found = {
        "Id": "sha256:id",
        "RepoDigests": ["other@sha256:o", "localhost:5000/x@sha256:d"],
        "Config": {"Env": ["A=1"], "Cmd": ["run"], "User": "app", "StopSignal": "SIGINT"},
    }
    facts = facts_of(found, "localhost:5000/x:1")
    assert (facts.digest, facts.user, facts.stop_signal, facts.starts) == ("sha256:d", "app", "SIGINT", True)
    bare = facts_of({"Id": "sha256:id", "RepoDigests": None, "Config": None}, "x")
    assert (bare.digest, bare.starts) == ("sha256:id", False)


FOUND = {"Id": "sha256:1", "RepoTags": ["acme/x:1"], "RepoDigests": ["acme/x@sha256:a"]}


@pytest.mark.parametrize(
    ("changed", "reference", "target"),
    [
        ({}, "acme/x:1", "acme/x:1"),
        ({"RepoTags": ["acme/x:1", "mine:1"]}, "acme/x:1", "acme/x:1"),
        ({}, "acme/x@sha256:a", "acme/x@sha256:a"),
        ({"RepoTags": []}, "acme/x:1", "sha256:1"),
        ({"RepoTags": None, "RepoDigests": None}, "acme/x:1", "sha256:1"),
        ({"RepoTags": ["mine:1"]}, "acme/x:1", None),
        ({"RepoTags": [], "RepoDigests": ["mine@sha256:a"]}, "acme/x:1", None),
    ],
)
def test_an_image_goes_by_our_name_and_not_at_all_when_only_others_name_it(
    changed: dict[str, object], reference: str, target: str | None
) -> None:
    assert ours_to_remove({**FOUND, **changed}, reference) == target


@real
@anyio_test
async def test_what_the_history_may_go_back_to_is_not_collected(
    place: Place, pushed: str, tiny_image: str
) -> None:
    first, second = ask(image=pushed), ask(image=tiny_image, version="2")
    old = await place.up(first)
    await place.up(second)
    await place.runtime.remove(old, 0)

    async def later(weeks: int) -> tuple[str, ...]:
        return await place.runtime.collect(1_000_000.0 + weeks * 8 * DAY)

    assert [await later(weeks) for weeks in range(4)] == [()] * 4
    await place.runtime.remove(place.called(second), 0)
    assert [await later(weeks) for weeks in range(4, 7)].count((pushed,)) == 1
    with pytest.raises(ImageNotFound):
        place.engine.images.get(pushed)
    place.engine.images.get(tiny_image)  # of the same content, and not ours
