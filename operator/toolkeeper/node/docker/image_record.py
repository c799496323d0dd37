"""Which images this node brought to the host, and when each was last used: all that may ever be collected."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Brought:
    """One image that this node pulled or built."""

    reference: str
    used: float
    """When a container used it last, in Unix seconds; 0 = not looked at since it came."""


class ImageRecord:
    """Kept in one small file. A file that is lost or unreadable costs disk space, never an image that is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, Brought] = {}
        with suppress(OSError, ValueError, TypeError):
            self._entries = {id: Brought(**each) for id, each in json.loads(path.read_text()).items()}

    def entries(self) -> Iterator[tuple[str, Brought]]:
        """Image ids and what is known of each."""
        yield from tuple(self._entries.items())

    def brought(self, id: str, reference: str, now: float = 0.0) -> None:
        """This image is ours to collect."""
        self._set(id, Brought(reference, now))

    def used(self, id: str, now: float) -> None:
        """This image is in use now."""
        if (entry := self._entries.get(id)) is not None and entry.used != now:
            self._set(id, Brought(entry.reference, now))

    def removed(self, id: str) -> None:
        """This image is gone."""
        if self._entries.pop(id, None) is not None:
            self._save()

    def _set(self, id: str, entry: Brought) -> None:
        self._entries[id] = entry
        self._save()

    def _save(self) -> None:
        partial = self._path.with_suffix(".partial")
        with suppress(OSError):  # without a record nothing is collected; a server must start all the same
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({id: asdict(each) for id, each in self._entries.items()}))
            partial.replace(self._path)
