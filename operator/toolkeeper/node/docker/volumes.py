"""Named volumes: marked as ours, and owned by whoever runs the server."""

from __future__ import annotations

import io
import tarfile
from asyncio import Lock
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import anyio

from toolkeeper.errors import NotFound, Refused
from toolkeeper.node.docker.engine import Engine
from toolkeeper.node.docker.files import numeric
from toolkeeper.node.docker.marks import INSTALLATION, ROLE
from toolkeeper.planning.instance import VolumeMount

Json = dict[str, Any]

MOUNTED: Final = "volume"
MODE: Final = 0o755


@dataclass
class Volumes:
    """The volumes of this host. Raises what `Engine` raises."""

    engine: Engine
    _locks: defaultdict[str, Lock] = field(default_factory=lambda: defaultdict(Lock))

    async def ensure(self, installation: str, wanted: Iterable[VolumeMount], image: str, user: str) -> None:
        """Have each of them, its root owned by that user if it is to write there.

        Raises Refused(CreateFailed) for a volume that is somebody else's.
        """
        for each in wanted:
            async with self._locks[each.volume]:
                if not await self._exists(installation, each.volume):
                    labels = {INSTALLATION: installation}
                    await self.engine.call(self.engine.api.create_volume, each.volume, labels=labels)
                # Each time, not only on a fresh one: what was between making and giving it may have been a crash.
                if not each.read_only and user and (owner := numeric(user)) is not None:
                    await self._give(each.volume, image, owner)

    async def remove(self, installation: str, volume: str) -> None:
        """Remove a volume of that installation. Absent is success; Conflict while it is in use."""
        try:
            found: Json = await self.engine.call(self.engine.api.inspect_volume, volume)
            if _installation(found) != installation:
                raise Refused(f"the volume {volume} is not one of {installation}", reason="NotOurs")
            await self.engine.call(self.engine.api.remove_volume, volume)
        except NotFound:
            return

    async def all(self) -> dict[str, tuple[str, ...]]:
        """Installation → names of its volumes, sorted."""
        found: Json = await self.engine.call(self.engine.api.volumes, filters={"label": INSTALLATION})
        volumes: defaultdict[str, list[str]] = defaultdict(list)
        for each in found["Volumes"] or ():
            volumes[_installation(each)].append(each["Name"])
        return {installation: tuple(sorted(names)) for installation, names in volumes.items()}

    async def _exists(self, installation: str, volume: str) -> bool:
        try:
            found: Json = await self.engine.call(self.engine.api.inspect_volume, volume)
        except NotFound:
            return False
        if _installation(found) != installation:
            raise Refused(f"there is a volume {volume} that is not ours", reason="CreateFailed")
        return True

    async def _give(self, volume: str, image: str, owner: tuple[int, int]) -> None:
        """Through a container that never starts: an image needs no shell for it, and the host's folders no path."""
        mount = {
            "Type": "volume",
            "Source": volume,
            "Target": f"/{MOUNTED}",
            "VolumeOptions": {"NoCopy": True},
        }
        body = {
            "Image": image,
            "Cmd": ["never-started"],
            "Labels": {ROLE: "chown"},
            "HostConfig": {"NetworkMode": "none", "Mounts": [mount]},
        }
        created: Json = await self.engine.call(self.engine.api.create_container_from_config, body)
        try:
            await self.engine.call(self.engine.api.put_archive, created["Id"], "/", _folder_owned_by(owner))
        finally:
            with anyio.CancelScope(shield=True):
                await self.engine.call(self.engine.api.remove_container, created["Id"], force=True)


def _folder_owned_by(owner: tuple[int, int]) -> bytes:
    folder = tarfile.TarInfo(f"{MOUNTED}/")
    folder.type, folder.mode = tarfile.DIRTYPE, MODE
    folder.uid, folder.gid = owner
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(folder)
    return packed.getvalue()


def _installation(volume: Json) -> str:
    return str((volume.get("Labels") or {}).get(INSTALLATION, ""))
