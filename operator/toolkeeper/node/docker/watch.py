"""Looking at containers: everything in one call, and one by one only what changed since."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from toolkeeper.errors import NotFound, Unreachable
from toolkeeper.node.docker.engine import Engine
from toolkeeper.node.docker.files import FileFolder
from toolkeeper.node.docker.images import Images
from toolkeeper.node.docker.marks import ROLE, Mark, marked
from toolkeeper.node.docker.networks import Networks
from toolkeeper.node.docker.peers import listed_name
from toolkeeper.node.docker.sight import ENDED, Beside, name_of, seen
from toolkeeper.node.docker.streams import json_lines, last_lines
from toolkeeper.node.docker.volumes import Volumes
from toolkeeper.node.runtime import Seen, Sight

Json = dict[str, Any]

TELLING: Final = frozenset(
    {"create", "start", "die", "stop", "pause", "unpause", "oom", "update", "rename", "destroy"}
)
"""Events of a container after which it may look different."""


@dataclass
class Watch:
    """What the daemon reports about our containers. Raises what `Engine` raises."""

    engine: Engine
    images: Images
    networks: Networks
    volumes: Volumes
    files: FileFolder
    only: frozenset[str] = frozenset()
    """The installations whose containers are ours; empty = all."""
    marks: dict[str, Mark] = field(default_factory=dict)
    """Name → mark of every container of ours that was seen or is being made."""
    making: dict[str, Mark] = field(default_factory=dict)
    """Those that are being made, and may not be there yet."""
    _seen: dict[str, Seen] = field(default_factory=dict)
    """Container id → how it looked; kept only while events say when that ends."""
    _listening: int = 0

    async def look(self) -> Sight:
        """Everything, now."""
        listed: list[Json] = await self.engine.call(self.engine.api.containers, all=True)
        ours = [
            (each, mark)
            for each in listed
            if (mark := self._mark(listed_name(each), each["Labels"])) is not None
        ]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._look_again(each, mark)) for each, mark in ours]
            volumes = group.create_task(self.volumes.all())
        found = [each for each in (task.result() for task in tasks) if each is not None]
        ids = {each["Id"] for each in listed}
        self._seen = {id: each for id, each in self._seen.items() if id in ids}
        self.marks = {listed_name(each): mark for each, mark in ours} | self.making
        return Sight(
            containers={each.container.name: each for each in found},
            unmarked=sum(ROLE not in (each["Labels"] or ()) for each in listed),
            volumes=volumes.result(),
        )

    async def look_at(self, name: str) -> Seen | None:
        """One container of ours, now."""
        try:
            found: Json = await self.engine.call(self.engine.api.inspect_container, name)
        except NotFound:
            return None
        mark = self._mark(name, found["Config"].get("Labels"))
        if mark is None or name_of(found) != name:  # Docker also answers to ids and beginnings of ids
            return None
        return await self._remember(found, mark)

    async def inspect(self, name: str) -> tuple[Json, Mark]:
        """One container of ours as Docker has it. Raises NotFound, also for a stranger's."""
        found: Json = await self.engine.call(self.engine.api.inspect_container, name)
        mark = self._mark(name, found["Config"].get("Labels"))
        if mark is None or name_of(found) != name:
            raise NotFound(f"there is no container {name} of ours")
        return found, mark

    @asynccontextmanager
    async def listening(self, since: int) -> AsyncIterator[AsyncIterator[str]]:
        """The names of containers to look at again, and the empty string for everything."""
        async with self.engine.stream("/events", {"since": since}) as events:
            self._listening += 1
            self._seen.clear()
            try:
                yield self._names(json_lines(events))
            finally:
                self._listening -= 1

    async def _names(self, events: AsyncIterator[Json]) -> AsyncIterator[str]:
        async for event in events:
            for name in self._concerned(event):
                yield name
        raise Unreachable("Docker closed its stream of events", reason="RuntimeUnavailable")

    def _mark(self, name: str, labels: Mapping[str, str] | None) -> Mark | None:
        mark = marked(name, labels)
        return mark if mark is not None and (not self.only or mark.installation in self.only) else None

    def _concerned(self, event: Json) -> list[str]:
        kind, action = event.get("Type"), str(event.get("Action"))
        actor = event.get("Actor") or {}
        attributes = actor.get("Attributes") or {}
        if kind == "container" and action in TELLING:
            self._seen.pop(str(actor.get("ID")), None)
            names = [attributes.get("name", ""), attributes.get("oldName", "").removeprefix("/")]
            return [name for name in names if self._mark(name, attributes) is not None]
        if kind == "network":
            return self._on_network(action, attributes)
        if kind == "image" and action in ("delete", "untag", "tag", "pull", "import", "load"):
            self.images.forget()
        if kind == "volume" and action in ("create", "destroy"):
            return [""] if str(actor.get("ID")).startswith("tk_") else []
        return []

    def _on_network(self, action: str, attributes: Json) -> list[str]:
        if action == "destroy":
            self.networks.forget(str(attributes.get("name")))
        if action not in ("connect", "disconnect"):
            return []
        changed = self._seen.pop(str(attributes.get("container")), None)
        return [changed.container.name] if changed is not None else []

    async def _look_again(self, listed: Json, mark: Mark) -> Seen | None:
        known = self._seen.get(listed["Id"])
        if known is not None and self._listening and known.container.state == listed["State"]:
            return known
        try:
            found: Json = await self.engine.call(self.engine.api.inspect_container, listed["Id"])
        except NotFound:
            return None
        return await self._remember(found, mark)

    def _with_last_end(self, id: str, now: Seen, *, ended: bool) -> Seen:
        """Between two crashes Docker forgets how the last run ended; whoever asks why it restarts wants to know."""
        before = self._seen.get(id)
        if ended or before is None or before.container.exit_code is None or not now.container.restarts:
            return now
        kept = replace(
            now.container, exit_code=before.container.exit_code, last_log=before.container.last_log
        )
        return replace(now, container=kept)

    async def _remember(self, found: Json, mark: Mark) -> Seen:
        name = name_of(found)
        image = await self.images.find(found["Image"])
        ended = found["State"]["Status"] in ENDED
        beside = Beside(
            image_digest=image.digest if image is not None else found["Image"],
            last_log=(
                await last_lines(self.engine, found["Id"], stdout=mark.transport != "stdio") if ended else ()
            ),
            files_missing=self.files.missing(mark.installation, name, mark.files),
            secret_contents=self.files.read(mark.installation, name, mark.secret_files),
        )
        result = self._with_last_end(found["Id"], seen(found, mark, beside), ended=ended)
        self.marks[name] = mark
        self._seen[found["Id"]] = result
        return result
