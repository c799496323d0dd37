"""Whose change of a status is looked at."""

from __future__ import annotations

import asyncio
import json

import pytest

from stores.conftest import server
from stores_kubernetes.conftest import Hand, Opening, until
from toolkeeper.reconcile.ports import Change
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.resources.meta import Key
from toolkeeper.stores.kubernetes import documents
from toolkeeper.stores.kubernetes.strangers import PATIENCE, Strangers
from toolkeeper.testing.virtual import VirtualClock, in_virtual_time

TIME = Key("MCPServer", "default", "time")
OURS, EDIT = Change(TIME, edited=False), Change(TIME, edited=True)


@in_virtual_time
async def test_what_this_store_writes_is_no_edit() -> None:
    strangers = Strangers(VirtualClock())
    with strangers.writing(TIME), strangers.writing(TIME):
        assert strangers.judged(OURS) == OURS
    assert strangers.judged(OURS) == EDIT


@in_virtual_time
async def test_two_control_planes_do_not_chase_each_other() -> None:
    strangers = Strangers(VirtualClock())
    assert strangers.judged(OURS) == EDIT
    assert strangers.judged(OURS) == OURS
    await asyncio.sleep(PATIENCE)
    assert strangers.judged(OURS) == EDIT


@pytest.mark.anyio
async def test_a_status_that_somebody_else_writes_is_looked_at_and_our_own_is_not(
    opening: Opening, hand: Hand
) -> None:
    await hand.put(server())
    async with opening() as store, asyncio.timeout(20):
        await until(lambda: store.believed(TIME))
        watch = store.watch()
        known = store.believed(TIME)
        assert isinstance(known, MCPServer)
        await store.write_status(known.model_copy(update={"status": MCPServerStatus(phase="active")}))
        assert await anext(watch) == OURS
        await hand.client.patch(
            f"{documents.path(TIME)}/status",
            content=json.dumps({"status": {"phase": "stopped"}}),
            headers={"Content-Type": "application/merge-patch+json"},
        )
        assert await anext(watch) == EDIT
