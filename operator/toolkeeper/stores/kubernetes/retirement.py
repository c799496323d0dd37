"""Letting go of a cluster's objects before the operator is uninstalled: nobody would take its finalizer off later.

    wait    for what is being deleted; the operator still runs and cleans up
    stop    the operator, if we are told which Deployment it is
    lead    by the Lease, so that no operator acts from here on
    release every object: our finalizer goes, servers and their containers stay

Installed again, an operator finds the objects and adopts the containers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass

from toolkeeper.errors import Conflict, NotFound, Refused
from toolkeeper.reconcile.ports import Lease
from toolkeeper.resources.meta import FINALIZER, FORCE_DELETE, Key
from toolkeeper.stores.kubernetes import documents
from toolkeeper.stores.kubernetes.answers import Json
from toolkeeper.stores.kubernetes.api import FIELD_MANAGER, JSON_PATCH, MERGE_PATCH, Api

ROUNDS = 5
"""How often what somebody else changed at the same moment is tried again."""
HELD_KINDS = ("MCPServer", "Toolbox")
"""The kinds that carry our finalizer."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """The operator's own Deployment."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, in seconds."""

    deletions: float = 60.0
    """For objects that are being deleted."""
    leadership: float = 90.0
    """For the operator to end, or for its lease to run out."""
    between: float = 2.0
    """Before objects that are being deleted are looked at again."""


@dataclass(frozen=True, slots=True)
class Retirement:
    """One letting go. `say` is told each step as a sentence."""

    api: Api
    lease: Lease
    namespaces: Collection[str]
    """Empty: all."""
    say: Callable[[str], None]
    deployment: Deployment | None = None
    abandon: bool = False
    """Let go of objects, too, that are being deleted and whose containers are still there."""
    patience: Patience = Patience()

    async def run(self) -> int:
        """Let go of every object. Returns how many there were.

        Raises Refused, before anything is touched, when something is being deleted and does not come to its end; and
        when the operator does not end. Raises Unreachable.
        """
        await self._wait_for_deletions()
        await self._stop()
        await self._lead()
        try:
            return await self._release_all()
        finally:
            await self.lease.release()

    async def _wait_for_deletions(self) -> None:
        if self.abandon:
            return
        going, said = (
            await self._going(),
            list[Key](),
        )  # however slow the server: waiting begins with its answer
        try:
            async with asyncio.timeout(self.patience.deletions):
                while going:
                    if going != said:
                        self.say(f"waiting for {_names(going)}, which is being deleted")
                    said = going
                    await asyncio.sleep(self.patience.between)
                    going = await self._going()
        except TimeoutError:
            one = f"{said[0].kind.lower()} {said[0].name}"
            raise Refused(
                f"{_names(said)} is being deleted, and what runs for it is not seen gone: bring its toolbox back, or "
                f"let the operator give it up: kubectl annotate {one} {FORCE_DELETE}=true"
            ) from None

    async def _going(self) -> list[Key]:
        return [_key(each) for each in await self._held() if _is_going(each)]

    async def _stop(self) -> None:
        if self.deployment is None:
            return
        where, name = self.deployment.namespace, self.deployment.name
        path = f"/apis/apps/v1/namespaces/{where}/deployments/{name}/scale"
        try:
            await self.api.request(
                "PATCH", path, body={"spec": {"replicas": 0}}, content_type=MERGE_PATCH,
                params={"fieldManager": FIELD_MANAGER},
            )  # fmt: skip
        except NotFound:
            return  # nothing to stop
        self.say(f"stopped the operator: deployment {where}/{name} has 0 replicas")

    async def _lead(self) -> None:
        try:
            async with asyncio.timeout(self.patience.leadership):
                await self.lease.acquire()
        except TimeoutError:
            raise Refused(
                "an operator still runs and holds the lease: end it first (kubectl scale deployment … --replicas=0)"
            ) from None

    async def _release_all(self) -> int:
        released: set[Key] = set()
        for _ in range(ROUNDS):
            held = await self._held()
            if not held:
                break
            released.update([_key(each) for each in held if await self._release(each)])
        else:
            raise Refused("some objects are changed again and again by somebody else: try again")
        self.say(f"took the finalizer off {len(released)} objects; servers go on running")
        return len(released)

    async def _release(self, document: Json) -> bool:
        """Take our finalizer off this very version. Returns whether that was done."""
        metadata = document["metadata"]
        key = _key(document)
        others = [each for each in metadata["finalizers"] if each != FINALIZER]
        body = [
            {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
            {"op": "test", "path": "/metadata/resourceVersion", "value": metadata["resourceVersion"]},
            {"op": "add", "path": "/metadata/finalizers", "value": others},
        ]
        try:
            await self.api.request(
                "PATCH", documents.path(key), body=body, content_type=JSON_PATCH,
                params={"fieldManager": FIELD_MANAGER},
            )  # fmt: skip
        except Conflict:
            return False  # looked at again
        except NotFound:
            return False
        if _is_going(document):
            self.say(f"warning: {key} goes without its containers; remove them by hand")
        return True

    async def _held(self) -> list[Json]:
        """The objects with our finalizer, as documents: one that we cannot read must not keep it either."""
        found = [
            {**each, "kind": kind}
            for kind in HELD_KINDS
            for namespace in self.namespaces or (None,)
            for each in (await self.api.whole(documents.collection(kind, namespace)))[0]
        ]
        return [each for each in found if FINALIZER in (each["metadata"].get("finalizers") or ())]


def _key(document: Json) -> Key:
    return documents.key_of(document["kind"], document)


def _is_going(document: Json) -> bool:
    return "deletionTimestamp" in document["metadata"]


def _names(keys: Collection[Key]) -> str:
    shown = [f"{each.kind} {each.namespace}/{each.name}" for each in keys]
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")
