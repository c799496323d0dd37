"""Opening the store of a control plane, and what can be done to it beyond the loop's own needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from toolkeeper.dtma.dialled import Dialled
from toolkeeper.errors import Invalid, NotFound
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.stores.declared import Declared
from toolkeeper.stores.directory import DATABASE, DirectoryStore
from toolkeeper.stores.local import WithLocalToolbox
from toolkeeper.stores.overrides import Override
from toolkeeper.stores.sqlite import SqliteStore
from toolkeeper.wiring.places import LocalNode, Place, git_cache, local_node

Kept = DirectoryStore | SqliteStore
Source = WithLocalToolbox | Kept


@asynccontextmanager
async def opened(
    place: Place, *, allow_prune: bool = False, local: LocalNode | None = None
) -> AsyncIterator[Source]:
    """The store, closed afterwards; with the Toolbox of this machine where an embedded node is or was.

    Raises Invalid (damaged state), Unreachable.
    """
    if place.cluster is not None:
        raise Invalid("use kubectl with --store kubernetes: get, describe, apply, delete, events")
    place.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    kept = await _kept(place, allow_prune)
    node = local or local_node(place)
    store: Source = kept
    if node is not None:
        status = place.folder / "toolbox.json"
        store = WithLocalToolbox(kept, node.endpoint, token_file=node.token_file, status_file=status)
    try:
        yield store
    finally:
        await store.aclose()


async def _kept(place: Place, allow_prune: bool) -> Kept:
    secrets_dir = place.folder / "secrets"
    if place.kind == "directory":
        return await DirectoryStore.open(
            place.path,
            state_dir=place.folder,
            secrets_dir=secrets_dir,
            allow_prune=allow_prune,
            origin=None if place.git is None else git_cache(place.root, place.git),
        )
    return await SqliteStore.open(place.path, secrets_dir=secrets_dir)


def database(place: Place) -> str:
    """The file that status is kept in."""
    return str(place.folder / DATABASE if place.kind == "directory" else place.path)


def inner(store: Source) -> Kept:
    """The store behind the Toolbox of this machine."""
    kept = store.inner if isinstance(store, WithLocalToolbox) else store
    assert isinstance(kept, DirectoryStore | SqliteStore), "opened() wraps nothing else"
    return kept


def writable(store: Source) -> SqliteStore:
    """The store as one that takes manifests. Raises Invalid for a directory: its files are the place to edit."""
    kept = inner(store)
    if isinstance(kept, DirectoryStore):
        raise Invalid(
            "these resources are declared by files of a directory: edit or delete the files instead"
        )
    return kept


async def overrides(store: Source, key: Key) -> tuple[Override, ...]:
    """What is in force in place of what the object's file says."""
    kept = inner(store)
    return await kept.overrides(key) if isinstance(kept, DirectoryStore) else ()


async def declaration(store: Source, key: Key) -> Declared | None:
    """Which file of a directory declares the object, if one does."""
    kept = inner(store)
    return await kept.declaration(key) if isinstance(kept, DirectoryStore) else None


async def declarations(store: Source) -> Mapping[Key, Declared]:
    """Which file of a directory declares each object, for those that one does."""
    kept = inner(store)
    return await kept.declarations() if isinstance(kept, DirectoryStore) else {}


def connector(store: Source) -> Callable[[Toolbox], Dialled]:
    """How the operator reaches a toolbox: with the credentials that its manifest refers to, read from the store."""
    return lambda toolbox: Dialled(toolbox, store.secret)


@asynccontextmanager
async def toolbox_client(store: Source, name: str, namespace: str) -> AsyncIterator[Dialled]:
    """A connection to the toolbox of that name: of the namespace, else the one that admits it. Raises NotFound."""
    toolboxes = [
        each
        for each in (await store.list()).resources
        if isinstance(each, Toolbox) and each.metadata.name == name.rpartition("/")[2]
    ]
    wanted = name.partition("/")[0] if "/" in name else namespace
    chosen = next((each for each in toolboxes if each.metadata.namespace == wanted), None)
    chosen = chosen or next(iter(toolboxes), None)
    if chosen is None:
        raise NotFound(f"the toolbox {name} does not exist")
    client = Dialled(chosen, store.secret)
    try:
        yield client
    finally:
        await client.aclose()
