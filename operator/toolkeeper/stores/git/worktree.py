"""Writing the manifests of one commit to a folder: exactly the bytes that were committed, and nothing outside it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from toolkeeper.errors import Invalid, Unreachable
from toolkeeper.stores import tree
from toolkeeper.stores.git.program import Run
from toolkeeper.stores.git.repository import Entry

MOST_FILES = 10_000
MOST_BYTES = 64 * 1024 * 1024
LONGEST_LINK = 4096
AT_ONCE = 8 * 1024 * 1024
"""Bytes held in memory while files are written."""


class Contents(Protocol):
    """Where the bytes come from."""

    async def contents(self, entries: Sequence[Entry], run: Run) -> Sequence[bytes]:
        """The bytes of each entry, in order."""
        ...


class Chosen(NamedTuple):
    """What of a tree is written."""

    files: tuple[Entry, ...]
    huge: tuple[Entry, ...]
    """Files that nothing will read; the store says so of each."""
    links: tuple[Entry, ...]
    submodules: tuple[str, ...]
    """Paths of other repositories: they are not followed."""


def chosen(entries: Iterable[Entry]) -> Chosen:
    """The manifests and all links; everything where there are links, for they may lead to it. Raises Invalid."""
    files: list[Entry] = []
    links: list[Entry] = []
    submodules: list[str] = []
    for entry in entries:
        _check(entry.path)
        if entry.mode == "160000":
            submodules.append(entry.path)
        elif entry.mode == "120000":
            links.append(entry)
        else:
            files.append(entry)
    if not links:
        files = [each for each in files if each.path.lower().endswith(tree.ENDINGS)]
    huge = [each for each in files if each.size > tree.LARGEST]
    files = [each for each in files if each.size <= tree.LARGEST]
    if len(files) + len(links) > MOST_FILES or sum(each.size for each in files) > MOST_BYTES:
        raise Invalid(
            f"it holds more than {MOST_FILES} files or {MOST_BYTES // 2**20} MiB of them: "
            "give --path a folder that holds the manifests and little else"
        )
    if any(each.size > LONGEST_LINK for each in links):
        raise Invalid("a link in it is longer than any path")
    return Chosen(tuple(files), tuple(huge), tuple(links), tuple(submodules))


async def write(folder: Path, wanted: Chosen, source: Contents, run: Run) -> None:
    """Write all of it to the new folder and to the disk. Raises Invalid, Unreachable; half of it may be there then."""
    # Files first: while there is no link, no path of a file can lead anywhere else.
    for portion in _portions(wanted.files):
        contents = await source.contents(portion, run)
        await asyncio.to_thread(_write_files, folder, zip(portion, contents, strict=True))
    targets = await source.contents(wanted.links, run)
    await asyncio.to_thread(_finish, folder, wanted, targets)


def _write_files(folder: Path, files: Iterable[tuple[Entry, bytes]]) -> None:
    with _translated(folder):
        for entry, content in files:
            _write_file(folder / entry.path, content)


def _finish(folder: Path, wanted: Chosen, targets: Sequence[bytes]) -> None:
    with _translated(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for entry in wanted.huge:
            _write_file(folder / entry.path, b"", length=tree.LARGEST + 1)
        for entry, target in zip(wanted.links, targets, strict=True):
            place = folder / entry.path
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            place.symlink_to(os.fsdecode(target))
        for below, _, _ in os.walk(folder, topdown=False):
            to_disk(Path(below))


@contextmanager
def _translated(folder: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError, ValueError) as exc:
        raise Invalid(f"its tree is damaged: two things are at one path ({exc})") from exc
    except OSError as exc:
        raise Unreachable(
            f"it cannot be written to {folder.parent}: {exc.strerror}", reason="StoreUnreachable"
        ) from exc


def _check(path: str) -> None:
    parts = path.split("/")
    if any(part in {"", ".", ".."} or part.lower() == ".git" for part in parts) or "\\" in path:
        raise Invalid(f"its tree holds the path {path!r}, which no folder can have: rename it")


def _portions(entries: Sequence[Entry]) -> Iterable[Sequence[Entry]]:
    portion: list[Entry] = []
    size = 0
    for entry in entries:
        if portion and size + entry.size > AT_ONCE:
            yield portion
            portion, size = [], 0
        portion.append(entry)
        size += entry.size
    if portion:
        yield portion


def _write_file(place: Path, content: bytes, *, length: int | None = None) -> None:
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        if length is not None:
            opened.truncate(length)
        opened.flush()
        # After a crash of the machine, an empty file would say that nothing is declared in it any more.
        os.fsync(opened.fileno())


def to_disk(folder: Path) -> None:
    """Make what was created in the folder, or renamed to it, outlive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
