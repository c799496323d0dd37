"""The servers of examples/servers, brought up as a person would try them: all at once, without Docker and with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from benchmarks.rig.plane import PROGRAM

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "servers"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
FIRST_TIME_SECONDS = 600
"""Packages come from the registries, images are built; with both in their caches it is a tenth of it."""

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(FIRST_TIME_SECONDS + 60)]


@pytest.fixture
def installation(docker_engine: docker.DockerClient) -> Iterator[str]:
    """One whose volumes go afterwards: `up` keeps them, since the examples do not ask it to delete any."""
    own = f"examples{os.getpid()}"
    yield own
    for volume in docker_engine.volumes.list(filters={"label": f"toolkeeper.dev/installation={own}"}):
        volume.remove()


def brought_up(runtime: str, installation: str, state: Path) -> dict[str, list[str]]:
    """Server → tools, of those that were Ready. Fails the test when `up` says that not all were."""
    own = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [
            *(PROGRAM, "up", str(EXAMPLES), "--check", "--runtime", runtime, "-o", "json"),
            *(
                "--timeout",
                str(FIRST_TIME_SECONDS),
                "--installation",
                installation,
                "--state-dir",
                str(state),
            ),
        ],
        env={**os.environ, **own},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return {each["name"]: each["tools"] for each in json.loads(done.stdout)["servers"] if each["ready"]}


@pytest.mark.process
def test_every_example_is_ready_without_docker_and_without_an_account(tmp_path: Path) -> None:
    ready = brought_up("process", f"examples{os.getpid()}", tmp_path)
    assert sorted(ready) == NAMES
    assert all(ready.values())


@pytest.mark.docker
def test_every_example_is_ready_in_containers_and_its_data_outlive_them(
    installation: str, docker_engine: docker.DockerClient, base_python: str, base_node: str, tmp_path: Path
) -> None:
    ready = brought_up("docker", installation, tmp_path)
    assert sorted(ready) == NAMES
    assert all(ready.values())
    mark = f"toolkeeper.dev/installation={installation}"
    assert docker_engine.containers.list(all=True, ignore_removed=True, filters={"label": mark}) == []
    kept = {volume.name for volume in docker_engine.volumes.list(filters={"label": mark})}
    volumes = ("filesystem_files", "git_repositories", "sqlite_database")
    assert kept == {f"tk_{installation}_default_{each}" for each in volumes}
