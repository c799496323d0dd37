"""The suite that every store passes, on Kubernetes."""

from __future__ import annotations

import pytest

from stores import test_contract as contract
from stores.conftest import Source, server
from stores.test_contract import TIME, TestStatus, TestTheRest, TestTokens, TestWatch, found

pytestmark = pytest.mark.anyio

__all__ = ["TestStatus", "TestTheRest", "TestTokens", "TestWatch"]


class TestObjects(contract.TestObjects):
    """Kubernetes differs in one point."""

    async def test_declaring_the_same_again_changes_nothing(self, source: Source) -> None:
        """The first time it gets a version: only then is the default of the status stored."""
        await source.put(server())
        await source.put(server())
        before = await found(source.store)
        await source.put(server())
        assert await found(source.store) == before
        assert before.metadata.generation == 1


class TestDeletion(contract.TestDeletion):
    """Kubernetes differs in one point."""

    async def test_an_object_that_is_being_deleted_takes_no_edit(self, source: Source) -> None:
        """It takes edits, and they change nothing about the deletion."""
        await source.put(server())
        await source.store.set_finalizer(await found(source.store), present=True)
        await source.drop(TIME)
        deleted = await found(source.store)
        await source.put(server(image="time:2"))
        after = await found(source.store)
        assert after.metadata.deletion_timestamp == deleted.metadata.deletion_timestamp
