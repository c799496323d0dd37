"""A control plane for the end-to-end tests of a module; each test has servers of its own on it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import docker
import pytest

from benchmarks.rig.engine import Engine
from benchmarks.rig.plane import Plane, running
from e2e.rig import Rig, build_tiny


@pytest.fixture(scope="module")
def plane(docker_engine: docker.DockerClient, base_python: str) -> Iterator[Plane]:
    build_tiny(docker_engine, base_python)
    with closing(Engine()) as engine, running(engine, f"e2e{os.getpid()}") as plane:
        yield plane


@pytest.fixture
async def rig(plane: Plane, docker_engine: docker.DockerClient) -> AsyncIterator[Rig]:
    rig = Rig(plane, docker_engine)
    await rig.open()
    yield rig
    await rig.store.aclose()
