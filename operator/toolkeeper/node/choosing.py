"""Which runtime a node uses, and why, in one sentence."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

from toolkeeper.clock import Clock
from toolkeeper.errors import Invalid, Refused, ToolkeeperError, Unreachable
from toolkeeper.node.docker.settings import DockerSettings
from toolkeeper.node.runtime import Runtime
from toolkeeper.node.settings import NodeSettings
from toolkeeper.telemetry.logs import Log

if TYPE_CHECKING:
    from toolkeeper.node.docker.runtime import DockerRuntime

ASK_SECONDS = 10
RECORD = "runtime"
"""File in the state directory: the runtime that this node used last."""
BRIDGE_REMEDY = (
    "this node runs inside a container of Docker's bridge, from where it cannot reach private networks: "
    "run it on the host, or its container with --network host"
)


@dataclass(frozen=True, slots=True)
class Needs:
    """What the servers to come want from Docker, where that is known beforehand.

    Not their own images: a server whose image cannot be pulled says so itself, and would not run as a process either.
    """

    registries: frozenset[str] = frozenset()
    """Registries of their packages (pypi, npm): the base images."""


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

    Raises Refused or Unreachable when that one cannot be used. `auto` falls back to processes and says why, but never
    leaves servers behind: what the other runtime still runs for this node, nobody would see, and start a second time.
    """
    process = partial(_process, settings, clock, environ, new_id, log)
    docker = partial(_docker, settings, clock, environ, chance)
    if settings.runtime == "process":
        chosen = await _opened(process(), "it was asked for")
    elif (left := await _left_running(process, settings)) is not None:
        chosen = left
    elif settings.runtime == "docker":
        chosen = await _asked_for(docker, settings)
    else:
        chosen = await _either(docker, process, settings, needs or Needs())
    _keep(settings, chosen.runtime)
    return chosen


async def _asked_for(docker: Callable[[], DockerRuntime], settings: NodeSettings) -> Chosen:
    if problem := _obstacle(settings):
        raise Refused(problem, reason="RuntimeUnsupported")
    return await _opened(docker(), "it was asked for")


async def _either(
    docker: Callable[[], DockerRuntime], process: Callable[[], Runtime], settings: NodeSettings, needs: Needs
) -> Chosen:
    before = _former(settings) == "docker"
    problem = _obstacle(settings)
    if not problem:
        runtime = docker()
        problem = await _problem_with(runtime, Needs() if before else needs)
        if not problem:
            return Chosen(runtime, "its daemon answers and its containers can be reached")
        await runtime.aclose()
    if before:
        raise Unreachable(
            f"{problem}. This node's servers run in Docker: start it; "
            "or say --runtime process, if none of them is left",
            reason="RuntimeUnavailable",
        )
    return await _opened(process(), f"Docker cannot be used: {problem}")


async def _left_running(process: Callable[[], Runtime], settings: NodeSettings) -> Chosen | None:
    """The process runtime, if an earlier node left servers in it. Raises Refused where Docker was asked for."""
    if not (settings.state_dir / "process" / "servers").is_dir():
        return None
    runtime = process()
    await runtime.open()
    servers = ", ".join(
        sorted({each.container.server for each in (await runtime.look()).containers.values()})
    )
    if servers and settings.runtime == "auto":
        return Chosen(runtime, f"it runs servers already: {servers}")
    await runtime.aclose()
    if servers:
        raise Refused(
            f"servers run as processes already ({servers}), and Docker would run them a second time: "
            "let --runtime process remove them first",
            reason="RuntimeUnsupported",
        )
    return None


def _former(settings: NodeSettings) -> str:
    try:
        return (settings.state_dir / RECORD).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _keep(settings: NodeSettings, runtime: Runtime) -> None:
    if _former(settings) != runtime.name:
        (settings.state_dir / RECORD).write_text(f"{runtime.name}\n", encoding="utf-8")


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
            await docker.can_build(needs.registries, ASK_SECONDS)
    except TimeoutError:
        return f"it did not answer within {ASK_SECONDS} s"
    except ToolkeeperError as error:
        return str(error)
    return ""
