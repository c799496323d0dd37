"""Docker Engine: found running, or started as a child of this process."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from typing import IO

import docker
from docker.errors import DockerException
from docker.utils import parse_host

from services import cache, debian

START_SECONDS = 60


def client() -> docker.DockerClient:
    """A client for the engine that the environment names. Raises DockerException if none answers."""
    return docker.from_env(timeout=120)


def silent() -> str | None:
    """Why no engine answers; None if one does."""
    host = str(parse_host(os.environ.get("DOCKER_HOST")))
    try:
        if host.startswith("http+unix://"):
            _knock(host.removeprefix("http+unix://"))
        connected = client()
    except (DockerException, OSError) as error:
        return f"no Docker daemon answers ({type(error).__name__})"
    connected.close()
    return None


def _knock(path: str) -> None:
    """Raise OSError if nobody listens; the SDK would raise as well, but leave its socket open."""
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(10)
        door.connect(path)


def start() -> tuple[subprocess.Popen[bytes] | None, str | None]:
    """Have an engine answer: (the daemon started for that, None), (None, None) if one ran, (None, reason)."""
    if (reason := silent()) is None:
        return None, None
    if "DOCKER_HOST" in os.environ:
        return None, reason
    if (missing := debian.install({"docker.io": "dockerd", "iptables": "iptables"})) is not None:
        return None, f"{reason}; {missing}"
    if os.geteuid() != 0:
        return None, f"{reason}; starting one needs root"
    with (cache.folder() / "dockerd.log").open("ab") as log:
        daemon = _spawn(log)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if silent() is None:
            # Where installing the package has started a daemon as well, ours gives way to it and is no more.
            return (daemon if daemon.poll() is None else None), None
        time.sleep(0.2)
    stop(daemon)
    return None, f"dockerd does not start; see {cache.folder() / 'dockerd.log'}"


def stop(daemon: subprocess.Popen[bytes]) -> None:
    """End the daemon that `start` started; its containers end with it."""
    daemon.terminate()
    try:
        daemon.wait(timeout=60)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _spawn(log: IO[bytes]) -> subprocess.Popen[bytes]:
    program = shutil.which("dockerd") or "/usr/sbin/dockerd"
    # A session of its own: Ctrl-C in the terminal must reach the tests, which clean up with the daemon alive.
    return subprocess.Popen(
        [program], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
