"""The record of the election, as a Lease of coordination.k8s.io."""

from __future__ import annotations

from toolkeeper.clock import Clock
from toolkeeper.stores.kubernetes.answers import Json
from toolkeeper.stores.kubernetes.api import Api
from toolkeeper.stores.kubernetes.election import LEASE_SECONDS, Record

NAME = "toolkeeper"


class LeaseObject:
    """Fits `toolkeeper.stores.kubernetes.election.Registry`: one Lease in the operator's namespace."""

    def __init__(self, api: Api, namespace: str, *, clock: Clock, name: str = NAME) -> None:
        self._api, self._clock, self._name = api, clock, name
        self._namespace = namespace
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._document: Json = {}

    async def read(self) -> Record:
        """The record. Raises NotFound, Unreachable."""
        self._document = await self._api.request("GET", f"{self._collection}/{self._name}")
        return _record(self._document)

    async def create(self, holder: str) -> Record:
        """A new record. Raises Conflict, Unreachable."""
        body = self._body({"metadata": {"name": self._name, "namespace": self._namespace}}, holder, 0)
        return _record(await self._api.request("POST", self._collection, body=body))

    async def renew(self, seen: Record, holder: str) -> Record:
        """The record, replaced if it is still the one that was seen. Raises Conflict, NotFound, Unreachable."""
        metadata = dict(self._document.get("metadata") or {}) | {"resourceVersion": seen.version}
        metadata |= {"name": self._name, "namespace": self._namespace}
        changed = holder not in ("", seen.holder)
        body = self._body(self._document | {"metadata": metadata}, holder, seen.transitions + changed)
        return _record(await self._api.request("PUT", f"{self._collection}/{self._name}", body=body))

    def _body(self, before: Json, holder: str, transitions: int) -> Json:
        """For people the times; for us holder and version. `acquireTime` changes with the holder only."""
        now = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = before.get("spec") or {}
        taken = now if old.get("holderIdentity") != holder else old.get("acquireTime", now)
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": int(LEASE_SECONDS) if holder else 1,
            "acquireTime": taken,
            "renewTime": now,
            "leaseTransitions": transitions,
        }
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": before.get("metadata"),
            "spec": spec,
        }


def _record(document: Json) -> Record:
    spec = document.get("spec") or {}
    return Record(
        str(spec.get("holderIdentity") or ""),
        str(document.get("metadata", {}).get("resourceVersion", "")),
        int(spec.get("leaseTransitions") or 0),
    )
