"""A daemon restarted under a living node agent. `test_restart_of_dockerd.py` runs it in a network of its own.

python -m node_docker.restart_scenario FOLDER IMAGE.tar IMAGE
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import docker
import pytest
from docker.errors import DockerException
from requests.exceptions import RequestException

from node_docker.conftest import SPACE, Place, a_runtime, ask
from node_docker.test_peers import until_reached
from node_docker.test_walls import addresses_of_host, listening, reached
from toolkeeper.errors import ToolkeeperError, Unreachable
from toolkeeper.node.docker import firewall
from toolkeeper.node.docker.settings import DockerSettings
from toolkeeper.planning.instance import Reach

INSTALLATION = "restart"
SECONDS = 60


@dataclass
class Daemon:
    """A dockerd of its own."""

    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / "docker.sock"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Started, and stopped as a service manager does."""
        command = ["dockerd", "--host", f"unix://{self.socket}"]
        for option in ("data-root", "exec-root", "pidfile"):
            command += [f"--{option}", str(self.folder / option)]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            self._wait(process)
            yield
        finally:
            process.terminate()
            process.wait(timeout=SECONDS)

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(f"unix://{self.socket}", version="1.41")

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        for _ in range(SECONDS * 10):
            try:
                if self.client().ping():
                    return
            except (DockerException, RequestException):
                time.sleep(0.1)
            if process.poll() is not None:
                break
        raise RuntimeError(f"dockerd does not start: {(self.folder / 'log').read_text()[-2000:]}")


async def scenario(daemon: Daemon, archive: bytes, image: str) -> None:
    settings = DockerSettings(
        socket=daemon.socket, addresses=SPACE, run=daemon.folder / "run", state=daemon.folder / "state"
    )
    runtime = a_runtime(settings)
    with daemon.running():
        daemon.client().images.load(archive)
        await runtime.open()
        place = Place(runtime, INSTALLATION, daemon.client(), settings)
        b = await place.up(ask("b", image=image))
        a = await place.up(ask("a", image=image, reach=Reach(peers=("b",))))
        out = await place.up(ask("out", image=image, reach=Reach(egress="allow")))
        stopped = await place.up(ask("stopped", image=image))
        await runtime.stop(stopped, 0)
        before = await runtime.look()
        changes = runtime.changes()
        assert await anext(changes) == ""
    assert await ended(changes), "nobody told that the daemon went away"
    with pytest.raises(Unreachable) as unreachable:
        await runtime.look()
    assert unreachable.value.reason == "RuntimeUnavailable"
    with daemon.running():
        again = runtime.changes()  # as the node does, with back-off
        assert await anext(again) == ""
        await again.aclose()
        await until_running(place, a, b, out)
        after = await runtime.look()
        assert after.containers[stopped].container.state == "exited"
        for name in (a, b, out):
            old, new = before.containers[name].container, after.containers[name].container
            assert (new.container_id, new.address) == (old.container_id, old.address)
            assert new.run_id != old.run_id
        await walled_in(place, a, b, out)
        for name in after.containers:
            await runtime.remove(name, 0)
        await runtime.leave(INSTALLATION)
        await runtime.aclose()


async def ended(changes: object) -> bool:
    """Whether the changes end with the daemon gone."""
    try:
        async with asyncio.timeout(SECONDS):
            async for _ in changes:  # type: ignore[attr-defined]
                pass
    except Unreachable:
        return True
    return False


async def until_running(place: Place, *names: str) -> None:
    for _ in range(100):
        try:
            seen = (await place.runtime.look()).containers
        except ToolkeeperError:
            seen = {}
        if all(name in seen and seen[name].container.state == "running" for name in names):
            return
        await anyio.sleep(0.1)
    raise AssertionError("not everything came back")


async def walled_in(place: Place, a: str, b: str, out: str) -> None:
    """The same walls as before, asked from inside."""
    assert await firewall.missing() is None
    assert await until_reached(place, a, "b")
    seen = (await place.runtime.look()).containers
    others = [
        (each.container.address.removeprefix("http://").partition(":")[0], 8000) for each in seen.values()
    ]
    with listening() as port:
        hosts = [(address, port) for address in addresses_of_host()]
        assert hosts
        for name in (b, out):
            mine = seen[name].container.address.removeprefix("http://").partition(":")[0]
            targets = [*hosts, *(each for each in others if each[0] != mine), ("169.254.169.254", 80)]
            found = reached(place, name, *targets)
            assert found == [], f"{name} reaches {found}"


if __name__ == "__main__":
    where, packed, named = sys.argv[1:]
    asyncio.run(scenario(Daemon(Path(where)), Path(packed).read_bytes(), named))
    sys.stdout.write("came back as walled in as before\n")
