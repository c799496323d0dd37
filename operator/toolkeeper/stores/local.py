"""A store plus one Toolbox: the machine that `toolkeeper up` runs on, which no manifest needs to declare."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from toolkeeper.clock import Clock, SystemClock
from toolkeeper.errors import Conflict, Invalid, NotFound
from toolkeeper.reconcile.ports import Change, Listing, Resource, Secret
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.events import Event
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox, ToolboxStatus

LOCAL = Key("Toolbox", "default", "local")
TOKEN_SECRET = "toolkeeper-local-node"  # noqa: S105 – the name of the secret, not its value


class Source(Protocol):
    """What every store that the command line opens can do, beyond `ports.Store`."""

    async def list(self) -> Listing: ...
    def watch(self) -> AsyncIterator[Change]: ...
    async def get(self, key: Key) -> Resource: ...
    async def patch(self, key: Key, verb: str, value: str, *, actor: str = "") -> Resource: ...
    async def write_status(self, resource: Resource) -> Resource: ...
    async def set_finalizer(self, resource: Resource, *, present: bool) -> Resource: ...
    async def secret(self, namespace: str, name: str) -> Secret: ...
    async def issue_token(self, connection: AgentConnection) -> bool: ...
    async def emit(self, event: Event) -> None: ...
    async def events(self, key: Key | None = None, *, limit: int = 100) -> tuple[Any, ...]: ...
    async def aclose(self) -> None: ...


class WithLocalToolbox:
    """Fits `ports.Store` and `Source`. A Toolbox `local` that the source declares itself wins over ours.

    Our Toolbox's status is kept in one small file beside the database, so that other processes can show it; losing
    it costs nothing.
    """

    def __init__(
        self, inner: Source, endpoint: str, *, token_file: Path, status_file: Path, clock: Clock | None = None
    ) -> None:
        self.inner, self._token_file, self._status_file = inner, token_file, status_file
        self._version = 1
        self._toolbox = Toolbox.model_validate(
            {
                "metadata": {
                    "name": LOCAL.name,
                    "namespace": LOCAL.namespace,
                    "uid": f"local-{endpoint}"[:64],
                    "resourceVersion": "1",
                    "creationTimestamp": _since(token_file) or (clock or SystemClock()).now(),
                },
                "spec": {
                    "endpoint": endpoint,
                    "tokenRef": {"name": TOKEN_SECRET, "key": "token"},
                    "allowedNamespaces": ["*"],
                },
                "status": _kept(status_file),
            }
        )

    async def list(self) -> Listing:
        listing = await self.inner.list()
        if any(each.key == LOCAL for each in listing.resources):
            return listing
        resources = (self._toolbox, *listing.resources)
        # The source alone may be empty; a machine and nothing on it is still not the whole truth then.
        return Listing(resources, listing.complete, listing.problems, listing.revision)

    def watch(self) -> AsyncIterator[Change]:
        return self.inner.watch()

    async def get(self, key: Key) -> Resource:
        try:
            return await self.inner.get(key)
        except NotFound:
            if key == LOCAL:
                return self._toolbox
            raise

    async def patch(self, key: Key, verb: str, value: str, *, actor: str = "") -> Resource:
        if await self._is_ours(key):
            raise Invalid("the toolbox of this machine has no manifest to change")
        return await self.inner.patch(key, verb, value, actor=actor)

    async def write_status(self, resource: Resource) -> Resource:
        if not isinstance(resource, Toolbox) or not await self._is_ours(resource.key):
            return await self.inner.write_status(resource)
        if resource.metadata.resource_version != str(self._version):
            raise Conflict(f"{resource.key} was written meanwhile")
        self._version += 1
        metadata = self._toolbox.metadata.model_copy(update={"resource_version": str(self._version)})
        self._toolbox = self._toolbox.model_copy(update={"metadata": metadata, "status": resource.status})
        with suppress(OSError):
            self._status_file.write_text(resource.status.model_dump_json(by_alias=True), encoding="utf-8")
        return self._toolbox

    async def set_finalizer(self, resource: Resource, *, present: bool) -> Resource:
        if await self._is_ours(resource.key):
            return self._toolbox  # nobody can delete it, so nothing needs to hold it
        return await self.inner.set_finalizer(resource, present=present)

    async def secret(self, namespace: str, name: str) -> Secret:
        if (namespace, name) != (LOCAL.namespace, TOKEN_SECRET):
            return await self.inner.secret(namespace, name)
        try:
            return Secret({"token": self._token_file.read_text(encoding="utf-8").strip()})
        except OSError as exc:
            raise NotFound(f"the node's token {self._token_file} cannot be read: {exc.strerror}") from exc

    async def issue_token(self, connection: AgentConnection) -> bool:
        return await self.inner.issue_token(connection)

    async def emit(self, event: Event) -> None:
        await self.inner.emit(event)

    async def events(self, key: Key | None = None, *, limit: int = 100) -> tuple[Any, ...]:
        return await self.inner.events(key, limit=limit)

    async def aclose(self) -> None:
        await self.inner.aclose()

    async def _is_ours(self, key: Key) -> bool:
        if key != LOCAL:
            return False
        with suppress(NotFound):
            await self.inner.get(key)
            return False
        return True


def _since(token_file: Path) -> datetime | None:
    """When this machine's node first ran, which is when it made its token: the same for every process that asks."""
    try:
        return datetime.fromtimestamp(int(token_file.stat().st_mtime), UTC)
    except OSError:
        return None


def _kept(file: Path) -> dict[str, Any]:
    try:
        return ToolboxStatus.model_validate(json.loads(file.read_text(encoding="utf-8"))).model_dump(
            mode="json", by_alias=True
        )
    except (OSError, ValueError):
        return {}
