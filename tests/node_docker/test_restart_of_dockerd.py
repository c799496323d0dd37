"""A restart of the daemon under a living node agent: everything comes back, as walled in as before."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def own_network() -> Iterator[str]:
    """A network namespace: a second daemon would otherwise rewrite the firewall of the first."""
    name = f"toolkeeper-{secrets.token_hex(4)}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False, text=True)
    if made.returncode != 0:
        pytest.skip(f"no network namespace can be made: {made.stderr.strip()}")
    try:
        # Not `ip netns exec`, which hides the control groups that the daemon needs.
        inside = f"/var/run/netns/{name}"
        subprocess.run(["nsenter", f"--net={inside}", "ip", "link", "set", "lo", "up"], check=True)
        yield inside
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path: that of a socket may not be long."""
    path = Path("/tmp", f"tkd-{secrets.token_hex(4)}")
    path.mkdir(mode=0o700)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("dockerd") is None or os.geteuid() != 0, reason="needs root and a dockerd of its own"
)
def test_after_a_restart_of_the_daemon_everything_is_back_and_walled_in(
    docker_engine: docker.DockerClient, tiny_image: str, own_network: str, folder: Path
) -> None:
    archive = folder / "image.tar"
    with archive.open("wb") as file:
        for piece in docker_engine.images.get(tiny_image).save(named=True):
            file.write(piece)
    done = subprocess.run(
        ["nsenter", f"--net={own_network}", sys.executable, "-m", "node_docker.restart_scenario",
         str(folder), str(archive), tiny_image],
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT / 'tests'}"},
        capture_output=True, check=False, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    assert "came back" in done.stdout
