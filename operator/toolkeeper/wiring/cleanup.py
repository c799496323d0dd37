"""Leaving nothing behind: what `up` does at the end, over the node's own API."""

from __future__ import annotations

import asyncio
import shutil

from toolkeeper.errors import Conflict, Fenced, ToolkeeperError
from toolkeeper.planning.observed import Snapshot
from toolkeeper.reconcile.ports import ToolboxClient
from toolkeeper.wiring.places import Place

PATIENCE_SECONDS = 60.0


async def remove_all(
    client: ToolboxClient, installation: str, *, keep_volumes: frozenset[str]
) -> tuple[str, ...]:
    """Remove every container of the installation, and its volumes but those. Returns what is still there in the end."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await _remove_all(client, installation, keep_volumes)
    except (TimeoutError, ToolkeeperError):
        snapshot = await client.state(installation)
        return tuple(each.name for each in snapshot.containers)


async def _remove_all(
    client: ToolboxClient, installation: str, keep_volumes: frozenset[str]
) -> tuple[str, ...]:
    snapshot = await client.state(installation)
    claim = await client.claim(installation, snapshot.epoch)
    asked: set[str] = set()
    while snapshot.containers:
        for each in snapshot.containers:
            if each.name not in asked:
                asked.add(each.name)
                try:
                    await client.remove(claim, each.name, container_id="", drain=2)
                except (Conflict, Fenced):
                    asked.discard(each.name)
        snapshot = await client.state(installation, since=snapshot.revision, wait=1.0)
    for volume in removable(snapshot, keep_volumes):
        await client.remove_volume(claim, volume)
    return ()


def removable(snapshot: Snapshot, keep: frozenset[str]) -> tuple[str, ...]:
    """The volumes that nobody asked to keep."""
    return tuple(each for each in snapshot.volumes if each not in keep)


def forget_state(place: Place) -> None:
    """Remove the state of this control plane: it speaks of containers that are gone."""
    shutil.rmtree(place.folder, ignore_errors=True)
