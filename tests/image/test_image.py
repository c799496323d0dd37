"""The image of all programs, built from this tree on the local base."""

from __future__ import annotations

from collections.abc import Callable

import docker
import pytest
from docker.errors import ContainerError

from services.image import MARK
from toolkeeper import __version__

pytestmark = [pytest.mark.docker, pytest.mark.network]
Run = Callable[..., str]


@pytest.fixture
def run(docker_engine: docker.DockerClient, program_image: str) -> Run:
    """`run("version")` runs `toolkeeper version` as Kubernetes would: nobody, with no right, no file, no network."""

    def run(*arguments: str, entrypoint: list[str] | None = None) -> str:
        output: bytes = docker_engine.containers.run(
            program_image, list(arguments), entrypoint=entrypoint, remove=True, network_mode="none", read_only=True,
            cap_drop=["ALL"], security_opt=["no-new-privileges"], tmpfs={"/tmp": "size=16m,mode=1777"},
        )  # fmt: skip
        return output.decode()

    return run


def test_it_knows_its_version(run: Run) -> None:
    assert run("version").startswith(f"toolkeeper {__version__} (toolkeeper.dev/v1alpha1")


@pytest.mark.parametrize("program", ["operator", "node", "up", "plan", "retire"])
def test_every_program_is_in_it(run: Run, program: str) -> None:
    assert f"Usage: toolkeeper {program}" in run(program, "--help")


def test_it_has_what_every_extra_needs_and_no_installer(run: Run) -> None:
    run("-c", "import docker, fastapi, kopf, mcp, supabase", entrypoint=["/opt/toolkeeper/bin/python"])
    with pytest.raises(ContainerError, match="No module named pip"):
        run("-m", "pip", entrypoint=["/opt/toolkeeper/bin/python"])


def test_it_runs_as_nobody_without_being_told(docker_engine: docker.DockerClient, program_image: str) -> None:
    config = docker_engine.images.get(program_image).attrs["Config"]
    assert config["User"] == "65532:65532"
    assert config["Entrypoint"] == ["toolkeeper"]


def test_it_carries_the_definitions_of_its_version(run: Run) -> None:
    said = run("-c", "toolkeeper crds --dir /tmp/crds && ls /tmp/crds", entrypoint=["/bin/sh"])
    assert "mcpservers.yaml" in said


def test_nothing_of_this_machine_stays_in_it(
    docker_engine: docker.DockerClient, program_image: str, run: Run
) -> None:
    inside = docker_engine.images.get(program_image)
    assert MARK not in f"{inside.attrs}{inside.history()}"
    assert "build-settings" not in str(inside.history())
    assert [
        each for each in inside.attrs["Config"]["Env"] if "pip" in each.lower() or "proxy" in each.lower()
    ] == []
    look = f"ls -A /run/toolkeeper /src 2>/dev/null; grep -rls {MARK} /opt /etc /run /var /usr/local /home /srv || true"
    assert run("-c", look, entrypoint=["/bin/sh"]) == ""


def test_nothing_in_it_lets_somebody_become_root(run: Run) -> None:
    assert run("-c", "find / -xdev -perm /6000 -type f 2>/dev/null || true", entrypoint=["/bin/sh"]) == ""
