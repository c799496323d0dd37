"""Generated histories: the durable stores end where the reference ends."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from generated import examples
from stores.conftest import HandClock, server, write
from toolkeeper.errors import ToolkeeperError
from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.resources.meta import Key
from toolkeeper.stores.directory import DirectoryStore
from toolkeeper.stores.memory import MemoryStore, numbered_uids
from toolkeeper.stores.sqlite import SqliteStore

NAMES = st.sampled_from(["a", "b"])
IMAGES = st.sampled_from(["time:1", "time:2"])
ACTS = st.one_of(
    st.tuples(st.just("apply"), NAMES, IMAGES),
    st.tuples(st.just("delete"), NAMES, st.none()),
    st.tuples(st.just("status"), NAMES, st.sampled_from(["active", "error"])),
    st.tuples(st.just("hold"), NAMES, st.none()),
    st.tuples(st.just("release"), NAMES, st.none()),
    st.tuples(st.just("look"), NAMES, st.none()),
)


class Actor:
    """Somebody who writes on what they saw last, which may be old by now."""

    def __init__(self, store: MemoryStore | SqliteStore) -> None:
        self.store = store
        self.seen: dict[str, Resource] = {}

    async def act(self, verb: str, name: str, value: str | None) -> object:
        """Do it; the answer, or the name of the error."""
        try:
            return await self._act(verb, name, value)
        except ToolkeeperError as exc:
            return type(exc).__name__, str(exc)

    async def _act(self, verb: str, name: str, value: str | None) -> object:
        key = server(name).key
        seen = self.seen.get(name, server(name))
        if verb == "apply":
            return await self.store.apply(server(name, image=value))
        if verb == "delete":
            await self.store.delete(key)
            return None
        if verb == "status":
            assert isinstance(seen, MCPServer)
            status = MCPServerStatus.model_validate({"phase": value})
            return await self.store.write_status(seen.model_copy(update={"status": status}))
        if verb == "look":
            self.seen[name] = await self.store.get(key)
            return self.seen[name]
        return await self.store.set_finalizer(seen, present=verb == "hold")


@settings(max_examples=examples(30))
@given(st.lists(ACTS, max_size=25))
def test_sqlite_answers_as_memory_does(acts: list[tuple[str, str, str | None]]) -> None:
    async def history(folder: Path) -> None:
        clock = HandClock()
        memory = Actor(MemoryStore(clock, numbered_uids()))
        durable = await SqliteStore.open(folder / "state.db", clock=clock, new_uid=numbered_uids())
        sqlite = Actor(durable)
        for act in acts:
            assert timeless(await memory.act(*act)) == timeless(await sqlite.act(*act))
        assert timeless((await memory.store.list()).resources) == timeless(
            (await sqlite.store.list()).resources
        )
        await durable.aclose()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(history(Path(folder)))


def timeless(answer: object) -> object:
    """The answer without the second in which it was given."""
    if isinstance(answer, tuple):
        return tuple(timeless(each) for each in answer)
    if not isinstance(answer, MCPServer):
        return answer
    deleted = answer.metadata.deletion_timestamp is not None
    update = {"creation_timestamp": None, "deletion_timestamp": None}
    return answer.model_copy(update={"metadata": answer.metadata.model_copy(update=update)}), deleted


PATHS = st.sampled_from(["a.yaml", "b.yaml", "in/c.yaml"])
SERVERS = st.lists(
    st.builds(lambda name, image: server(name, image=image), st.sampled_from("uvw"), IMAGES), max_size=3
)
EDITS: st.SearchStrategy[tuple[str, str, list[MCPServer]]] = st.one_of(
    st.tuples(st.just("write"), PATHS, SERVERS),
    st.tuples(st.just("break"), PATHS, st.just([])),
    st.tuples(st.just("remove"), PATHS, st.just([])),
    st.tuples(st.just("wait"), PATHS, st.just([])),
    st.tuples(st.just("restart"), PATHS, st.just([])),
)


def edit(file: Path, verb: str, servers: list[MCPServer]) -> None:
    if verb == "write":
        write(file, *servers)
    elif verb == "break":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("- [\n")
    elif verb == "remove":
        file.unlink(missing_ok=True)


def declared(files: dict[str, list[MCPServer]]) -> dict[Key, str | None]:
    """What a reader of all files would say: the first declaration, in path order, holds."""
    said: dict[Key, str | None] = {}
    for path in sorted(files):
        for each in files[path]:
            said.setdefault(each.key, each.spec.image)
    return said


@settings(max_examples=examples(30))
@given(st.lists(EDITS, max_size=12), st.dictionaries(PATHS, SERVERS, min_size=1))
def test_whatever_happened_to_the_folder_in_the_end_it_is_what_the_files_say(
    edits: list[tuple[str, str, list[MCPServer]]], last: dict[str, list[MCPServer]]
) -> None:
    async def history(place: Path) -> None:
        clock = HandClock()
        root = place / "manifests"
        root.mkdir()

        async def opened() -> DirectoryStore:
            return await DirectoryStore.open(
                root, state_dir=place / "state", environment={}, clock=clock, allow_prune=True
            )

        store = await opened()
        for verb, path, servers in edits:
            before = {each.key for each in (await store.list()).resources}
            edit(root / path, verb, servers)
            after = {each.key for each in (await store.list()).resources}
            assert verb != "break" or after == before, "a broken file deleted something"
            if verb == "wait":
                clock.seconds += 10
            if verb == "restart":
                await store.aclose()
                store = await opened()
        for path in ("a.yaml", "b.yaml", "in/c.yaml"):
            edit(root / path, "write" if path in last else "remove", last.get(path, []))
        await store.list()
        clock.seconds += 10
        listing = await store.list()
        found = {each.key: each.spec.image for each in listing.resources if isinstance(each, MCPServer)}
        assert found == declared(last)
        assert listing.complete
        assert await store.list() == listing
        await store.aclose()

    with tempfile.TemporaryDirectory() as place:
        asyncio.run(history(Path(place)))
