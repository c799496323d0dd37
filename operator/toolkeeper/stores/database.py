"""The state database: one SQLite file, one connection in one thread of its own, safe to share with other processes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

from toolkeeper.errors import Invalid, ToolkeeperError, Unreachable
from toolkeeper.stores.schema import APPLICATION_ID, MIGRATIONS

Answer = TypeVar("Answer")

BUSY_SECONDS = 5.0
"""How long a write waits for another process's write before it gives up."""
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PRIMARY = 0xFF
"""Extended result codes keep the primary code in their lowest byte."""


class Database:
    """A transaction is a function of a connection: it runs whole or not at all, whatever kills the process.

    A committed transaction survives the process; one of the last moments may be lost when the machine loses power
    (synchronous=NORMAL), never half of it. Raises Unreachable when the disk or another process does not let it,
    Invalid when the file is damaged, of a newer Toolkeeper, or not ours.
    """

    def __init__(self, path: Path, *, remedy: str) -> None:
        """`remedy` ends the message about a damaged file: what is lost when it is moved away."""
        self.path = path
        self._remedy = remedy
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="toolkeeper-state")
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._file: tuple[int, int] = (0, 0)
        self._seen_elsewhere = (0, -1)
        self.incarnation = 0
        """Rises when the file was found deleted or replaced: whatever was remembered of it is void."""

    @classmethod
    async def open(cls, path: Path, *, remedy: str) -> Self:
        """Open the file, creating it (mode 0600, its folder 0700) or bringing it to the present schema."""
        database = cls(path, remedy=remedy)
        try:
            await database._submit(database._connected)
        except BaseException:
            await database.aclose()
            raise
        return database

    async def read(self, work: Callable[[sqlite3.Connection], Answer]) -> Answer:
        """Run `work` on one consistent state."""
        return await self._submit(lambda: _transact(self._connected(), "BEGIN", work))

    async def write(
        self, work: Callable[[sqlite3.Connection], Answer], committed: Callable[[Answer], None] | None = None
    ) -> Answer:
        """Run `work` as the only writer; an exception undoes all of it.

        `committed` is called on the event loop with the answer, even when whoever waits for it is cancelled meanwhile.
        """
        loop = asyncio.get_running_loop()

        def transaction() -> Answer:
            answer = _transact(self._connected(), "BEGIN IMMEDIATE", work)
            if committed is not None:
                loop.call_soon_threadsafe(committed, answer)
            return answer

        return await self._submit(transaction)

    async def changed_elsewhere(self) -> bool:
        """Whether another connection committed since this was last asked."""
        return await self._submit(self._changed_elsewhere)

    async def aclose(self) -> None:
        """Finish what runs and close the file. Closing twice is closing once."""
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    async def _submit(self, work: Callable[[], Answer]) -> Answer:
        if self._closed:
            raise self._unreachable("it was closed")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as exc:
            raise self._translated(exc) from exc

    def _translated(self, exc: sqlite3.Error) -> ToolkeeperError:
        if getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_OK) & _PRIMARY in _DAMAGED:
            aside = self.path.with_name(self.path.name + ".damaged")
            return Invalid(
                f"{self.path} is no state database, or a damaged one ({exc}): check --path; "
                "if it is ours, stop Toolkeeper, move it away "
                f"(mv {self.path} {aside}) and start again; {self._remedy}"
            )
        return self._unreachable(str(exc))

    def _unreachable(self, why: str) -> Unreachable:
        return Unreachable(
            f"the state database {self.path} does not answer ({why}): check the disk's space and permissions",
            reason="StoreUnreachable",
        )

    def _connect(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as exc:
            raise self._unreachable(exc.strerror or str(exc)) from exc
        try:
            # One at a time: two processes that create the file together would lock each other out of its journal.
            fcntl.flock(folder, fcntl.LOCK_EX)
            self._connect_alone()
        finally:
            os.close(folder)

    def _connect_alone(self) -> None:
        # SQLite gives its journal files the mode of the database, so that one is made first, and narrow. An existing
        # one is never opened and closed here: that would drop the locks of this process's other connections to it.
        with suppress(OSError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        self._file = self._identity()
        self.incarnation += 1
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        self._connection = connection
        self._migrate(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            damaged = sqlite3.DatabaseError(found)
            damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damaged

    def _migrate(self, connection: sqlite3.Connection) -> None:
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        owner: int = connection.execute("PRAGMA application_id").fetchone()[0]
        tables: int = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
        if owner != APPLICATION_ID and (owner or version or tables):
            raise Invalid(f"{self.path} is another program's database; give Toolkeeper a file of its own")
        if version > len(MIGRATIONS):
            raise Invalid(
                f"{self.path} was written by a newer Toolkeeper (schema {version}, this one knows "
                f"{len(MIGRATIONS)}): upgrade Toolkeeper, or give it another state folder"
            )

        def steps(connection: sqlite3.Connection) -> None:
            for statement in (each for migration in MIGRATIONS[version:] for each in migration):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

        if version < len(MIGRATIONS):
            _transact(connection, "BEGIN IMMEDIATE", steps)

    def _changed_elsewhere(self) -> bool:
        connection = self._connected()
        # It changes exactly when another connection has committed; our own commits leave it alone.
        version: int = connection.execute("PRAGMA data_version").fetchone()[0]
        before, self._seen_elsewhere = self._seen_elsewhere, (self.incarnation, version)
        return before != self._seen_elsewhere

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None or self._identity() != self._file:
            # Somebody deleted or replaced it. Going on would write to a file that nobody else can see.
            self._disconnect()
            self._connect()
        assert self._connection is not None, "connected, or an error was raised"
        return self._connection

    def _identity(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except OSError:
            return (0, 0)
        return (found.st_dev, found.st_ino)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _transact(
    connection: sqlite3.Connection, begin: str, work: Callable[[sqlite3.Connection], Answer]
) -> Answer:
    connection.execute(begin)
    try:
        answer = work(connection)
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return answer
