"""Which images the latest versions of each server were made of: going back to one must not need a registry.

The operator keeps that many versions in its history; an image that it may go back to is not collected.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

KEPT: Final = 5


@dataclass(frozen=True, slots=True)
class Versions:
    """The latest versions of one server, newest last: its hash, and the id of its image."""

    latest: tuple[tuple[str, str], ...] = ()
    seen: float = 0.0
    """When the server last had a container here, in Unix seconds; 0 = not looked at since."""


class VersionRecord:
    """Kept in one small file; losing it costs a pull or a build. A server is `<installation>/<namespace>/<name>`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._servers: dict[str, Versions] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError):
            self._servers = {
                server: Versions(
                    tuple((str(version), str(id)) for version, id in each["latest"]), each["seen"]
                )
                for server, each in json.loads(path.read_text()).items()
            }

    def made(self, server: str, version: str, image: str) -> None:
        """A version of that server is being made of that image."""
        known = self._servers.get(server, Versions())
        if known.latest[-1:] == ((version, image),):
            return
        others = tuple(each for each in known.latest if each[0] != version)
        self._servers[server] = Versions((*others, (version, image))[-KEPT:], known.seen)
        self._save()

    def looked(self, present: Collection[str], now: float, *, forget_after: float) -> None:
        """These servers have containers now; one that had none for so long is gone, and its history with it."""
        for server, known in list(self._servers.items()):
            if server in present or not known.seen:
                self._servers[server] = replace(known, seen=now)
            elif known.seen + forget_after <= now:
                del self._servers[server]
        self._save()

    def images(self) -> frozenset[str]:
        """The ids of all images that somebody may want to go back to."""
        return frozenset(image for each in self._servers.values() for _, image in each.latest)

    def _save(self) -> None:
        partial = self._path.with_suffix(".partial")
        with suppress(OSError):  # a full disk costs a pull later; a server must start all the same
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({server: asdict(each) for server, each in self._servers.items()}))
            partial.replace(self._path)
