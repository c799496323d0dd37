"""Which runtime a node uses, and why, in one sentence."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from toolkeeper.clock import Clock
from toolkeeper.errors import Invalid, Refused, ToolkeeperError
from toolkeeper.node.docker.settings import DockerSettings
from toolkeeper.node.runtime import Runtime
from toolkeeper.node.settings import NodeSettings
from toolkeeper.telemetry.logs import Log

if TYPE_CHECKING:
    from toolkeeper.node.docker.runtime import DockerRuntime

ASK_SECONDS = 10.0
BRIDGE_REMEDY = (
    "this node runs inside a container of Docker's bridge, from where it cannot reach private networks: "
    "run it on the host, or its container with --network host"
)


@dataclass(frozen=True, slots=True)
class Needs:
    """What the servers to come want from Docker, where that is known beforehand."""

    registries: frozenset[str] = frozenset()
    """Registries of their packages (pypi, npm): the base images."""
    images: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Chosen:
    """A runtime, open, and why it is this one."""

    runtime: Runtime
    because: str


async def choose(
    settings: NodeSettings,
    *,
    clock: Clock,
    environ: Mapping[str, str],
    new_id: Callable[[], str],
    chance: random.Random,
    log: Log,
    needs: Needs | None = None,
) -> Chosen:
    """Open the runtime that the settings ask for.

    Raises Refused or Unreachable when that one cannot be used; `auto` falls back to processes and says why.
    """
    if settings.runtime == "process":
        return await _opened(_process(settings, clock, environ, new_id, log), "it was asked for")
    problem = _obstacle(settings)
    if settings.runtime == "docker" and problem:
        raise Refused(problem, reason="RuntimeUnsupported")
    if not problem:
        docker = _docker(settings, clock, environ, chance)
        if settings.runtime == "docker":
            return await _opened(docker, "it was asked for")
        problem = await _problem_with(docker, needs or Needs())
        if not problem:
            return Chosen(docker, "its daemon answers and its containers can be reached")
        await docker.aclose()
    process = _process(settings, clock, environ, new_id, log)
    return await _opened(process, f"Docker cannot be used: {problem}")


def _obstacle(settings: NodeSettings) -> str:
    """What can be known to stand in Docker's way without asking it; empty when nothing does."""
    if not settings.docker_socket.exists():
        return f"there is no {settings.docker_socket}: Docker is not installed or does not run"
    return BRIDGE_REMEDY if in_bridge_container() else ""


def in_bridge_container(root: Path = Path("/")) -> bool:
    """Whether this is a container whose network is not the host's: it then has no bridge of Docker's in sight."""
    marks = (root / ".dockerenv", root / "run" / ".containerenv")
    bridges = (root / "sys" / "class" / "net").glob("*/bridge")
    return any(mark.exists() for mark in marks) and not any(bridges)


# Each runtime is imported where it is chosen: a node has one, and pays for one.


def _process(
    settings: NodeSettings, clock: Clock, environ: Mapping[str, str], new_id: Callable[[], str], log: Log
) -> Runtime:
    from toolkeeper.node.process.runtime import ProcessRuntime  # noqa: PLC0415 - as above

    return ProcessRuntime(
        settings.state_dir / "process",
        clock=clock,
        new_id=new_id,
        settings=environ,
        cache=settings.cache_dir,
        log=log,
    )


def _docker(
    settings: NodeSettings, clock: Clock, environ: Mapping[str, str], chance: random.Random
) -> DockerRuntime:
    from toolkeeper.node.docker.runtime import DockerRuntime  # noqa: PLC0415 - as above

    try:
        addresses = IPv4Network(settings.docker_addresses)
    except ValueError as exc:
        raise Invalid(f"docker_addresses: {exc}") from exc
    docker = DockerSettings(
        socket=settings.docker_socket,
        addresses=addresses,
        run=settings.run_dir,
        state=settings.state_dir,
        environment=environ,
    )
    if settings.base_python:
        docker = replace(docker, python_bases=(settings.base_python,))
    if settings.base_node:
        docker = replace(docker, node_bases=(settings.base_node,))
    return DockerRuntime(docker, clock=clock, chance=chance)


async def _opened(runtime: Runtime, because: str) -> Chosen:
    await runtime.open()
    return Chosen(runtime, because)


async def _problem_with(docker: DockerRuntime, needs: Needs) -> str:
    """Why it cannot be used; empty when it can, and is open."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            await docker.open()
            await docker.obtain(needs.registries, needs.images)
    except TimeoutError:
        return f"it did not answer within {ASK_SECONDS:g} s"
    except ToolkeeperError as error:
        return str(error)
    return ""
