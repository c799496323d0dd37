"""Node and operator as two programs on a real Docker, and the store's own words about what they do."""

from __future__ import annotations

import asyncio
import io
import signal
import tarfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
from docker.models.containers import Container

import toolkeeper.testing.tiny_mcp
from benchmarks.rig.plane import Plane, manifest
from toolkeeper.errors import NotFound
from toolkeeper.resources.conditions import Condition, find, is_true
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.resources.meta import Key
from toolkeeper.stores.sqlite import SqliteStore

TINY = "toolkeeper-e2e:tiny"
LOOK_SECONDS = 0.05
Holds = Callable[[MCPServer], bool]


@dataclass
class Rig:
    """A running control plane, changed by files and by strangers on the host."""

    plane: Plane
    engine: docker.DockerClient
    store: SqliteStore = field(init=False)

    async def open(self) -> None:
        """Look into the store that the operator writes."""
        self.store = await SqliteStore.open(self.database)

    @property
    def database(self) -> Path:
        """The operator's status database."""
        return self.plane.folder / "state" / self.plane.installation / "state.db"

    # What is declared.

    def declare(self, name: str, **spec: Any) -> None:
        """Write the server's manifest; the given fields are put over a tiny server's."""
        (self.plane.manifests / "servers").mkdir(exist_ok=True)
        self.plane.edit("servers", name, manifest(name, {"image": TINY, **spec}))

    def write(self, name: str, text: str) -> None:
        """Write any text where the server's manifest is."""
        (self.plane.manifests / "servers" / f"{name}.yaml").write_text(text)

    def withdraw(self, name: str) -> None:
        """Delete the server's manifest."""
        (self.plane.manifests / "servers" / f"{name}.yaml").unlink()

    # What is seen.

    async def until(self, name: str, holds: Holds, seconds: float = 45.0) -> MCPServer:
        """The server, as soon as its status is so. Fails with its last words otherwise."""
        last: MCPServer | None = None
        changes = self.store.watch()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    with suppress(NotFound):
                        found = await self.store.get(Key("MCPServer", "default", name))
                        assert isinstance(found, MCPServer)
                        last = found
                        if holds(found):
                            return found
                    await anext(changes)
        except TimeoutError:
            said = last.status.model_dump_json(indent=1) if last is not None else "it does not exist"
            raise AssertionError(f"{name} did not come to be so: {said}\n{self.plane.trouble()}") from None
        finally:
            await changes.aclose()

    async def ready(self, name: str) -> MCPServer:
        """The server, once it is ready in its newest version."""
        return await self.until(name, is_ready)

    async def gone(self, name: str, seconds: float = 45.0) -> None:
        """Return once the store has forgotten the server."""
        changes = self.store.watch()
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await self.store.get(Key("MCPServer", "default", name))
                except NotFound:
                    break
                await anext(changes)
        await changes.aclose()

    async def alone(self, name: str, seconds: float = 45.0) -> Container:
        """Its container, as soon as there is just one. Nothing need change in the store for that."""
        async with asyncio.timeout(seconds):
            while True:
                found = await asyncio.to_thread(self.containers, name)
                if len(found) == 1:
                    return found[0]
                await asyncio.sleep(LOOK_SECONDS)

    async def happened(self, name: str) -> str:
        """Every event of the server, a line each."""
        events = await self.store.events(Key("MCPServer", "default", name))
        return "\n".join(f"{each.event.reason}: {each.event.message}" for each in events)

    def containers(self, name: str) -> list[Container]:
        """The server's containers on the host."""
        labels = [
            f"toolkeeper.dev/installation={self.plane.installation}", f"toolkeeper.dev/server={name}"
        ]  # fmt: skip
        return self.engine.containers.list(all=True, ignore_removed=True, filters={"label": labels})

    def container(self, name: str) -> Container:
        """Its only container."""
        (only,) = self.containers(name)
        return only

    # What is done to the programs.

    def kill(self, program: str) -> None:
        """kill -9."""
        self.plane.end(program, signal.SIGKILL)

    async def start_operator(self) -> None:
        """Run the operator again."""
        self.plane.run_operator()

    def start_node(self) -> None:
        """Run the node agent again."""
        self.plane.run_node()


def is_ready(server: MCPServer) -> bool:
    """Ready, and not only in an older version."""
    status = server.status
    return (
        is_true(status.conditions, "Ready")
        and status.observed_generation == server.metadata.generation
        and status.running_hash == status.wanted_hash
        and not is_true(status.conditions, "Reconciling")
    )


def said(status: MCPServerStatus, type: str) -> Condition:
    """One condition."""
    found = find(status.conditions, type)
    assert found is not None, f"no condition {type}"
    return found


def build_tiny(engine: docker.DockerClient, base: str) -> str:
    """An image of the small MCP server that needs nothing but Python."""
    script = Path(toolkeeper.testing.tiny_mcp.__file__).read_bytes()
    recipe = (
        f"FROM {base}\nCOPY tiny_mcp.py /tiny_mcp.py\n"
        'ENTRYPOINT ["python3", "/tiny_mcp.py", "--host", "0.0.0.0", "--port", "8000"]\n'
    )
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in (("Dockerfile", recipe.encode()), ("tiny_mcp.py", script)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    packed.seek(0)
    engine.images.build(fileobj=packed, custom_context=True, tag=TINY, rm=True)
    return TINY
