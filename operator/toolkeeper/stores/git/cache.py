"""Where pulled commits are kept, and which one holds now. Everything in it can be deleted and is pulled again.

<cache>/                 mode 0700
    lock                 held while somebody pulls, also by a git program whose operator died
    repository.git/      our bare copy
    trees/<commit>/      the manifests of a commit, complete or not there
    current              a link to one of them; replacing it is the switch
    pulled.json          what came of the last pulls, for people
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from toolkeeper.errors import Unreachable
from toolkeeper.reconcile.ports import Problem
from toolkeeper.stores.declared import short
from toolkeeper.stores.git.address import Address
from toolkeeper.stores.git.worktree import to_disk

LOCK_SECONDS = 60.0
LOOK_SECONDS = 0.1
KEEP_SECONDS = 600.0
"""How long a tree outlives its commit: somebody may still be reading it."""
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, slots=True)
class Pulled:
    """What is known of the source. Written when it changes, not at every pull."""

    commit: str = ""
    at: str = ""
    """When this commit came into force."""
    failure: str = ""
    """Why there is nothing newer."""
    since: str = ""
    """When that began."""
    remarks: tuple[str, ...] = ()
    """What is left out of the commit."""


class Cache:
    """The cache of one address. Fits `stores.origin.Origin`."""

    def __init__(self, folder: Path, address: Address) -> None:
        self.folder = folder
        self.address = address
        self.repository = folder / "repository.git"
        self._trees = folder / "trees"
        self._current = folder / "current"
        self._known: tuple[int, Pulled] = (0, Pulled())

    @property
    def root(self) -> Path:
        """The folder of manifests: the same path for every commit."""
        return self._current / self.address.path

    @property
    def name(self) -> str:
        """What people call the folder."""
        return str(self.address)

    @property
    def commit(self) -> str:
        """The commit that holds now; empty before the first."""
        with suppress(OSError):
            return self._named(self._current.readlink())
        return ""

    def revision(self, folder: Path) -> str:
        """The commit that a folder, as it was resolved, belongs to."""
        with suppress(ValueError):
            return self._named(folder.relative_to(self._trees.resolve()))
        return ""

    def pulled(self) -> Pulled:
        """What came of the last pulls, of any process."""
        file = self.folder / "pulled.json"
        with suppress(OSError, ValueError, TypeError):
            stamp = file.stat().st_mtime_ns
            if stamp != self._known[0]:
                said = json.loads(file.read_text(encoding="utf-8"))
                self._known = (stamp, Pulled(**{**said, "remarks": tuple(said.get("remarks", ()))}))
            return self._known[1]
        return Pulled(self.commit)

    def problems(self) -> tuple[Problem, ...]:
        """Why the newest commit may not be in force, and what of it is left out."""
        pulled = self.pulled()
        found = [Problem(self.name, remark) for remark in pulled.remarks]
        if pulled.failure:
            kept = f"; commit {short(pulled.commit)} stays in force" if pulled.commit else ""
            found.insert(0, Problem(self.name, f"not pulled since {pulled.since}: {pulled.failure}{kept}"))
        return tuple(found)

    def keep(self, pulled: Pulled) -> bool:
        """Write it down; whether it is news. Raises Unreachable."""
        if pulled == self.pulled():
            return False
        file = self.folder / "pulled.json"
        draft = file.with_name(f"{file.name}.{os.getpid()}")
        with _writing(self.folder):
            draft.write_text(json.dumps(asdict(pulled)), encoding="utf-8")
            draft.replace(file)
        self._known = (0, pulled)
        return True

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[int]:
        """Hold the cache alone; the lock's file is for programs to inherit. Raises Unreachable."""
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            await self._take(file)
            yield file
        finally:
            os.close(file)

    async def _take(self, file: int) -> None:
        try:
            async with asyncio.timeout(LOCK_SECONDS):
                while not _try(file):  # noqa: ASYNC110 - the kernel tells nobody
                    await asyncio.sleep(LOOK_SECONDS)
        except TimeoutError as exc:
            raise Unreachable(
                f"another process has been pulling into {self.folder} for {LOCK_SECONDS:g} s: is it stuck?",
                reason="StoreUnreachable",
            ) from exc

    def has(self, commit: str) -> bool:
        """Whether the whole commit is here."""
        return (self._trees / commit).is_dir()

    @contextmanager
    def draft(self, commit: str) -> Iterator[Path]:
        """An empty folder to write a commit to; gone afterwards unless it was adopted. Raises Unreachable."""
        draft = self._trees / f".{commit}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        with _writing(self.folder):
            draft.mkdir(parents=True, mode=0o700)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def adopt(self, draft: Path, commit: str) -> None:
        """The draft is complete. Raises Unreachable."""
        with _writing(self.folder):
            draft.rename(self._trees / commit)
            to_disk(self._trees)

    def switch(self, commit: str, now: float) -> None:
        """From now on this commit holds: at once, for every process. Raises Unreachable."""
        before = self.commit
        link = self.folder / ".current.draft"
        with _writing(self.folder):
            link.unlink(missing_ok=True)
            link.symlink_to(Path("trees") / commit)
            link.replace(self._current)
            to_disk(self.folder)
            if before and before != commit:
                with suppress(FileNotFoundError):
                    os.utime(self._trees / before, (now, now))

    def prune(self, now: float) -> None:
        """Remove the trees that nobody reads any more, and drafts that nobody finished. The lock is held."""
        current = self.commit
        with suppress(OSError):
            for each in list(self._trees.iterdir()):
                if each.name == current or now - each.stat().st_mtime < KEEP_SECONDS:
                    continue
                # Out of the way first: nobody ever sees half a tree.
                rubbish = self._trees / f".{each.name.lstrip('.')}.rubbish"
                each.rename(rubbish)
                shutil.rmtree(rubbish, ignore_errors=True)

    def _named(self, path: Path) -> str:
        names = [part for part in path.parts if _COMMIT.fullmatch(part)]
        return names[0] if names else ""


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise Unreachable(
            f"the cache {folder} cannot be written: {exc.strerror}", reason="StoreUnreachable"
        ) from exc


def _try(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
