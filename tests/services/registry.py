"""A real image registry, one for each test session, on a loopback port of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from services import debian

PACKAGES = {"docker-registry": "docker-registry", "apache2-utils": "htpasswd"}
START_SECONDS = 20


def missing() -> str | None:
    """Which program is missing; None if the registry can be started."""
    absent = [program for program in PACKAGES.values() if shutil.which(program) is None]
    return f"{' and '.join(absent)} missing" if absent else None


def install() -> str | None:
    """Install what is missing. Returns why that is not possible, or None."""
    return debian.install(PACKAGES)


@contextmanager
def running(folder: Path, *, username: str = "", password: str = "") -> Iterator[str]:
    """Serve images kept under `folder`; yields `localhost:PORT`, which Docker accepts without TLS.

    With a user name every request needs these credentials.
    """
    port = _free_port()
    config = folder / "registry.yml"
    auth = _require(folder, username, password) if username else ""
    config.write_text(
        f"version: 0.1\nlog: {{level: warn}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder / 'images'}}}, delete: {{enabled: true}}}}\n{auth}"
    )
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        _wait(process, port)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _require(folder: Path, username: str, password: str) -> str:
    users = folder / "htpasswd"
    subprocess.run(
        ["htpasswd", "-Bic", str(users), username], input=password.encode(), check=True, capture_output=True
    )
    return f"auth: {{htpasswd: {{realm: toolkeeper, path: {users}}}}}\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/v2/", trust_env=False).status_code in (200, 401):
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"docker-registry does not answer on port {port}")
