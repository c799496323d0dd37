"""A cluster for the length of one command: looked at, and changed by verbs, with the rights of the person who types."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from datetime import datetime
from typing import Any
from urllib.parse import quote

from toolkeeper.errors import Conflict
from toolkeeper.reconcile.ports import Change, Listing, Resource, Secret
from toolkeeper.resources.events import Event
from toolkeeper.resources.meta import Key
from toolkeeper.stores import overrides
from toolkeeper.stores.journal import Recorded
from toolkeeper.stores.kubernetes import access, digesting, documents, installation, secrets_of_users
from toolkeeper.stores.kubernetes.answers import Json
from toolkeeper.stores.kubernetes.api import JSON_PATCH, Api
from toolkeeper.stores.kubernetes.beliefs import Beliefs
from toolkeeper.stores.kubernetes.chronicle import REPORTER

MANAGER = "toolkeeper-cli"
"""Who owns the fields that a verb changes: a person, not the operator."""
LOOK_SECONDS = 2.0
"""Between two looks of somebody who watches."""
ATTEMPTS = 5


class Visit:
    """What the command line asks of a store. Nothing is kept, and nothing runs in the background.

    `namespaces` and `kinds` say what is listed (none: all), so that nobody needs more rights than the command does.
    """

    def __init__(
        self,
        login: access.Login,
        *,
        home: str,
        namespaces: Collection[str] = (),
        kinds: Collection[str] = (),
    ) -> None:
        self._api = Api(login)
        self._home = home
        self._namespaces = tuple(namespaces)
        self._kinds = tuple(kinds) or tuple(documents.PLURALS)

    async def list(self) -> Listing:
        """The objects as they are now. Raises Refused (forbidden), Unreachable."""
        beliefs = Beliefs()
        for kind in self._kinds:
            for namespace in self._namespaces or (None,):
                items, version = await self._api.whole(documents.collection(kind, namespace))
                beliefs.listed(kind, namespace, items, int(version) if version.isdecimal() else 0)
        return Listing(beliefs.resources(), complete=beliefs.complete, problems=beliefs.problems())

    async def watch(self) -> AsyncIterator[Change]:
        """A reason to look again, every few seconds."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            yield Change(None)

    async def get(self, key: Key) -> Resource:
        """One object. Raises NotFound, Refused, Unreachable, Invalid (an older definition of the kind let it pass)."""
        return documents.decoded(key.kind, await self._api.request("GET", documents.path(key)))

    async def patch(self, key: Key, verb: str, value: str, *, actor: str = "") -> Resource:
        """Do what a verb of `overrides.PATCHES` says, to the object itself. The server's audit log names the actor.

        Raises NotFound, Refused, Unreachable, Invalid, and Conflict when somebody edited it at the same moment.
        """
        first = current = await self.get(key)
        for _ in range(ATTEMPTS):
            overrides.check(current, verb, value)
            try:
                written = await self._api.request(
                    "PATCH",
                    documents.path(key),
                    body=_body(current, overrides.PATCHES[verb](value)),
                    content_type=JSON_PATCH,
                    params={"fieldManager": MANAGER},
                )
            except Conflict:  # mostly the operator's, which writes the status
                current = await self.get(key)
                if current.metadata.generation != first.metadata.generation:
                    break
                continue
            return documents.decoded(key.kind, written)
        raise Conflict(f"{key} was edited meanwhile; look at it again")

    async def events(self, key: Key | None = None, *, limit: int = 100) -> tuple[Recorded, ...]:
        """The newest events that the operator wrote, oldest first; a cluster keeps them for an hour or so."""
        fields = {"reportingController": REPORTER}
        namespaces: tuple[str | None, ...] = self._namespaces or (None,)
        if key is not None:
            fields |= {"regarding.kind": key.kind, "regarding.name": key.name}
            namespaces = (key.namespace,)
        selector = quote(",".join(f"{name}={value}" for name, value in fields.items()))
        found: list[Recorded] = []
        for namespace in namespaces:
            within = f"/namespaces/{namespace}" if namespace is not None else ""
            path = f"/apis/events.k8s.io/v1{within}/events?fieldSelector={selector}"
            found += [_recorded(each) for each in (await self._api.whole(path))[0]]
        return tuple(sorted(found, key=lambda each: each.last_at)[-limit:])

    async def secret(self, namespace: str, name: str) -> Secret:
        """A marked Secret, as far as the person may read it. Raises NotFound, Refused, Unreachable."""
        return await secrets_of_users.read(self._api, namespace, name)

    async def installation(self) -> str:
        """The name of the control plane. Raises NotFound where no operator ever ran, Invalid, Refused, Unreachable."""
        return (await installation.known(self._api, self._home)).id

    async def digest_key(self) -> bytes:
        """The key that secrets are compared by. Raises Refused, Unreachable, Invalid."""
        return await digesting.known(self._api, self._home)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._api.aclose()


def _body(current: Resource, patch: overrides.Patch) -> list[dict[str, Any]]:
    """The JSON patch, if the object is still the version that `current` is."""
    metadata = current.metadata
    steps: list[dict[str, Any]] = [
        {"op": "test", "path": "/metadata/uid", "value": metadata.uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata.resource_version},
    ]
    if patch.annotations:
        annotations = {**metadata.annotations, **patch.annotations}
        steps.append({"op": "add", "path": "/metadata/annotations", "value": annotations})
    if patch.replaces:
        steps.append({"op": "replace", "path": "/spec", "value": dict(patch.spec)})
    else:
        said = current.spec.as_declared()
        steps += _additions("/spec", said, patch.spec)
    return steps


def _additions(path: str, before: Any, wanted: Any) -> list[dict[str, Any]]:
    """What sets these fields and leaves those beside them."""
    steps = []
    for field, value in wanted.items():
        there = before.get(field)
        if isinstance(value, dict) and isinstance(there, dict):
            steps += _additions(f"{path}/{field}", there, value)
        else:
            steps.append({"op": "add", "path": f"{path}/{field}", "value": value})
    return steps


def _recorded(document: Json) -> Recorded:
    regarding, series = document.get("regarding") or {}, document.get("series") or {}
    namespace = str(regarding.get("namespace", "default"))
    key = Key(str(regarding.get("kind", "")), namespace, str(regarding.get("name", "")))
    first = _time(document.get("eventTime") or document["metadata"]["creationTimestamp"])
    last = _time(series["lastObservedTime"]) if series.get("lastObservedTime") else first
    event = Event(
        key,
        "Warning" if document.get("type") == "Warning" else "Normal",
        str(document.get("reason", "")),
        str(document.get("note", "")),
        uid=str(regarding.get("uid", "")),
        at=last,
    )
    return Recorded(event, int(series.get("count") or 1), first, last)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
