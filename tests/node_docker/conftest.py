"""A real Docker runtime with an installation of its own, and images small enough to start in no time."""

from __future__ import annotations

import hashlib
import io
import random
import secrets
import tarfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import APIError, NotFound

import toolkeeper.testing.tiny_mcp
from toolkeeper.clock import SystemClock
from toolkeeper.node.docker.runtime import DockerRuntime
from toolkeeper.node.docker.settings import DockerSettings
from toolkeeper.planning.desired import container_name
from toolkeeper.planning.instance import EnvEntry, Instance
from toolkeeper.planning.observed import DockerState
from toolkeeper.reconcile.ports import InstanceRequest

SPACE = IPv4Network("10.213.0.0/16")
"""Another range than the default: a node agent on the same machine keeps its own."""


def silent(state: DockerState, text: str) -> None:
    """A step that nobody follows."""


def a_hash(text: str) -> str:
    """A spec hash."""
    return f"v1:sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def ask(
    server: str = "tiny",
    *,
    image: str,
    namespace: str = "default",
    version: str = "1",
    secret_values: Mapping[str, str] | None = None,
    username: str = "",
    password: str = "",
    **instance: Any,
) -> InstanceRequest:
    """A request for a server of that image; `instance` names what matters to the test."""
    wanted: dict[str, Any] = {"renderer": 1, "transport": "streamable-http", "port": 8000, "path": "/mcp"}
    wanted |= {"env": (EnvEntry("HOME", "/tmp"),), "image": image} | instance
    return InstanceRequest(
        namespace=namespace,
        server=server,
        hash=a_hash(f"{server} {version}"),
        uid=f"uid-{server}",
        instance=Instance(**wanted),
        secrets=secret_values or {},
        registry_username=username,
        registry_password=password,
    )


@dataclass
class Place:
    """One runtime, its installation, and a plain Docker client to check it with."""

    runtime: DockerRuntime
    installation: str
    engine: docker.DockerClient
    settings: DockerSettings
    steps: list[tuple[str, str]] = field(default_factory=list)

    def step(self, state: DockerState, text: str) -> None:
        """Remembers what was said."""
        self.steps.append((state, text))

    def called(self, request: InstanceRequest) -> str:
        """The name of the container for that request."""
        return container_name(self.installation, request.namespace, request.server, request.hash)

    async def up(self, request: InstanceRequest) -> str:
        """Create and start it. Returns its name."""
        name = self.called(request)
        await self.runtime.create(name, self.installation, request, self.step)
        return name

    async def first_line(self, name: str) -> str:
        """The first line that it writes, which is waited for."""
        async with aclosing(self.runtime.logs(name, tail=1, follow=True)) as lines:
            return await anext(lines)

    def inside(self, name: str, *command: str) -> tuple[int, str]:
        """(exit code, output) of a command run in that container, as its user."""
        code, output = self.engine.containers.get(name).exec_run(list(command))
        assert isinstance(output, bytes)
        return code or 0, output.decode(errors="replace")

    def python(self, name: str, code: str) -> str:
        """What that Python code prints in that container."""
        return self.inside(name, "python3", "-c", code)[1].strip()


@pytest.fixture
def installation(docker_engine: docker.DockerClient) -> Iterator[str]:
    """An installation id that nobody else has. Whatever carries it is removed at the end."""
    id = f"test{secrets.token_hex(4)}"
    yield id
    mine: dict[str, str | list[str] | bool] = {"label": f"toolkeeper.dev/installation={id}"}
    for container in docker_engine.containers.list(all=True, ignore_removed=True, filters=mine):
        with suppress(NotFound):
            container.remove(force=True, v=True)
    for volume in docker_engine.volumes.list(filters=mine):
        volume.remove(force=True)
    for network in docker_engine.networks.list(filters=mine):
        network.remove()


@pytest.fixture
def settings(tmp_path: Path, installation: str) -> DockerSettings:
    """Folders of the test's own."""
    mine = frozenset({installation})
    return DockerSettings(addresses=SPACE, run=tmp_path / "run", state=tmp_path / "state", only=mine)


@pytest.fixture
async def place(
    docker_engine: docker.DockerClient, installation: str, settings: DockerSettings, anyio_backend: str
) -> AsyncIterator[Place]:
    """A runtime that is open."""
    runtime = a_runtime(settings)
    await runtime.open()
    yield Place(runtime, installation, docker_engine, settings)
    await runtime.aclose()


def a_runtime(settings: DockerSettings) -> DockerRuntime:
    """A runtime that is not open yet: another node agent on the same host."""
    return DockerRuntime(settings, clock=SystemClock(), chance=random.Random(7))


@pytest.fixture(scope="session")
def tiny_image(docker_engine: docker.DockerClient, base_python: str) -> str:
    """An image that is a small MCP server over HTTP; with Python, so that tests can look around inside."""
    source = Path(toolkeeper.testing.tiny_mcp.__file__).read_bytes()
    dockerfile = f"""\
        FROM {base_python}
        COPY tiny_mcp.py /tiny_mcp.py
        ENTRYPOINT ["python3", "/tiny_mcp.py"]
        CMD ["--host", "0.0.0.0", "--port", "8000"]
    """
    return build(docker_engine, "tiny", {"Dockerfile": dockerfile.encode(), "tiny_mcp.py": source})


def build(engine: docker.DockerClient, name: str, files: Mapping[str, bytes]) -> str:
    """Build an image of those files, once for each content."""
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:12]
    tag = f"toolkeeper-test/{name}:{digest}"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    packed.seek(0)
    try:
        engine.images.get(tag)
    except APIError:
        engine.images.build(fileobj=packed, custom_context=True, tag=tag, rm=True)
    return tag


@pytest.fixture
def bare_image(docker_engine: docker.DockerClient, installation: str) -> Iterator[str]:
    """An image without a shell or anything else in it. What it says that it starts is not there."""
    yield from imported(docker_engine, f"toolkeeper-test/bare-{installation}", ['CMD ["/server"]'])


@pytest.fixture
def empty_image(docker_engine: docker.DockerClient, installation: str) -> Iterator[str]:
    """An image that does not say what to start."""
    yield from imported(docker_engine, f"toolkeeper-test/empty-{installation}", [])


def imported(engine: docker.DockerClient, repository: str, changes: list[str]) -> Iterator[str]:
    """An image without a single file, for the time of a test."""
    nothing = b"\0" * 10240
    engine.api.import_image_from_data(nothing, repository=repository, tag="1", changes=changes)
    yield f"{repository}:1"
    for container in engine.containers.list(
        all=True, ignore_removed=True, filters={"ancestor": f"{repository}:1"}
    ):
        container.remove(force=True)
    engine.images.remove(f"{repository}:1")
