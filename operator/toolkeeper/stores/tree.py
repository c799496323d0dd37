"""A folder of manifests: which files are there, which of them may be read, and their text."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from toolkeeper.stores.installation import FILE as INSTALLATION_FILE

ENDINGS = (".yaml", ".yml", ".json")
LARGEST = 1024 * 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_ESCAPES = "is a link that leads out of the folder"


class Stamp(NamedTuple):
    """What changes when a file does."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int


@dataclass(frozen=True, slots=True)
class File:
    """A manifest, or what stands in its place."""

    path: str
    """Relative to the root, with `/`."""
    place: Path
    stamp: Stamp | None
    """None when it could not be looked at."""
    refused: str = ""
    """Why it is not read."""


@dataclass(slots=True)
class Walk:
    """What a folder holds now."""

    files: list[File] = field(default_factory=list)
    """In path order."""
    unseen: dict[str, str] = field(default_factory=dict)
    """Folders that could not be listed (`""` is the root), and why. Nothing is known of what is below them."""

    def hides(self, path: str) -> str | None:
        """The folder that keeps `path` from being seen, if one does."""
        return next((folder for folder in self.unseen if not folder or path.startswith(folder + "/")), None)


class Unreadable(Exception):
    """A file whose text cannot be had."""


def shown(name: str) -> str:
    """A name as text that a terminal may be given."""
    text = name.encode("utf-8", "backslashreplace").decode()
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def walk(root: Path, *, skip: Collection[Path] = ()) -> Walk:
    """Every manifest below `root`, through links that stay inside it, leaving out dot-names and what is in `skip`."""
    found = Walk()
    _descend(
        root, "", _Bounds(root.resolve(), {identity for each in skip for identity in _identity(each)}), found
    )
    found.files.sort(key=lambda file: file.path)
    return found


def text(file: File) -> str:
    """The text; bytes that are none are left for the parser to name. Raises Unreadable; never waits for a pipe."""
    if file.refused:
        raise Unreadable(file.refused)
    try:
        with os.fdopen(os.open(file.place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            content = opened.read(LARGEST + 1)
    except OSError as exc:
        raise Unreadable(f"cannot be read: {exc.strerror}") from exc
    if len(content) > LARGEST:
        raise Unreadable("is larger than 1 MiB; split it")
    return content.decode("utf-8", "surrogateescape")


def last_touched(root: Path, path: str) -> float:
    """When the file, or the nearest folder that is left of its path, was last modified (seconds since the epoch)."""
    place = root / path
    for candidate in (place, *place.parents):
        try:
            return candidate.stat().st_mtime
        except OSError:
            continue
    return 0.0


def _identity(folder: Path) -> list[tuple[int, int]]:
    try:
        status = folder.stat()
    except OSError:
        return []
    return [(status.st_dev, status.st_ino)]


class _Bounds(NamedTuple):
    root: Path
    visited: set[tuple[int, int]]
    """Folders not to enter: those to skip, and those seen, so that links among them end."""


def _descend(folder: Path, path: str, bounds: _Bounds, found: Walk) -> None:
    try:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in bounds.visited:
            return
        bounds.visited.add((status.st_dev, status.st_ino))
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as exc:
        found.unseen[path] = exc.strerror or str(exc)
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # SQLite and people both want text; a name that is none, or that commands a terminal, is shown escaped.
        name = shown(entry.name)
        below = f"{path}/{name}" if path else name
        for file in _looked_at(entry, below, bounds, found):
            found.files.append(file)


def _looked_at(entry: os.DirEntry[str], path: str, bounds: _Bounds, found: Walk) -> Iterator[File]:
    place = Path(entry.path)
    manifest = entry.name.lower().endswith(ENDINGS) and path != INSTALLATION_FILE
    try:
        folder = entry.is_dir()
        if not (folder or manifest):
            return
        if entry.is_symlink() and not place.resolve().is_relative_to(bounds.root):
            if folder:
                found.unseen[path] = _ESCAPES
            else:
                yield File(path, place, None, _ESCAPES)
        elif folder:
            _descend(place, path, bounds, found)
        else:
            yield _file(entry, path, place)
    except OSError as exc:
        if not isinstance(exc, FileNotFoundError) or entry.is_symlink():  # else it went away while we looked
            yield File(path, place, None, f"cannot be looked at: {exc.strerror}")


def _file(entry: os.DirEntry[str], path: str, place: Path) -> File:
    status = entry.stat()
    stamp = Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if not stat.S_ISREG(status.st_mode):
        return File(path, place, stamp, "is not a regular file")
    if status.st_size > LARGEST:
        return File(path, place, stamp, "is larger than 1 MiB; split it")
    return File(path, place, stamp)
