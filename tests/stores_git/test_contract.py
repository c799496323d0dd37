"""The suite that every store passes, on a folder that is pulled from a repository."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from stores.conftest import Source, manifest
from stores.test_contract import TestDeletion, TestObjects, TestStatus, TestTheRest, TestTokens, TestWatch
from stores_git.conftest import Follower, follower
from toolkeeper.reconcile.ports import Resource, Store
from toolkeeper.resources.meta import Key
from toolkeeper.stores.directory import DirectoryStore
from toolkeeper.testing.git_server import GitRepository

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # each push is several runs of git

__all__ = ["TestDeletion", "TestObjects", "TestStatus", "TestTheRest", "TestTokens", "TestWatch"]


class PushedSource:
    """Git: a person commits and pushes, one file per object, and the operator is rung at once."""

    def __init__(self, repository: GitRepository, following: Follower, store: DirectoryStore) -> None:
        self.repository, self.following = repository, following
        self.store: Store = store
        self.directory = store

    async def put(self, resource: Resource) -> None:
        await self._push(resource.key, manifest(resource))

    async def drop(self, key: Key) -> None:
        await self._push(key, None)

    async def _push(self, key: Key, text: str | None) -> None:
        self.repository.commit({f"servers/{key.kind}-{key.namespace}-{key.name}.yaml".lower(): text})
        await self.following.puller.pull()
        self.directory.look()

    async def aclose(self) -> None:
        await self.directory.aclose()


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[Source]:
    repository = GitRepository(tmp_path / "work")
    # A folder without any manifest is not believed to be meant so; that rule has tests of its own.
    repository.commit({"servers/nothing.yaml": ""})
    following = follower(tmp_path / "cache", repository.url, path="servers")
    await following.puller.pull()
    store = await DirectoryStore.open(
        following.cache.root, state_dir=tmp_path / "state", environment={}, origin=following.cache
    )
    made = PushedSource(repository, following, store)
    yield made
    await made.aclose()
