"""The stores under test, each behind the same few verbs of a person who edits its source."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
import yaml

from toolkeeper.clock import SystemClock
from toolkeeper.reconcile.ports import Change, Resource, Store
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.stores.directory import DirectoryStore
from toolkeeper.stores.memory import MemoryStore
from toolkeeper.stores.sqlite import SqliteStore


def server(
    name: str = "time", *, namespace: str = "default", labels: dict[str, str] | None = None, **spec: Any
) -> MCPServer:
    """An MCPServer as its author declares it."""
    return MCPServer.model_validate(
        {
            "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
            "spec": {"toolboxRef": "here", "image": "time:1", **spec},
        }
    )


def toolbox(name: str = "here") -> Toolbox:
    """A Toolbox as its author declares it."""
    return Toolbox.model_validate({"metadata": {"name": name}, "spec": {"endpoint": "https://host:30000"}})


def connection(name: str = "alice-time", *, token: str | None = None) -> AgentConnection:
    """An AgentConnection as its author declares it; `token` names the secret of its token."""
    named = {"tokenSecretRef": token} if token else {}
    return AgentConnection.model_validate(
        {
            "metadata": {"name": name},
            "spec": {"agent": "alice", "serverRef": "time", "tools": {"allow": ["*"]}, **named},
        }
    )


class HandClock:
    """The machine's wall clock, and seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return SystemClock().now()

    def monotonic(self) -> float:
        return self.seconds


class Source(Protocol):
    """A store, and the hand of the person who edits what it reads."""

    store: Store

    async def put(self, resource: Resource) -> None:
        """Declare the resource."""
        ...

    async def drop(self, key: Key) -> None:
        """Withdraw the declaration."""
        ...

    async def aclose(self) -> None:
        """Close the store."""
        ...


class AppliedSource:
    """Memory and sqlite: a person applies and deletes."""

    def __init__(self, store: MemoryStore | SqliteStore) -> None:
        self.applied = store
        self.store: Store = store

    async def put(self, resource: Resource) -> None:
        await self.applied.apply(resource)

    async def drop(self, key: Key) -> None:
        await self.applied.delete(key)

    async def aclose(self) -> None:
        await self.applied.aclose()


class FolderSource:
    """Directory: a person writes and removes files, one per object."""

    def __init__(self, folder: Path, store: DirectoryStore) -> None:
        self.folder = folder
        self.store: Store = store
        self.directory = store

    async def put(self, resource: Resource) -> None:
        write(self.folder / _file_name(resource.key), resource)

    async def drop(self, key: Key) -> None:
        (self.folder / _file_name(key)).unlink()

    async def aclose(self) -> None:
        await self.directory.aclose()


def _file_name(key: Key) -> str:
    return f"{key.kind}-{key.namespace}-{key.name}.yaml".lower()


def manifest(*resources: Resource) -> str:
    """The text of a manifest."""
    documents = [
        {"apiVersion": each.api_version, "kind": each.kind} | each.as_declared() for each in resources
    ]
    return yaml.safe_dump_all(documents, sort_keys=False)


def write(file: Path, *resources: Resource) -> None:
    """Write a manifest as a careful editor does: whole, or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(manifest(*resources))
    draft.rename(file)


async def _memory(folder: Path) -> Source:
    return AppliedSource(MemoryStore())


async def _sqlite(folder: Path) -> Source:
    return AppliedSource(await SqliteStore.open(folder / "state" / "state.db", environment={}))


async def _directory(folder: Path) -> Source:
    root = folder / "manifests"
    # A folder without any manifest is not believed to be meant so; that rule has tests of its own.
    write(root / "nothing.yaml")
    store = await DirectoryStore.open(root, state_dir=folder / "state", environment={}, settle=0.0)
    return FolderSource(root, store)


SOURCES = [
    pytest.param(_memory, id="memory"),
    pytest.param(_sqlite, id="sqlite"),
    pytest.param(_directory, id="directory"),
]
"""Every store. One that needs a service comes with the marker of its group."""


async def reported(watch: AsyncIterator[Change], key: Key) -> Change:
    """The next change that concerns the object; "list again" concerns all."""
    async with asyncio.timeout(60):
        async for change in watch:
            if change.key in {key, None}:
                return change
    raise AssertionError("the watch ended")


@pytest.fixture(params=SOURCES)
async def source(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Source]:
    """Every store in turn."""
    opened: Source = await request.param(tmp_path)
    yield opened
    await opened.aclose()
