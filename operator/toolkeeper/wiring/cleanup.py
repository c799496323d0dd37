"""Leaving nothing behind: what `up` does at the end, over the node's own API."""

from __future__ import annotations

import asyncio
import shutil

from toolkeeper.errors import Conflict, Fenced, ToolkeeperError, Unreachable
from toolkeeper.planning.observed import Snapshot
from toolkeeper.reconcile.ports import ToolboxClient
from toolkeeper.wiring.places import Place

PATIENCE_SECONDS = 60.0


async def remove_all(client: ToolboxClient, installation: str, *, keep_volumes: frozenset[str]) -> str:
    """Remove every container of the installation, and its volumes but those.

    Returns what is still there in the end, and why; empty when nothing is.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await _remove_all(client, installation, keep_volumes)
            return ""
    except TimeoutError:
        why = f"not gone after {PATIENCE_SECONDS:g} s"
    except ToolkeeperError as error:
        why = str(error)
    left = await client.state(installation)
    if not left.runtime_ok:
        return f"nobody can say what: {why}"
    names = [each.name for each in left.containers] + list(removable(left, keep_volumes))
    return f"{', '.join(names)}: {why}" if names else ""


async def _remove_all(client: ToolboxClient, installation: str, keep_volumes: frozenset[str]) -> None:
    snapshot = _observed(await client.state(installation))
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
        snapshot = _observed(await client.state(installation, since=snapshot.revision, wait=1.0))
    for volume in removable(snapshot, keep_volumes):
        await client.remove_volume(claim, volume)


def _observed(snapshot: Snapshot) -> Snapshot:
    """The snapshot. Raises Unreachable when it says nothing about containers: they need not be gone."""
    if not snapshot.runtime_ok:
        raise Unreachable(snapshot.runtime_message or "the runtime does not answer")
    return snapshot


def removable(snapshot: Snapshot, keep: frozenset[str]) -> tuple[str, ...]:
    """The volumes that nobody asked to keep."""
    return tuple(each for each in snapshot.volumes if each not in keep)


def forget_state(place: Place) -> None:
    """Remove the state of this control plane: it speaks of containers that are gone."""
    shutil.rmtree(place.folder, ignore_errors=True)
