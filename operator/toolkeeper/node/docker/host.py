"""What all containers of this node share: the daemon, the walls around the bridges, and what others left behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from toolkeeper.clock import Clock
from toolkeeper.errors import Conflict, NotFound, Refused, ToolkeeperError
from toolkeeper.node import features as known
from toolkeeper.node.docker import firewall
from toolkeeper.node.docker.builds import SECONDS as BUILD_SECONDS
from toolkeeper.node.docker.engine import Engine
from toolkeeper.node.docker.files import FileFolder
from toolkeeper.node.docker.images import Images
from toolkeeper.node.docker.marks import INSTALLATION, ROLE
from toolkeeper.node.docker.networks import Networks
from toolkeeper.node.docker.watch import Watch
from toolkeeper.node.runtime import Capacity
from toolkeeper.node.version_record import VersionRecord

Json = dict[str, Any]

ALWAYS: Final = frozenset(
    {
        known.CAPABILITIES, known.READ_ONLY_ROOT, known.USER, known.IMAGES, known.PACKAGES,
        known.SYSTEM_PACKAGES, known.VOLUMES, known.FILES, known.STDIO, known.LOGS, known.STATS,
    }
)  # fmt: skip
LIMITS: Final = {known.MEMORY: "MemoryLimit", known.CPU: "CpuCfsQuota", known.PIDS: "PidsLimit"}
"""What a daemon says of itself: some kernels lack the cgroup for it."""
WALLED: Final = frozenset({known.NETWORK, known.PEERS})
"""True only while the firewall holds."""
COLLECT_SECONDS: Final = 3600.0
NOTHING: Final = Capacity(0, 0)

log = structlog.get_logger("toolkeeper.node")


@dataclass
class Host:
    """Raises what `Engine` raises."""

    engine: Engine
    images: Images
    networks: Networks
    files: FileFolder
    watch: Watch
    versions: VersionRecord
    clock: Clock
    keep_images_seconds: float
    features: frozenset[str] = frozenset()
    capacity: Capacity = NOTHING
    _walled: str | None = None
    """Why the firewall does not hold; None if it does."""
    _collected: float = 0.0
    _collecting: asyncio.Task[None] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        # Another node agent that leaves takes the rules along when it sees no network: so again after each new one.
        self.networks.on_made = self._wall

    async def prepare(self) -> None:
        """Have everything shared in place, as after a start of the daemon.

        Raises Unreachable, and Refused(RuntimeUnsupported) when this daemon's containers cannot be reached from here.
        """
        info: Json = await self.engine.call(self.engine.api.info)
        if (reason := await self.networks.reachable()) is not None:
            raise Refused(reason, reason="RuntimeUnsupported")
        self.networks.forget()
        self.images.forget()
        await self._wall()
        enforced = {feature for feature, key in LIMITS.items() if info.get(key)}
        self.features = ALWAYS | enforced | (WALLED if self._walled is None else frozenset())
        self.capacity = Capacity(int(info.get("MemTotal", 0)), int(info.get("NCPU", 0)) * 1_000_000_000)

    async def check(self) -> None:
        """Look after what no event tells of: the firewall, old images, what a crash left behind."""
        await self._wall()
        self.features = self.features - WALLED if self._walled else self.features | WALLED
        now = self.clock.now().timestamp()
        if now - self._collected >= COLLECT_SECONDS and self._collecting is None:
            self._collected = now
            self._collecting = asyncio.create_task(self._clean(now))

    async def sweep(self) -> None:
        """Remove helper containers and files that a node agent left when it crashed."""
        oldest = self.clock.now().timestamp() - 2 * BUILD_SECONDS
        for each in await self.engine.call(self.engine.api.containers, all=True, filters={"label": ROLE}):
            if each["Created"] < oldest:
                with suppress(NotFound, Conflict):
                    await self.engine.wait(self.engine.api.remove_container, each["Id"], v=True, force=True)
        self.files.sweep(frozenset(self.watch.marks), oldest)

    async def leave(self, installation: str) -> None:
        """See `DockerRuntime.leave`."""
        label = f"{INSTALLATION}={installation}"
        if await self.engine.call(self.engine.api.containers, all=True, filters={"label": label}):
            raise Conflict(f"{installation} still has containers")
        for network in await self.networks.labelled(label):
            await self.networks.remove(network)
        if not await self.networks.labelled():
            await firewall.remove()

    async def aclose(self) -> None:
        """Stop what runs beside. A second call does nothing."""
        if self._collecting is not None:
            self._collecting.cancel()
            with suppress(asyncio.CancelledError):
                await self._collecting

    async def _wall(self) -> None:
        try:
            await firewall.ensure()
        except Refused as exc:
            if self._walled != str(exc):
                log.warning("firewall_not_set", reason=str(exc))
            self._walled = str(exc)
        else:
            self._walled = None

    async def collect(self, now: float) -> tuple[str, ...]:
        """See `DockerRuntime.collect`."""
        unused = self.keep_images_seconds
        present = {mark.whose for mark in self.watch.marks.values()}
        self.versions.looked(present, now, forget_after=unused)
        return await self.images.collect(keep=self.versions.images(), unused_seconds=unused, now=now)

    async def _clean(self, now: float) -> None:
        try:
            await self.sweep()
            if gone := await self.collect(now):
                log.info("images_collected", images=gone)
        except ToolkeeperError as exc:
            log.warning("images_not_collected", reason=str(exc))
        finally:
            self._collecting = None
