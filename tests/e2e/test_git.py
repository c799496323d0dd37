"""An operator that follows a Git server: what is pushed runs, and what cannot be believed changes nothing."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import docker
import pytest
import yaml
from docker.models.containers import Container

from benchmarks.rig.engine import Engine
from benchmarks.rig.plane import manifest, sweep
from e2e.following import BROKEN, LOGIN, WEBHOOK_SECRET, Following, server, signed
from e2e.rig import TINY, build_tiny, is_ready
from toolkeeper.testing.git_server import GitServer
from toolkeeper.testing.wheels import offline, tiny_package

pytestmark = [pytest.mark.process, pytest.mark.anyio]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Path]:
    """Where pip finds the tiny server, and where it is kept between tests once it is installed."""

    index = tmp_path_factory.mktemp("index")
    tiny_package(index)
    return offline(index, os.environ), tmp_path_factory.mktemp("environments")


@pytest.fixture
async def following(tmp_path: Path, packages: tuple[dict[str, str], Path]) -> AsyncIterator[Following]:
    served = tmp_path / "served"
    served.mkdir()
    with GitServer(served).running() as git:
        made = Following(tmp_path, *packages, git)
        yield made
        await made.stop()


async def test_what_is_pushed_runs_and_its_commit_is_shown_wherever_people_look(following: Following) -> None:
    await following.begin(time=server(version="1.0.0"))
    first = following.repository.head
    before = await following.version("1.0.0")
    assert following.commits() == {"time": {"file": "time.yaml", "commit": first, "synced": first}}

    second = following.push({"time.yaml": server(version="2.0.0")})
    after = await following.version("2.0.0")
    assert after.status.container_id != before.status.container_id
    third = following.push({"notes.txt": "of no concern to any server\n"})
    await following.logged("commit in force", third)

    assert following.commits() == {"time": {"file": "time.yaml", "commit": second, "synced": third}}
    wide = following.run("get", "servers", "-o", "wide").stdout
    assert wide.splitlines()[0].endswith("COMMIT")
    assert wide.splitlines()[1].endswith(second[:7])
    assert f"{first[:7]} → {second[:7]} (time.yaml)" in following.run("events", "server", "time").stdout
    assert "nothing to do" in following.run("plan").stdout
    assert f"since commit {second[:7]}\n" in following.run("describe", "server", "time").stdout
    assert f'toolkeeper_git_commit{{commit="{third}"}} 1.0' in following.metrics()
    assert (await following.until(is_ready)).status.container_id == after.status.container_id


async def test_a_broken_document_keeps_its_last_good_commit_and_says_so_where_people_look(
    following: Following,
) -> None:
    await following.begin(time=server(version="1.0.0"))
    first = following.repository.head
    before = await following.until(is_ready)

    second = following.push({"time.yaml": BROKEN, "other.yaml": server("other")})
    await following.until(is_ready, "other")

    kept = await following.until(is_ready)
    assert kept.status.container_id == before.status.container_id
    got = following.run("get", "servers")
    assert "Warning: " in got.stderr
    assert "time.yaml:" in got.stderr
    assert following.commits()["time"] == {"file": "time.yaml", "commit": first, "synced": second}
    events = following.run("events", "server", "time").stdout
    assert f"NotSynced   {second[:7]} is not taken, what {first[:7]} says stays in force" in events
    assert "Problem: " in following.run("describe", "server", "time").stdout
    await following.logged("source has a problem", "time.yaml:")

    following.push({"time.yaml": server(version="3.0.0")})
    await following.version("3.0.0")
    assert following.run("get", "servers").stderr == ""


async def test_rewritten_history_is_followed_a_deleted_branch_and_a_dead_server_are_not(
    following: Following,
) -> None:
    await following.begin(time=server(version="1.0.0"))
    following.push({"time.yaml": server(version="2.0.0")})
    await following.version("2.0.0")

    following.repository.git("reset", "--quiet", "--hard", "HEAD~1")
    following.push({"time.yaml": server(version="3.0.0")}, "--force")
    kept = await following.version("3.0.0")
    await following.logged("history was rewritten, and is followed")

    following.repository.git("-C", str(following.bare), "update-ref", "-d", "refs/heads/main")
    await following.logged("source not pulled", "has it been deleted?")
    assert "not pulled since" in following.run("get", "servers").stderr
    following.push({"time.yaml": server(version="4.0.0")})
    kept = await following.version("4.0.0")

    following.git.status = 503
    await following.logged("source not pulled", "503")
    assert (await following.until(is_ready)).status.container_id == kept.status.container_id
    following.git.status = None
    following.push({"time.yaml": server(version="5.0.0")})
    await following.version("5.0.0")
    assert following.run("get", "servers").stderr == ""


async def test_an_emptied_folder_and_a_missing_one_delete_nothing(following: Following) -> None:
    await following.begin(time=server())
    before = await following.until(is_ready)

    following.push({"time.yaml": None, "toolbox.yaml": None})
    await following.logged("source has a problem", "nothing is deleted")
    following.push({"toolkeeper.yaml": None})
    await following.logged("source not pulled", "no folder production")

    after = await following.until(is_ready)
    assert after.metadata.deletion_timestamp is None
    assert after.status.container_id == before.status.container_id
    assert "nothing is deleted" in following.run("get", "servers").stderr


async def test_only_who_knows_the_secret_makes_the_operator_pull(following: Following) -> None:
    await following.begin(*following.with_webhook(), time=server(version="1.0.0"))
    pulls = len(following.git.requests)

    following.push({"time.yaml": server(version="2.0.0")})
    body = b'{"ref": "refs/heads/main"}'
    assert await following.ring(signed(body, "a guess"), body) == 401
    assert await following.ring({"X-Gitlab-Token": "a guess"}, body) == 401
    assert await following.ring({}, body) == 401
    assert len(following.git.requests) == pulls

    assert await following.ring(signed(body), body) == 202
    await following.version("2.0.0")
    following.push({"time.yaml": server(version="3.0.0")})
    assert await following.ring({"X-Gitlab-Token": WEBHOOK_SECRET}, body) == 202
    await following.version("3.0.0")


async def test_an_operator_killed_while_it_pulls_goes_on_with_the_last_good_commit(
    following: Following,
) -> None:
    await following.begin(time=server(version="1.0.0"))
    before, first = await following.until(is_ready), following.repository.head

    following.git.stalled.set()
    following.push({"time.yaml": server(version="2.0.0")})
    assert following.git.waiting.wait(20)
    following.end("operator")
    already = len(following.log("operator"))
    following.start_operator()  # the killed one's git still hangs on the server, and holds the cache
    await following.logged("operator starts", first, since=already)
    assert (await following.until(is_ready)).status.container_id == before.status.container_id

    following.git.stalled.clear()
    await following.version("2.0.0")


async def test_commits_in_quick_succession_are_never_mixed(following: Following) -> None:
    names = ("one", "two")
    await following.begin(**{name: server(name, "0.0.0") for name in names})
    for number in range(1, 6):
        following.push({f"{name}.yaml": server(name, f"{number}.0.0") for name in names})
    for name in names:
        await following.version("5.0.0", name)

    said = {name: following.run("events", "server", name).stdout.splitlines() for name in names}
    taken = {
        name: [line.split("Synced")[1].split("(")[0].strip() for line in lines if " Synced " in line]
        for name, lines in said.items()
    }
    assert taken["one"] == taken["two"]


@pytest.mark.docker
async def test_a_push_replaces_a_container_when_the_new_one_answers(
    tmp_path: Path, docker_engine: docker.DockerClient, base_python: str
) -> None:
    build_tiny(docker_engine, base_python)
    (tmp_path / "served").mkdir()
    with GitServer(tmp_path / "served").running() as git, closing(Engine()) as engine:
        following = Following(tmp_path, dict(os.environ), tmp_path, git, runtime="docker")
        try:
            await following.begin(time=_contained("1.0.0"))
            before = await following.version("1.0.0")
            following.push({"time.yaml": _contained("2.0.0")})
            after = await following.version("2.0.0")
            await following.until(lambda _: len(_containers(docker_engine, following)) == 1)
            (left,) = _containers(docker_engine, following)
            assert before.status.container_id != after.status.container_id == left.id
            assert following.commits()["time"]["commit"] == following.repository.head
        finally:
            await following.stop()
            sweep(engine, following.installation)
            shutil.rmtree(f"/dev/shm/{following.installation}", ignore_errors=True)


def _contained(version: str) -> str:
    env = [{"name": "TINY_VERSION", "value": version}]
    return yaml.safe_dump(manifest("time", {"image": TINY, "env": env}))


def _containers(engine: docker.DockerClient, following: Following) -> list[Container]:
    label = f"toolkeeper.dev/installation={following.installation}"
    return engine.containers.list(all=True, ignore_removed=True, filters={"label": label})


async def test_the_credentials_are_in_no_argument_no_log_and_no_file(following: Following) -> None:
    following.git.stalled.set()
    following.push({"toolkeeper.yaml": f"installation: {following.installation}\n"})
    following.start_operator()
    assert following.git.waiting.wait(20)
    lines = following.commands()
    following.git.stalled.clear()
    await following.logged("operator starts", following.repository.head)

    assert [line for line in lines if b"fetch" in line]
    secrets = [LOGIN.partition(":")[2].encode(), base64.b64encode(LOGIN.encode())]
    everything = [*lines, *following.kept(), following.log("operator").encode()]
    assert not [text for text in everything for secret in secrets if secret in text]
