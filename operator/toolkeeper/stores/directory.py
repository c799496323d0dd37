"""A store whose desired state is a folder of manifests, for example a Git checkout; everything else is in SQLite.

files ──tree──▶ manifests ──judgement──▶ declared ──▶ objects (SqliteStore) ──▶ list, watch, status, events
                                             ▲
                                         overrides
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Self

import watchfiles

from toolkeeper.clock import Clock, SystemClock
from toolkeeper.errors import Conflict, ToolkeeperError, Unreachable
from toolkeeper.reconcile.ports import Change, Listing, Resource, Secret
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.events import Event
from toolkeeper.resources.meta import Key
from toolkeeper.stores import declared, journal, overrides, tree, versions
from toolkeeper.stores.credentials import Layers, no_tokens
from toolkeeper.stores.feed import Watch
from toolkeeper.stores.identity import random_uid
from toolkeeper.stores.judgement import Rules
from toolkeeper.stores.manifests import Reader, Reading
from toolkeeper.stores.origin import Origin
from toolkeeper.stores.sqlite import SqliteStore
from toolkeeper.stores.writer import Writer

DATABASE = "state.db"
REMEDY = "the manifests are not in it; status and events are observed anew"
SETTLE_SECONDS = 1.0
"""How long nothing may disappear before what disappeared is gone."""
RESCAN_SECONDS = 5.0
"""Between looks at a folder whose file system reports no changes."""
STEP_MILLISECONDS = 25
"""A burst of file events ends when this long nothing happens: the better part of the time from edit to Change."""


class DirectoryStore:
    """Fits `toolkeeper.reconcile.ports.Store`. `list` always looks at the folder; `watch` follows it."""

    def __init__(  # noqa: PLR0913 - what `open` was told
        self,
        root: Path,
        state: SqliteStore,
        reader: Reader,
        *,
        clock: Clock,
        allow_prune: bool = False,
        settle: float = SETTLE_SECONDS,
        apart: Sequence[Path] = (),
        origin: Origin | None = None,
    ) -> None:
        """`open` makes one. `apart` are folders that hold no manifests, wherever they are."""
        self._root = root
        self._state = state
        self._reader = reader
        self._clock = clock
        self._allow_prune = allow_prune
        self._settle = settle
        self._origin = origin
        self._ignored = tuple(f"{each.absolute()}/" for each in apart)
        self._reading: Reading | None = None
        self._taken: declared.Taken | None = None
        self._secrets: Mapping[tuple[str, str], Secret] = {}
        self._missing_since: dict[Key, float] = {}
        self._incarnation = 0
        self._taking = asyncio.Lock()
        self._stirred = asyncio.Event()
        self._followers: list[asyncio.Task[None]] = []

    @classmethod
    async def open(  # noqa: PLR0913 - the caller's decisions, nearly all with a default
        cls,
        root: Path,
        *,
        state_dir: Path,
        secrets_dir: Path | None = None,
        environment: Mapping[str, str] | None = None,
        allow_prune: bool = False,
        settle: float = SETTLE_SECONDS,
        clock: Clock | None = None,
        new_uid: Callable[[], str] = random_uid,
        origin: Origin | None = None,
        apart: Sequence[Path] = (),
    ) -> Self:
        """Open the state that belongs to the folder; `state_dir` is of this folder alone. `apart` as in `__init__`.

        With an `origin` the folder is a link to a copy, replaced as a whole: what is missing is gone at once then.

        Raises Invalid (damaged state), Unreachable. The folder itself may be missing: then listing says so.
        """
        clock = clock or SystemClock()
        state = await SqliteStore.open(
            state_dir / DATABASE,
            clock=clock,
            new_uid=new_uid,
            secrets_dir=secrets_dir,
            environment=environment,
            remedy=REMEDY,
        )
        apart = [each for each in (state_dir, secrets_dir, *apart) if each is not None]
        return cls(
            root,
            state,
            Reader(root, skip=apart, name=None if origin is None else origin.name),
            clock=clock,
            allow_prune=allow_prune,
            settle=settle if origin is None else 0.0,
            apart=apart,
            origin=origin,
        )

    async def list(self) -> Listing:
        """All objects: what the files declare, or declared when they could last be read."""
        taken = await self._sync()
        listing = await self._state.list()
        if (
            self._state.incarnation != self._incarnation
        ):  # the database was deleted; the files are still there
            taken = await self._sync()
            listing = await self._state.list()
        behind = () if self._origin is None else self._origin.problems()
        return Listing(
            listing.resources,
            complete=taken.judgement.complete and not listing.problems,
            problems=(*behind, *taken.judgement.problems, *listing.problems),
            revision=self._revision(self._reading),
        )

    def watch(self) -> Watch:
        """Changes from now on: of the files, of status, and of what other processes do to the state."""
        if not self._followers:
            for work in (self._notice(), self._keep_up()):
                follower = asyncio.get_running_loop().create_task(work)
                follower.add_done_callback(self._ended)
                self._followers.append(follower)
        return self._state.watch()

    async def get(self, key: Key) -> Resource:
        """One object. Raises NotFound."""
        await self._sync()
        return await self._state.get(key)

    async def write_status(self, resource: Resource) -> Resource:
        """Write the status, to the database. Raises Conflict, NotFound, Unreachable."""
        return await self._state.write_status(resource)

    async def set_finalizer(self, resource: Resource, *, present: bool) -> Resource:
        """Add or remove our finalizer, in the database. Raises Conflict, NotFound, Unreachable."""
        written = await self._state.set_finalizer(resource, present=present)
        if versions.is_gone(written):
            with suppress(
                ToolkeeperError
            ):  # a new object of that name may be waiting; the next look brings it, too
                await self._sync()
        return written

    async def secret(self, namespace: str, name: str) -> Secret:
        """From a `v1 Secret` among the manifests, files, or environment variables; the first that has a key answers.

        Raises NotFound, Refused, and Unreachable when the manifest that declares it is broken.
        """
        taken = self._taken if self._taken is not None and self._followers else await self._sync()
        document = self._secrets.get((namespace, name), Secret({}))
        values = Layers(document.values, self._state.outside_values(namespace, name))
        if values:
            return Secret(values, document.labels)
        if (namespace, name) in taken.lost_secrets:
            raise Unreachable(
                f"the manifest that declares the secret {namespace}/{name} is broken",
                reason="SecretUnreadable",
            )
        raise self._state.no_secret(namespace, name, declarable=True)

    async def issue_token(self, connection: AgentConnection) -> bool:
        """Raises Refused: this store keeps no tokens."""
        raise no_tokens()

    async def emit(self, event: Event) -> None:
        """Record an event; one that cannot be written is dropped."""
        await self._state.emit(event)

    async def events(self, key: Key | None = None, *, limit: int = 100) -> tuple[journal.Recorded, ...]:
        """The newest events, of one object or of all, oldest first."""
        return await self._state.events(key, limit=limit)

    async def record(self, action: journal.Action) -> None:
        """Record a control action."""
        await self._state.record(action)

    async def actions(self, key: Key | None = None, *, limit: int = 100) -> tuple[journal.Action, ...]:
        """The newest control actions, on one object or on all, oldest first."""
        return await self._state.actions(key, limit=limit)

    async def patch(
        self, key: Key, verb: str, value: str, *, actor: str = "", spec_hash: str | None = None
    ) -> Resource:
        """Do what a verb of `overrides.PATCHES` says, until the object's spec is edited in its file.

        What the file says anyway needs no override: then the file decides again.
        Raises NotFound, Invalid, and Conflict when the declared spec is not the one with `spec_hash` any more.
        """
        await self._sync()
        at = self._clock.now()

        def work(writer: Writer) -> Resource:
            source = declared.find(writer.connection, key)
            digest = overrides.spec_hash(source)
            if spec_hash not in {None, digest}:
                raise Conflict(f"{key} was edited meanwhile; look at it again")
            overrides.check(source, verb, value)
            asked = overrides.Override(key, verb, value, digest, actor)
            if overrides.matters(source, asked, overrides.stored(writer.connection, key)):
                overrides.keep(writer.connection, asked, at)
            else:
                overrides.drop(writer.connection, key, verb)
            return writer.apply(declared.effective(writer.connection, source))

        return await self._state.change(work)

    async def overrides(self, key: Key | None = None) -> tuple[overrides.Override, ...]:
        """What is in force in place of what the files say."""
        return await self._state.read(lambda connection: overrides.stored(connection, key))

    async def declaration(self, key: Key) -> declared.Declared | None:
        """Which file declares the object, and since which revision it says what it says."""
        return await self._state.read(lambda connection: declared.where(connection, key))

    async def declarations(self) -> Mapping[Key, declared.Declared]:
        """Where each object is declared."""
        return await self._state.read(declared.everywhere)

    def look(self) -> None:
        """There is news of the origin: look at the folder now, and have everybody list again."""
        self._stirred.set()
        self._state.tell(Change(None))

    def fail(self, failure: BaseException) -> None:
        """Those who watch will hear nothing more, and this is why."""
        self._state.fail(failure)

    async def aclose(self) -> None:
        """End every watch and close the state."""
        for follower in self._followers:
            follower.cancel()
        await asyncio.gather(*self._followers, return_exceptions=True)
        await self._state.aclose()

    async def _sync(self) -> declared.Taken:
        """Look at the folder, and take over what changed."""
        async with self._taking:
            first = self._reading is None
            now, monotonic = self._clock.now().timestamp(), self._clock.monotonic()
            reading = await asyncio.to_thread(self._reader.read, now)
            if (taken := self._still_good(reading)) is not None:
                return taken

            def settled(key: Key, path: str) -> bool:
                since = self._missing_since.setdefault(key, monotonic)
                # What went while nobody looked: the folder's own time says how long ago.
                age = now - tree.last_touched(self._root, path) if first else 0.0
                return max(monotonic - since, age) >= self._settle

            name = str(self._root) if self._origin is None else self._origin.name
            rules = Rules(name, self._allow_prune, settled)
            place = str(self._root.absolute())
            revision = self._revision(reading)
            taken = await self._state.change(
                lambda writer: declared.take(writer, reading, rules, place, revision)
            )
            self._take(reading, taken)
            return taken

    def _revision(self, reading: Reading | None) -> str:
        return "" if self._origin is None or reading is None else self._origin.revision(reading.place)

    def _still_good(self, reading: Reading) -> declared.Taken | None:
        taken = self._taken
        if taken is None or taken.waiting or taken.judgement.settling or not reading.same_as(self._reading):
            return None
        return taken if self._incarnation == self._state.incarnation else None

    def _take(self, reading: Reading, taken: declared.Taken) -> None:
        before = self._taken and (
            self._taken.judgement.problems,
            self._taken.judgement.complete,
            self._secrets,
        )
        self._reading, self._taken, self._secrets = reading, taken, reading.secrets()
        self._incarnation = self._state.incarnation
        missing = frozenset(taken.judgement.missing)
        self._missing_since = {key: at for key, at in self._missing_since.items() if key in missing}
        if before and before != (taken.judgement.problems, taken.judgement.complete, self._secrets):
            self._state.tell(Change(None))

    async def _keep_up(self) -> None:
        """Look at the folder whenever it stirs, when what is missing may have settled, and now and then anyway."""
        while True:
            self._stirred.clear()
            wait = RESCAN_SECONDS
            with suppress(ToolkeeperError):  # whoever lists is told; here it is tried again
                if (await self._sync()).judgement.settling:
                    wait = self._settle
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stirred.wait()

    async def _notice(self) -> None:
        """Say when the folder stirs. A folder that was replaced, as by a link to another commit, is watched anew."""
        while True:
            with suppress(OSError, RuntimeError):  # no folder, or the kernel has no watches left
                await self._follow(_identity(self._root))
            self._stirred.set()
            await asyncio.sleep(1.0)

    async def _follow(self, identity: tuple[int, int]) -> None:
        stirs = watchfiles.awatch(
            self._root,
            watch_filter=lambda _, path: "/.git/" not in path and not path.startswith(self._ignored),
            debounce=8 * STEP_MILLISECONDS,
            step=STEP_MILLISECONDS,
            rust_timeout=1000,
            yield_on_timeout=True,
            recursive=True,
            ignore_permission_denied=True,
        )
        async with aclosing(stirs):
            async for changes in stirs:
                if _identity(self._root) != identity:
                    return
                if changes:
                    self._stirred.set()

    def _ended(self, follower: asyncio.Task[None]) -> None:
        if not follower.cancelled() and (failure := follower.exception()) is not None:
            self._state.fail(failure)


def _identity(root: Path) -> tuple[int, int]:
    status = root.stat()
    return status.st_dev, status.st_ino
