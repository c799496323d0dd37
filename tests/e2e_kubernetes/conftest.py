"""One host and one namespace for the tests of a module; each test has servers and operators of its own."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import docker
import pytest

from benchmarks.rig.engine import Engine
from benchmarks.rig.plane import sweep
from e2e.rig import build_tiny
from e2e_kubernetes.rig import Rig
from services.apiserver import ADMIN, ApiServer
from stores_kubernetes.conftest import Cluster, prepare
from stores_kubernetes.door import Door

NUMBERS = count(1)


@pytest.fixture(scope="module")
def place(kubernetes: ApiServer, docker_engine: docker.DockerClient, base_python: str) -> Iterator[Rig]:
    """A namespace with the Toolbox of a host whose agent runs."""
    build_tiny(docker_engine, base_python)
    prepare(Cluster(kubernetes.url, kubernetes.ca, ADMIN, kubernetes.kubeconfig()))
    name = f"e2ek{os.getpid()}x{next(NUMBERS)}"
    with closing(Engine()) as engine, tempfile.TemporaryDirectory(prefix="toolkeeper-e2e-") as folder:
        rig = Rig(kubernetes, docker_engine, Path(folder), name, name)
        rig.start_node()
        try:
            yield rig
        finally:
            rig.stop_operators()
            rig.node.stop()
            sweep(engine, name)
            shutil.rmtree(f"/dev/shm/{name}", ignore_errors=True)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Async fixtures of a module run on asyncio, as the programs do."""
    return "asyncio"


@pytest.fixture(scope="module")
async def enrolled(place: Rig, anyio_backend: str) -> Rig:
    """The host is known to the cluster: its Toolbox, its marked Secret, and the installation's name."""
    await place.until(place.node_is_ready, "the host agent answers")
    await place.kubectl("create", "namespace", place.namespace)
    await place.kubectl(
        "create", "configmap", "toolkeeper", f"--from-literal=installation={place.installation}"
    )
    await asyncio.to_thread(place.enrol, "here")
    return place


@pytest.fixture
async def rig(enrolled: Rig) -> AsyncIterator[Rig]:
    """The namespace without servers; operators that the test starts end with it."""
    yield enrolled
    listed = json.loads(await enrolled.kubectl("get", "mcpservers", "-o", "json"))["items"]
    for each in listed:
        if each["metadata"].get("finalizers"):
            name = each["metadata"]["name"]
            patch = json.dumps({"metadata": {"finalizers": None}})
            await enrolled.kubectl(
                "patch", "mcpserver", name, "--type=merge", f"--patch={patch}", check=False
            )
    await enrolled.kubectl("delete", "mcpservers", "--all")
    enrolled.stop_operators()
    for each in enrolled.engine.containers.list(
        all=True,
        ignore_removed=True,
        filters={"label": f"toolkeeper.dev/installation={enrolled.installation}"},
    ):
        each.remove(force=True)


@pytest.fixture
async def door(rig: Rig) -> AsyncIterator[Door]:
    """The way from one operator to the cluster."""
    context = ssl.create_default_context(cafile=rig.kubernetes.ca)
    async with Door(rig.kubernetes.url, context).open() as door:
        yield door
        # In a thread, for the door stays open meanwhile: an operator that ends releases its lease through it.
        await asyncio.to_thread(rig.stop_operators)
