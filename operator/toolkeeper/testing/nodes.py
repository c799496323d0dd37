"""Whole nodes for tests: in this process, without a port, over any runtime."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Generator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from starlette.types import ASGIApp

from toolkeeper.clock import Clock, SystemClock
from toolkeeper.dtma.client import NodeClient
from toolkeeper.node.app import make_app
from toolkeeper.node.gate import Gate, Tokens
from toolkeeper.node.main import listening, served
from toolkeeper.node.node import Node
from toolkeeper.node.notebook import Notebook
from toolkeeper.node.revisions import Revisions
from toolkeeper.node.runtime import Runtime
from toolkeeper.planning.instance import Instance, PackageSource
from toolkeeper.planning.observed import Snapshot
from toolkeeper.reconcile.ports import InstanceRequest
from toolkeeper.telemetry.logs import Silent

TOKEN = "a token of a test, long enough"  # noqa: S105 - it opens nothing but nodes of tests
INSTALLATION = "test"
_HEX = itertools.cycle("0123456789abcdef")


def counting(prefix: str = "") -> Callable[[], str]:
    """Ids that count, so that a test's output is the same every time."""
    numbers = itertools.count(1)
    return lambda: f"{prefix}{next(numbers):032x}"


def container_of(server: str, *, installation: str = INSTALLATION, digit: str = "a") -> str:
    """The name of a container of that server in namespace `default`, whose hash is all `digit`."""
    return f"tk_{installation}_default_{server}_{digit * 8}"


def request_of(
    server: str, instance: Instance | None = None, *, digit: str = "a", secrets: dict[str, str] | None = None
) -> InstanceRequest:
    """What goes with `container_of`. By default an image that serves HTTP."""
    return InstanceRequest(
        namespace="default",
        server=server,
        hash=f"v1:sha256:{digit * 64}",
        uid="",
        instance=instance
        or Instance(1, "streamable-http", image="registry.example/tiny:1", port=8000, path="/mcp"),
        secrets=secrets or {},
    )


def tiny_instance(*arguments: str, version: str = "1.0.0", transport: str = "streamable-http") -> Instance:
    """`testing.wheels.tiny_package` as an instance."""
    package = PackageSource("pypi", "tiny-mcp", version)
    if transport == "stdio":
        return Instance(1, "stdio", package=package, args=("--stdio", *arguments), probe_interval=1)
    return Instance(
        1,
        "streamable-http",
        package=package,
        port=8000,
        path="/mcp",
        args=("--port", "{{port}}", *arguments),
        probe_interval=1,
    )


@dataclass(frozen=True, slots=True)
class Stand:
    """A node that is up, and its operator's client."""

    node: Node
    app: ASGIApp
    client: NodeClient

    async def until(self, holds: Callable[[Snapshot], object], installation: str = INSTALLATION) -> Snapshot:
        """The first state for which `holds`, by long polls."""
        return await until(self.client, holds, installation)


@asynccontextmanager
async def standing(
    runtime: Runtime, notebook: Path | str = ":memory:", *, clock: Clock | None = None, guesses: int = 10
) -> AsyncIterator[Stand]:
    """A node over that runtime, reached without a network."""
    clock = clock or SystemClock()
    await runtime.open()
    # Progress is told at once: the tests see every step, and wait for none.
    revisions = Revisions(counting("boot")()[:12] + next(_HEX), patience=0)
    node = Node(runtime, Notebook(notebook), revisions, clock=clock, log=Silent())
    await node.open()
    app = make_app(
        node, gate=Gate(Tokens(TOKEN), clock, guesses=guesses), clock=clock, new_id=counting(), log=Silent()
    )
    client = NodeClient("http://node", token=TOKEN, transport=httpx.ASGITransport(app))
    try:
        yield Stand(node, app, client)
    finally:
        await client.aclose()
        await node.aclose()


@contextmanager
def node_in_a_thread(runtime: Runtime) -> Generator[str]:
    """The URL of a node that a thread of its own serves on the loopback, for tests that wait synchronously."""
    endpoint: Future[str] = Future()
    stop = threading.Event()

    async def serve() -> None:
        try:
            async with standing(runtime, guesses=1_000_000) as stand:
                with listening("127.0.0.1", 0) as listener:
                    async with served(stand.app, listener, None, stand.node):
                        endpoint.set_result(f"http://127.0.0.1:{listener.getsockname()[1]}")
                        await asyncio.to_thread(stop.wait)
        except BaseException as error:
            if not endpoint.done():
                endpoint.set_exception(error)
            raise

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="node")
    thread.start()
    try:
        yield endpoint.result(timeout=30)
    finally:
        stop.set()
        thread.join(timeout=30)


async def until(
    client: NodeClient, holds: Callable[[Snapshot], object], installation: str = INSTALLATION
) -> Snapshot:
    """The first state for which `holds`, by long polls."""
    revision = ""
    while True:
        snapshot = await client.state(installation, since=revision, wait=20)
        if holds(snapshot):
            return snapshot
        revision = snapshot.revision
