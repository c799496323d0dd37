"""The name that tells one control plane from another, kept in a ConfigMap beside the operator."""

from __future__ import annotations

import re
from collections.abc import Callable

from toolkeeper.errors import Conflict, Invalid, NotFound
from toolkeeper.resources.meta import DNS_LABEL
from toolkeeper.stores.identity import random_uid
from toolkeeper.stores.installation import Installation
from toolkeeper.stores.kubernetes.answers import Json
from toolkeeper.stores.kubernetes.api import Api

NAME = "toolkeeper"
FIELD = "installation"


async def installation_of(
    api: Api, namespace: str, *, new_uid: Callable[[], str] = random_uid
) -> Installation:
    """The id in the ConfigMap `toolkeeper`, which is created if absent and never modified.

    Raises Invalid when it says nothing usable: a guess would orphan every container. Raises Refused, Unreachable.
    """
    collection = f"/api/v1/namespaces/{namespace}/configmaps"
    origin = f"from the ConfigMap {namespace}/{NAME}"
    try:
        return await known(api, namespace)
    except NotFound:
        pass
    id = f"k{new_uid().replace('-', '')[:8]}"
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": namespace},
        "data": {FIELD: id},
        "immutable": True,
    }
    try:
        await api.request("POST", collection, body=body)
    except Conflict:  # another replica, at the same moment
        return Installation(_said(await api.request("GET", f"{collection}/{NAME}"), namespace), origin)
    return Installation(id, origin)


async def known(api: Api, namespace: str) -> Installation:
    """The same, where an operator has run before. Raises NotFound, Invalid, Refused, Unreachable."""
    try:
        document = await api.request("GET", f"/api/v1/namespaces/{namespace}/configmaps/{NAME}")
    except NotFound as exc:
        raise NotFound(
            f"there is no ConfigMap {namespace}/{NAME}: no operator ever ran in that namespace; "
            "name the one that it runs in with --operator-namespace"
        ) from exc
    return Installation(_said(document, namespace), f"from the ConfigMap {namespace}/{NAME}")


def _said(document: Json, namespace: str) -> str:
    id = (document.get("data") or {}).get(FIELD)
    if not isinstance(id, str) or len(id) > 63 or not re.fullmatch(DNS_LABEL, id):
        raise Invalid(
            f"the ConfigMap {namespace}/{NAME} must say the installation's id: lower-case letters, digits and '-', "
            f"at most 63 characters, under the key {FIELD!r}; it says {id!r}"
        )
    return id
