"""What neither labels nor the runtime can tell a restarted agent: epochs, and the handshakes of runs that go on.

One small SQLite file, mode 0600. Writes are rare (a claim, a changed handshake) and short, so they happen in place.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from toolkeeper.errors import ToolkeeperError, Unreachable
from toolkeeper.planning.observed import Handshake

_SCHEMA = """
CREATE TABLE IF NOT EXISTS epochs (installation TEXT PRIMARY KEY, epoch INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS handshakes (
    container TEXT PRIMARY KEY, run_id TEXT NOT NULL, handshake TEXT NOT NULL, definitions TEXT NOT NULL
) STRICT;
"""
_HANDSHAKE = TypeAdapter(Handshake)


@dataclass(frozen=True, slots=True)
class Page:
    """The last successful handshake of one run, and the tool definitions it listed."""

    run_id: str
    handshake: Handshake
    definitions: tuple[dict[str, Any], ...] = ()


class Notebook:
    """The file. `:memory:` keeps nothing, for tests and throw-away nodes."""

    def __init__(self, path: Path | str) -> None:
        """Open or create. Raises ToolkeeperError when it is no notebook of ours or cannot be written."""
        self._path = path
        try:
            if path != ":memory:":
                # Created by us first: SQLite would make it readable for others, and its journal inherits the mode.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
                Path(path).chmod(0o600)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;" + _SCHEMA)
        except (sqlite3.Error, OSError) as exc:
            raise ToolkeeperError(f"{path} cannot be used: {exc}") from exc

    def close(self) -> None:
        """A second call does nothing."""
        self._db.close()

    def epochs(self) -> dict[str, int]:
        """Installation → epoch."""
        return dict(self._db.execute("SELECT installation, epoch FROM epochs"))

    def keep_epoch(self, installation: str, epoch: int) -> None:
        """On disk when this returns, unlike a page: a lost one is asked for again, a lost epoch lets two lead.

        Raises Unreachable when it cannot be written.
        """
        self._db.execute("PRAGMA synchronous=FULL")
        try:
            self._db.execute("INSERT OR REPLACE INTO epochs VALUES (?, ?)", (installation, epoch))
        except sqlite3.Error as exc:
            raise Unreachable(
                f"{self._path} on the toolbox cannot be written ({exc}): check that disk's space and permissions"
            ) from exc
        finally:
            self._db.execute("PRAGMA synchronous=NORMAL")

    def pages(self) -> dict[str, Page]:
        """Container → its page. One that cannot be read (an older version wrote it) is as good as none."""
        rows = self._db.execute("SELECT container, run_id, handshake, definitions FROM handshakes")
        pages = {}
        for container, run_id, handshake, definitions in rows:
            try:
                known = _HANDSHAKE.validate_json(handshake)
                pages[container] = Page(run_id, known, tuple(json.loads(definitions)))
            except (ValidationError, ValueError):
                continue
        return pages

    def keep_page(self, container: str, page: Page) -> None:
        """Remember the handshake of a run, if the disk lets us: whoever lacks it asks the server again."""
        handshake = _HANDSHAKE.dump_json(page.handshake).decode()
        row = (container, page.run_id, handshake, json.dumps(page.definitions))
        with suppress(sqlite3.Error):
            self._db.execute("INSERT OR REPLACE INTO handshakes VALUES (?, ?, ?, ?)", row)

    def forget(self, container: str) -> None:
        """The container is gone. A page that the disk keeps is of a run that never comes again."""
        with suppress(sqlite3.Error):
            self._db.execute("DELETE FROM handshakes WHERE container = ?", (container,))
