"""A Kubernetes cluster as the command line sees it. Apart from `stores`, for it loads kopf and aiohttp."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from toolkeeper.errors import NotFound
from toolkeeper.stores.kubernetes import access
from toolkeeper.stores.kubernetes.visit import Visit
from toolkeeper.wiring.places import ClusterChoice
from toolkeeper.wiring.sources import Scope, Source

NO_KEY = bytes(32)
"""Where no operator ran, nothing was digested."""


@asynccontextmanager
async def visiting(choice: ClusterChoice, scope: Scope) -> AsyncIterator[Visit]:
    """The cluster, with the person's own credentials."""
    visit = Visit(
        lambda: access.login(choice.kubeconfig, choice.context),
        home=choice.home or usual_namespace(choice),
        namespaces=scope.namespaces,
        kinds=scope.kinds,
    )
    try:
        yield visit
    finally:
        await visit.aclose()


def usual_namespace(choice: ClusterChoice) -> str:
    """The namespace of the kubeconfig's context, as kubectl takes it. Raises Invalid, Unreachable."""
    return access.namespace(choice.kubeconfig, choice.context)


async def identity_of(store: Source) -> tuple[str, bytes]:
    """The name of the control plane, and the key that its secrets are compared by. Raises as the store does."""
    assert isinstance(store, Visit), "a place with a cluster is opened as a visit"
    installation = await store.installation()
    try:
        return installation, await store.digest_key()
    except NotFound:
        return installation, NO_KEY
