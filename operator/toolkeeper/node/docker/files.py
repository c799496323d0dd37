"""Files that a server finds at paths of its own and that are nowhere on disk: a folder in memory for each container."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from toolkeeper.errors import Refused

ONLY_ROOT: Final = 0o700
OWNER_READS: Final = 0o400
ALL_READ: Final = 0o444
"""Where the user has only a name, which only the image knows. The folder above lets nobody else in."""


@dataclass(frozen=True, slots=True)
class FileFolder:
    """The folder of one node; it must be on a tmpfs, and the daemon must see it under the same path."""

    root: Path

    def place(self, installation: str, container: str) -> Path:
        """Where the files of that container are."""
        return self.root / installation / container

    def write(
        self, installation: str, container: str, contents: Sequence[str], user: str
    ) -> tuple[Path, ...]:
        """Write the files, readable by that user of the container only. Raises Refused(FilesUnavailable)."""
        folder = self.place(installation, container)
        owner = numeric(user)
        try:
            folder.mkdir(mode=ONLY_ROOT, parents=True, exist_ok=True)
            folder.chmod(ONLY_ROOT)
            return tuple(_write(folder / str(n), text, owner) for n, text in enumerate(contents))
        except OSError as exc:
            raise Refused(
                f"the files cannot be written to {folder}: {exc}", reason="FilesUnavailable"
            ) from exc

    def missing(self, installation: str, container: str, count: int) -> bool:
        """Whether any of its files is gone, as after a reboot of the host."""
        folder = self.place(installation, container)
        return any(not (folder / str(n)).exists() for n in range(count))

    def read(self, installation: str, container: str, positions: Sequence[int]) -> frozenset[str]:
        """What is in those of its files, as far as it is there."""
        found: set[str] = set()
        for n in positions:
            with suppress(OSError, UnicodeDecodeError):
                found.add((self.place(installation, container) / str(n)).read_text())
        return frozenset(found)

    def sweep(self, containers: frozenset[str], older_than: float) -> None:
        """Remove the files of containers that are gone, if they are older than that (in Unix seconds)."""
        for folder in self.root.glob("*/tk_*"):
            if folder.name not in containers and folder.stat().st_mtime < older_than:
                shutil.rmtree(folder, ignore_errors=True)

    def remove(self, installation: str, container: str) -> None:
        """Remove the files of that container. Absent is success."""
        folder = self.place(installation, container)
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # others of the installation are still there
            folder.parent.rmdir()


def numeric(user: str) -> tuple[int, int] | None:
    """(uid, gid) of `uid:gid` or `uid`; None where there are names."""
    uid, _, gid = (user or "0:0").partition(":")
    return (int(uid), int(gid or uid)) if uid.isdecimal() and (gid or uid).isdecimal() else None


def _write(path: Path, text: str, owner: tuple[int, int] | None) -> Path:
    # Written under another name and moved: a container that runs keeps the file that it has.
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    if owner is not None and os.geteuid() == 0:
        os.chown(partial, *owner)
    partial.chmod(OWNER_READS if owner is not None else ALL_READ)
    return partial.replace(path)
