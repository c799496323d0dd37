"""The node agent inside `toolkeeper up`: which runtime it takes and why, and serving it on loopback."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import uvicorn

from toolkeeper.clock import SystemClock
from toolkeeper.errors import Invalid, ToolkeeperError
from toolkeeper.node.app import make_app
from toolkeeper.node.docker_runtime import DockerRuntime
from toolkeeper.node.docker_settings import DockerSettings
from toolkeeper.node.gate import Gate, TokenFile, token_file
from toolkeeper.node.node import Node
from toolkeeper.node.notebook import Notebook
from toolkeeper.node.process_runtime import ProcessRuntime
from toolkeeper.node.runtime import Runtime
from toolkeeper.wiring.places import LocalNode, Place, keep_local_node

PORT = 30000
ASKED_SECONDS = 10.0
"""How long Docker may take to show that it can be used."""

Choice = Literal["auto", "docker", "process"]


@dataclass(frozen=True, slots=True)
class Needs:
    """What the servers to come want from Docker."""

    registries: frozenset[str] = frozenset()
    """Registries of packages: their base images."""
    images: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Chosen:
    """A runtime that is open, and the sentence that says why it was taken."""

    runtime: Runtime
    because: str


async def choose(place: Place, choice: Choice, needs: Needs) -> Chosen:
    """The runtime to use, open. Raises what says why the one that was named cannot be used."""
    if choice == "process":
        return Chosen(await _process(place), "as asked; nothing isolates the servers")
    try:
        async with asyncio.timeout(ASKED_SECONDS if choice == "auto" else None):
            runtime = await _docker(place, needs)
    except (ToolkeeperError, TimeoutError) as exc:
        if choice == "docker":
            raise
        why = f"no answer within {ASKED_SECONDS:g} s" if isinstance(exc, TimeoutError) else str(exc)
        return Chosen(await _process(place), f"Docker cannot be used ({why}); nothing isolates the servers")
    return Chosen(runtime, "as asked" if choice == "docker" else "its daemon answers")


async def _docker(place: Place, needs: Needs) -> Runtime:
    settings = DockerSettings(
        socket=Path(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")),
        state=place.root / "docker",
        environment=dict(os.environ),
    )
    settings = _with_bases(settings, os.environ)
    runtime = DockerRuntime(settings, clock=SystemClock(), chance=random.Random())  # noqa: S311 – addresses
    try:
        await runtime.open()
        await runtime.obtain(needs.registries, needs.images)
    except BaseException:
        await runtime.aclose()
        raise
    return runtime


def _with_bases(settings: DockerSettings, environment: Mapping[str, str]) -> DockerSettings:
    """With the base images that were configured, in place of the defaults."""
    python, node = environment.get("TOOLKEEPER_BASE_PYTHON"), environment.get("TOOLKEEPER_BASE_NODE")
    return replace(
        settings,
        python_bases=(python,) if python else settings.python_bases,
        node_bases=(node,) if node else settings.node_bases,
    )


async def _process(place: Place) -> Runtime:
    cache = (
        Path(os.environ.get("XDG_CACHE_HOME", "") or Path.home() / ".cache") / "toolkeeper" / "environments"
    )
    runtime = ProcessRuntime(
        place.folder / "node" / "processes",
        clock=SystemClock(),
        new_id=_new_id,
        settings=dict(os.environ),
        cache=cache,
    )
    await runtime.open()
    return runtime


@asynccontextmanager
async def embedded(
    place: Place, runtime: Runtime, *, port: int = PORT
) -> AsyncIterator[tuple[Node, LocalNode]]:
    """A node over an open runtime, served on loopback: on `port`, or on a free one when that is taken."""
    tokens = place.folder / "node.token"
    token_file(tokens, secrets.token_urlsafe(32))
    folder = place.folder / "node"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    clock = SystemClock()
    node = Node(runtime, Notebook(folder / "notebook.db"), clock=clock, boot=secrets.token_hex(6))
    await node.open()
    door = _door(port)
    app = make_app(node, gate=Gate(TokenFile(tokens), clock), clock=clock, new_id=_new_id)
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    )
    endpoint = f"http://127.0.0.1:{door.getsockname()[1]}"
    serving = asyncio.create_task(server.serve(sockets=[door]), name="node api")
    keep_local_node(place, endpoint, tokens)
    try:
        yield node, LocalNode(endpoint, tokens, os.getpid())
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await node.aclose()
            await serving
        door.close()


def _new_id() -> str:
    return secrets.token_hex(16)


def _door(port: int) -> socket.socket:
    door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # Small answers on a socket that we made: without this each would wait for the last one's acknowledgement.
    door.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for each in (port, 0):
        try:
            door.bind(("127.0.0.1", each))
            door.listen(128)
        except OSError:
            continue
        return door
    raise Invalid("no port on 127.0.0.1 can be had for the node agent")
