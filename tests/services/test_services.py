"""The real parts that other tests stand on are what they are said to be."""

from __future__ import annotations

from pathlib import Path

import docker
import httpx
import pytest
from docker.errors import APIError

from services import groups, registry


@pytest.mark.docker
@pytest.mark.parametrize(
    ("program", "says"),
    [
        ("python3 --version", "Python 3."),
        ("python3 -m venv --help", "usage"),
        ("cat /etc/os-release", "Debian"),
    ],
)
def test_the_python_base_image_carries_what_package_builds_need(
    docker_engine: docker.DockerClient, base_python: str, program: str, says: str
) -> None:
    output = docker_engine.containers.run(base_python, program, remove=True, network_mode="none")
    assert says in output.decode()


@pytest.mark.docker
@pytest.mark.parametrize(
    ("program", "says"), [("node --version", "v24."), ("npm --version", "."), ("npx --version", ".")]
)
def test_the_node_base_image_runs_node_npm_and_npx(
    docker_engine: docker.DockerClient, base_node: str, program: str, says: str
) -> None:
    output = docker_engine.containers.run(base_node, program, remove=True, network_mode="none")
    assert says in output.decode()


@pytest.mark.docker
def test_base_images_run_as_nobody_on_a_read_only_root(
    docker_engine: docker.DockerClient, base_python: str
) -> None:
    output = docker_engine.containers.run(
        base_python, ["python3", "-c", "print('ok')"], remove=True, network_mode="none",
        read_only=True, user="65532:65532", cap_drop=["ALL"], security_opt=["no-new-privileges"],
    )  # fmt: skip
    assert output == b"ok\n"


@pytest.mark.registry
def test_an_image_pushed_to_the_registry_comes_back_with_the_same_digest(
    docker_engine: docker.DockerClient, base_python: str, image_registry: str
) -> None:
    name = f"{image_registry}/toolkeeper/pushed"
    docker_engine.images.get(base_python).tag(name, "1")
    pushed = [line["aux"]["Digest"] for line in docker_engine.images.push(name, "1", stream=True, decode=True)
              if "aux" in line]  # fmt: skip
    docker_engine.images.remove(f"{name}:1")
    pulled = docker_engine.images.pull(name, "1")
    docker_engine.images.remove(f"{name}:1")
    assert pulled.attrs["RepoDigests"] == [f"{name}@{pushed[0]}"]


@pytest.mark.registry
def test_the_private_registry_turns_strangers_away(
    docker_engine: docker.DockerClient, private_registry: str
) -> None:
    with pytest.raises(APIError, match="no basic auth credentials"):
        docker_engine.images.pull(f"{private_registry}/toolkeeper/anything", "1")
    answer = httpx.get(f"http://{private_registry}/v2/", auth=("toolkeeper", "correct horse"))
    assert answer.status_code == 200


@pytest.mark.registry
def test_a_registry_is_gone_when_its_tests_are_done(tmp_path: Path) -> None:
    with registry.running(tmp_path) as address:
        assert httpx.get(f"http://{address}/v2/").status_code == 200
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{address}/v2/")


def test_every_group_is_a_registered_marker(pytestconfig: pytest.Config) -> None:
    registered = {line.partition(":")[0] for line in pytestconfig.getini("markers")}
    assert set(groups.ALL) <= registered
