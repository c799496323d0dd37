"""The real runtime: Docker Engine on this host. A `runtime.Runtime`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from typing import Any, Final, Literal

import anyio

from toolkeeper.clock import Clock
from toolkeeper.errors import Conflict, NotFound, Refused, Unreachable
from toolkeeper.node.docker import streams
from toolkeeper.node.docker.builds import Builds
from toolkeeper.node.docker.engine import Engine
from toolkeeper.node.docker.files import FileFolder
from toolkeeper.node.docker.host import Host
from toolkeeper.node.docker.image_record import ImageRecord
from toolkeeper.node.docker.images import Images
from toolkeeper.node.docker.launch import RUNS, Launch
from toolkeeper.node.docker.listening import on_loopback_only
from toolkeeper.node.docker.marks import Mark
from toolkeeper.node.docker.networks import Networks
from toolkeeper.node.docker.peers import Peers
from toolkeeper.node.docker.settings import DockerSettings
from toolkeeper.node.docker.usage import Meter
from toolkeeper.node.docker.volumes import Volumes
from toolkeeper.node.docker.watch import Watch
from toolkeeper.node.runtime import ByteStream, Capacity, Seen, Sight, Step, Usage
from toolkeeper.node.version_record import VersionRecord
from toolkeeper.reconcile.ports import InstanceRequest

Json = dict[str, Any]

RESTART_GRACE: Final = 10
SHORT_DRAIN: Final = 2
SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 0.5


class DockerRuntime:
    """See `runtime.Runtime` for what each method promises."""

    def __init__(self, settings: DockerSettings, *, clock: Clock, chance: random.Random) -> None:
        self._settings, self._clock = settings, clock
        self._engine = engine = Engine(f"unix://{settings.socket}")
        self._images = images = Images(engine, ImageRecord(settings.state / "images.json"))
        self._networks = networks = Networks(engine, settings.addresses, chance)
        self._files = files = FileFolder(settings.run)
        self._volumes = volumes = Volumes(engine)
        self._watch = watch = Watch(engine, images, networks, volumes, files, settings.only)
        self._peers = peers = Peers(engine, networks)
        bases = {"pypi": settings.python_bases, "npm": settings.node_bases}
        self._builds = builds = Builds(engine, images, settings.run / ".builds", bases, settings.environment)
        versions = VersionRecord(settings.state / "versions.json")
        self._launch = Launch(engine, images, builds, networks, volumes, files, peers, watch, versions)
        self._host = Host(
            engine, images, networks, files, watch, versions, clock, settings.keep_images_seconds
        )
        self._meter = Meter()

    @property
    def name(self) -> Literal["docker", "process"]:
        return "docker"

    @property
    def features(self) -> frozenset[str]:
        return self._host.features

    async def open(self) -> None:
        await self._host.prepare()
        await self._watch.look()
        await self._host.sweep()

    async def can_build(self, registries: frozenset[str], seconds: int) -> None:
        """Make sure that packages of these registries could be built: their base images are here or can be pulled.

        Raises Refused or Unreachable for the first that cannot be had; no answer within `seconds` is none.
        """
        for registry in sorted(registries):
            await self._builds.base_offered(registry, seconds)

    async def leave(self, installation: str) -> None:
        """Remove what only its containers needed: the networks of an installation that has none any more.

        When no network of any installation is left, the firewall's rules go as well. Raises Conflict while it has
        containers.
        """
        await self._host.leave(installation)

    async def collect(self, now: float) -> tuple[str, ...]:
        """Remove the images that this node brought and no server needs, nor may go back to. Returns their names.

        Happens by itself every hour; `now` in Unix seconds.
        """
        return await self._host.collect(now)

    async def aclose(self) -> None:
        await self._host.aclose()
        await self._engine.aclose()

    async def capacity(self) -> Capacity:
        return self._host.capacity

    async def look(self) -> Sight:
        return await self._watch.look()

    async def look_at(self, name: str) -> Seen | None:
        return await self._watch.look_at(name)

    async def changes(self) -> AsyncGenerator[str]:
        # A second of overlap, because the daemon answers before it listens.
        since = int(self._clock.now().timestamp()) - 1
        async with self._watch.listening(since) as names:
            await self._host.prepare()
            yield ""
            upcoming = asyncio.ensure_future(anext(names))
            try:
                while True:
                    done, _ = await asyncio.wait({upcoming}, timeout=self._settings.check_seconds)
                    if done:
                        name = upcoming.result()
                        upcoming = asyncio.ensure_future(anext(names))
                        yield name
                    else:
                        await self._host.check()
                        yield ""
            finally:
                upcoming.cancel()
                await asyncio.wait({upcoming})

    async def create(self, name: str, installation: str, request: InstanceRequest, step: Step) -> None:
        await self._launch.create(name, installation, request, step)

    async def start(self, name: str) -> None:
        found, mark = await self._watch.inspect(name)
        await self._begin(found, mark)

    async def stop(self, name: str, drain: int) -> None:
        found, _ = await self._watch.inspect(name)
        await self._end(found, drain)

    async def restart(self, name: str) -> None:
        found, mark = await self._watch.inspect(name)
        await self._end(found, RESTART_GRACE)
        await self._begin(found, mark)

    async def remove(self, name: str, drain: int) -> None:
        try:
            found, mark = await self._watch.inspect(name)
        except NotFound:
            await self._must_be_absent(name)
            return
        await self._end(found, drain)
        await self._remove(found["Id"])
        self._networks.give_back(found["NetworkSettings"].get("Networks") or {})
        await self._forget(name, mark)

    async def remove_volume(self, installation: str, volume: str) -> None:
        await self._volumes.remove(installation, volume)

    async def logs(self, name: str, *, tail: int, follow: bool) -> AsyncGenerator[str]:
        found, mark = await self._watch.inspect(name)
        stdout = mark.transport != "stdio"
        lines = streams.follow(self._engine, found["Id"], stdout=stdout, tail=tail, follow=follow)
        async with aclosing(lines):
            async for line in lines:
                yield line

    async def usage(self, names: frozenset[str]) -> Mapping[str, Usage]:
        async with asyncio.TaskGroup() as group:
            tasks = {name: group.create_task(self._sample(name)) for name in names}
        samples = {name: sample for name, task in tasks.items() if (sample := task.result()) is not None}
        self._meter.keep(frozenset(str(each["id"]) for each in samples.values()))
        now = self._clock.monotonic()
        read = {name: self._meter.read(each, now) for name, each in samples.items()}
        return {name: each for name, each in read.items() if each is not None}

    @asynccontextmanager
    async def attach(self, name: str) -> AsyncIterator[ByteStream]:
        found, _ = await self._watch.inspect(name)
        if found["State"]["Status"] != "running":
            raise Unreachable(f"{name} does not run", reason="RuntimeUnavailable")
        async with streams.attach(str(self._settings.socket), found["Id"]) as attached:
            yield attached

    async def listening_on_loopback(self, name: str) -> bool | None:
        try:
            found, mark = await self._watch.inspect(name)
        except NotFound:
            return None
        pid = found["State"].get("Pid") or 0
        return await anyio.to_thread.run_sync(on_loopback_only, pid, mark.port) if pid and mark.port else None

    async def _begin(self, found: Json, mark: Mark) -> None:
        name = found["Name"].removeprefix("/")
        if found["State"]["Status"] not in RUNS and self._files.missing(mark.installation, name, mark.files):
            raise Refused(f"the files of {name} were in memory and are gone", reason="FilesUnavailable")
        await self._launch.begin(found["Id"], mark)

    async def _end(self, found: Json, drain: int) -> None:
        """Stop it. A long drain is waited for here: a call of the daemon could not be given up half-way."""
        id, status = found["Id"], found["State"]["Status"]
        if status not in RUNS:
            return
        api = self._engine.api
        with suppress(NotFound):
            if status == "running" and drain > SHORT_DRAIN:
                signal = found["Config"].get("StopSignal") or "SIGTERM"
                with suppress(Conflict):
                    await self._engine.call(api.kill, id, signal)
                    await self._ended(id, drain)
                drain = 0
            await self._engine.wait(api.stop, id, timeout=drain)

    async def _ended(self, id: str, seconds: float) -> None:
        """Wait until it has ended, but no longer than that."""
        pause = SHORTEST_PAUSE
        with anyio.move_on_after(seconds):
            while True:
                found: Json = await self._engine.call(self._engine.api.inspect_container, id)
                if found["State"]["Status"] != "running":
                    return
                await anyio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _remove(self, id: str) -> None:
        api = self._engine.api
        with suppress(NotFound):
            try:
                await self._engine.wait(api.remove_container, id, v=True, force=True)
            except Conflict:  # somebody else is at it
                await self._ended_removing(id)

    async def _ended_removing(self, id: str) -> None:
        """Wait until it is gone: until NotFound."""
        with anyio.fail_after(RESTART_GRACE):
            while True:
                await self._engine.call(self._engine.api.inspect_container, id)
                await anyio.sleep(LONGEST_PAUSE)

    async def _must_be_absent(self, name: str) -> None:
        with suppress(NotFound):
            found: Json = await self._engine.call(self._engine.api.inspect_container, name)
            if found["Name"] == f"/{name}":
                raise Refused(f"{name} is not a container of ours", reason="NotOurs")
        if (mark := self._watch.marks.get(name)) is not None:
            await self._forget(name, mark)

    async def _forget(self, name: str, mark: Mark) -> None:
        self._files.remove(mark.installation, name)
        concerned = self._launch.concerns_peers(mark)
        self._watch.marks.pop(name, None)
        if concerned:
            await self._peers.converge(mark.installation)

    async def _sample(self, name: str) -> Json | None:
        take = partial(self._engine.api.stats, name, decode=None, stream=False, one_shot=True)
        try:
            return await self._engine.call(take)
        except (NotFound, Conflict):
            return None
