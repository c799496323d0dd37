"""Opening the store of a control plane, and what can be done to it beyond the loop's own needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from toolkeeper.dtma.dialled import Dialled
from toolkeeper.errors import Invalid, NotFound
from toolkeeper.resources.meta import Key
from toolkeeper.resources.toolbox import Toolbox
from toolkeeper.stores.declared import Declared
from toolkeeper.stores.directory import DATABASE, DirectoryStore
from toolkeeper.stores.local import WithLocalToolbox
from toolkeeper.stores.overrides import Override
from toolkeeper.stores.sqlite import SqliteStore
from toolkeeper.wiring.places import LocalNode, Place, digest_key, git_cache, local_node
from toolkeeper.wiring.sources import Kept, Scope, Source


@asynccontextmanager
async def opened(
    place: Place, *, allow_prune: bool = False, local: LocalNode | None = None, scope: Scope | None = None
) -> AsyncIterator[Source]:
    """The store, closed afterwards; with the Toolbox of this machine where an embedded node is or was.

    Raises Invalid (damaged state), Unreachable.
    """
    if place.cluster is not None:
        from toolkeeper.wiring.visiting import visiting  # noqa: PLC0415 – loads kopf and aiohttp

        async with visiting(place.cluster, scope or Scope()) as visit:
            yield visit
        return
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
            # All state of this machine, where somebody keeps it among the manifests; not the folder itself.
            apart=[place.root] if place.path.resolve() in place.root.resolve().parents else [],
        )
    return await SqliteStore.open(place.path, secrets_dir=secrets_dir)


def database(place: Place) -> str:
    """The file that status is kept in."""
    return str(place.folder / DATABASE if place.kind == "directory" else place.path)


def inner(store: Source) -> Kept | None:
    """The store of this machine, behind its Toolbox; None for a cluster."""
    kept = store.inner if isinstance(store, WithLocalToolbox) else store
    return kept if isinstance(kept, DirectoryStore | SqliteStore) else None


def here(store: Source) -> WithLocalToolbox | Kept:
    """The store as one that this machine's own operator runs on."""
    assert isinstance(store, WithLocalToolbox | DirectoryStore | SqliteStore), "a cluster has its own loop"
    return store


def writable(store: Source) -> SqliteStore:
    """The store as one that takes manifests. Raises Invalid for a directory, whose files are the place to edit."""
    kept = inner(store)
    if kept is None:
        raise Invalid("on Kubernetes that is kubectl's: kubectl apply -f FILE, kubectl delete -f FILE")
    if isinstance(kept, DirectoryStore):
        raise Invalid(
            "these resources are declared by files of a directory: edit or delete the files instead"
        )
    return kept


async def identity(store: Source, place: Place) -> tuple[str, bytes]:
    """The name of the control plane, and the key that its secrets are compared by. Raises as the store does."""
    if place.cluster is None:
        return place.installation, digest_key(place)
    from toolkeeper.wiring.visiting import identity_of  # noqa: PLC0415 – loads kopf and aiohttp

    return await identity_of(store)


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
    chosen = await _toolbox(store, name, namespace)
    client = Dialled(chosen, store.secret)
    try:
        yield client
    finally:
        await client.aclose()


async def _toolbox(store: Source, name: str, namespace: str) -> Toolbox:
    wanted = Key("Toolbox", name.partition("/")[0] if "/" in name else namespace, name.rpartition("/")[2])
    with suppress(NotFound):
        found = await store.get(wanted)
        assert isinstance(found, Toolbox)
        return found
    for each in (await store.list()).resources:
        if isinstance(each, Toolbox) and each.metadata.name == wanted.name:
            return each
    raise NotFound(f"the toolbox {name} does not exist")
