"""A real repository, what follows it, and the folder that comes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from toolkeeper.stores.git.access import Access
from toolkeeper.stores.git.address import Address
from toolkeeper.stores.git.cache import Cache
from toolkeeper.stores.git.program import Git
from toolkeeper.stores.git.puller import Puller
from toolkeeper.testing.git_server import GitRepository, GitServer


@dataclass
class Days:
    """A clock that stands still until a test moves it."""

    seconds: float = 0.0
    start: datetime = field(default_factory=lambda: datetime.now(UTC))  # noqa: TID251 - trees have real times

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


@dataclass
class Follower:
    """One process that follows the repository."""

    cache: Cache
    puller: Puller
    clock: Days

    def files(self) -> dict[str, str]:
        """The folder as it holds now: path → text."""
        root = self.cache.root
        return {
            str(each.relative_to(root)): each.read_text()
            for each in sorted(root.rglob("*"))
            if each.is_file() and not each.is_symlink()
        }


def follower(
    place: Path, url: str, ref: str = "HEAD", path: str = "", *, git: Git | None = None,
    clock: Days | None = None, check: Any = lambda folder: None, **access: Any,
) -> Follower:  # fmt: skip
    """A process that keeps its cache in `place`."""
    address = Address.of(url, ref, path)
    cache = Cache(place, address)
    clock = clock or Days()
    puller = Puller(cache, Access(address, **access), git or Git(), clock=clock, check=check)
    return Follower(cache, puller, clock)


def everything(folder: Path) -> Mapping[str, bytes]:
    """Every byte below the folder, to be searched."""
    return {str(each): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    made = GitRepository(tmp_path / "served" / "work")
    made.commit({"servers/time.yaml": "time: 1\n", "README.md": "hello\n"})
    return made


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Where the cache is."""
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    with GitServer(tmp_path / "served").running() as serving:
        yield serving
