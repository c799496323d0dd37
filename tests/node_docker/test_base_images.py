"""The Dockerfiles of the base images, on the bases that this machine has."""

from __future__ import annotations

from pathlib import Path

import docker
import pytest

IMAGES = Path(__file__).parents[2] / "images"

NEEDS = {
    "base-python": "python3 -m venv --without-pip /tmp/x && python3 -c 'import ssl'",
    "base-node": "node --version && npm --version",
}


@pytest.mark.docker
@pytest.mark.parametrize("name", NEEDS)
def test_a_base_image_has_what_builds_need_and_nothing_that_makes_root(
    docker_engine: docker.DockerClient, base_python: str, base_node: str, installation: str, name: str
) -> None:
    base = {"base-python": base_python, "base-node": base_node}[name]
    tag = f"toolkeeper-test/{name}:{installation}"
    docker_engine.images.build(path=str(IMAGES / name), tag=tag, buildargs={"BASE": base}, rm=True)
    try:
        for command in (NEEDS[name], "apt-get --version", "test -s /etc/ssl/certs/ca-certificates.crt"):
            docker_engine.containers.run(tag, ["sh", "-c", command], remove=True)
        found = docker_engine.containers.run(
            tag, ["sh", "-c", "find / -xdev -perm /6000 -type f"], remove=True
        )
        assert found == b""
    finally:
        docker_engine.images.remove(tag, force=True)
