"""Leases elect, nodes fence: who may act, and the proof of it that each node accepts."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from toolkeeper.errors import Conflict, Fenced, ToolkeeperError
from toolkeeper.planning.observed import Snapshot
from toolkeeper.reconcile.ports import Claim, Lease, ToolboxClient
from toolkeeper.resources.meta import Key


class Leadership:
    """The lease of this process, and its claims on nodes.

    A node counts epochs per installation. Whoever leads claims it by naming the epoch that it saw; the node then
    refuses everybody who holds an older one. A node that is wiped starts at 0 again and is claimed again.
    """

    def __init__(self, lease: Lease, installation: str, *, patience: float = 10.0) -> None:
        self._lease, self._installation, self._patience = lease, installation, patience
        self._claims: dict[Key, Claim] = {}
        self._gone: asyncio.Task[None] | None = None

    async def acquire(self) -> None:
        """Wait until this process leads."""
        await self._lease.acquire()
        self._gone = asyncio.ensure_future(self._lease.lost())

    async def hold(self) -> NoReturn:
        """Return never; raise Fenced once the lease is lost."""
        assert self._gone is not None, "acquire first"
        try:
            await asyncio.shield(self._gone)
        except ToolkeeperError as exc:
            raise Fenced(LOST) from exc
        raise Fenced(LOST)

    def held(self, toolbox: Key, seen: Snapshot) -> Claim | None:
        """Our claim on this node, if it is in force. Raises Fenced when a newer leader has claimed it."""
        held = self._claims.get(toolbox)
        if held is not None and seen.epoch > held.epoch:
            raise Fenced(
                f"{toolbox} was claimed by a newer leader (epoch {seen.epoch}, ours is {held.epoch})"
            )
        return held if held is not None and held.epoch == seen.epoch else None

    async def claim(self, toolbox: Key, client: ToolboxClient, seen: Snapshot) -> Claim:
        """Claim the node as it was seen. Raises Fenced when this process does not lead, Conflict when it changed."""
        await self._prove()
        try:
            async with asyncio.timeout(self._patience):
                claim = await client.claim(self._installation, seen.epoch)
        except Fenced as exc:
            # Not what we saw: a lost answer to ourselves, a wiped node, or a newer leader. A fresh look tells which.
            raise Conflict(f"{toolbox} is no longer at epoch {seen.epoch}") from exc
        self._claims[toolbox] = claim
        return claim

    def forget(self, toolbox: Key) -> None:
        """The toolbox is no longer ours, or is another one now."""
        self._claims.pop(toolbox, None)

    async def release(self) -> None:
        """Give the lease up."""
        if self._gone is not None:
            self._gone.cancel()
        await self._lease.release()

    async def _prove(self) -> None:
        """Return only while this process leads: one that was asleep must not take a node from its successor."""
        assert self._gone is not None, "acquire first"
        proof = asyncio.ensure_future(self._lease.acquire())
        try:
            await asyncio.wait({proof, self._gone}, return_when=asyncio.FIRST_COMPLETED)
            if self._gone.done():
                raise Fenced(LOST)
            await proof
        finally:
            proof.cancel()


LOST = "this operator no longer holds the lease; another one leads, and this one stops"
