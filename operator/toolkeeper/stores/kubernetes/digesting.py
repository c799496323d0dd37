"""The key of the digests that secrets are compared by: one for all replicas, or a change of leader would restart
every server that uses a secret."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from toolkeeper.errors import Conflict, Invalid, NotFound
from toolkeeper.stores.kubernetes.answers import Json
from toolkeeper.stores.kubernetes.api import Api

NAME = "toolkeeper-digests"
FIELD = "key"
BYTES = 32


async def digest_key(api: Api, namespace: str, *, fresh: Callable[[int], bytes]) -> bytes:
    """The key in the Secret `toolkeeper-digests`, which is created with `fresh` bytes if absent and never modified.

    Raises Invalid for a Secret that holds something else, Refused, Unreachable.
    """
    collection = f"/api/v1/namespaces/{namespace}/secrets"
    try:
        return await known(api, namespace)
    except NotFound:
        pass
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": NAME,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "toolkeeper"},
        },
        "type": "Opaque",
        "immutable": True,
        "data": {FIELD: base64.b64encode(fresh(BYTES)).decode()},
    }
    try:
        return _said(await api.request("POST", collection, body=body), namespace)
    except Conflict:  # another replica, at the same moment
        return _said(await api.request("GET", f"{collection}/{NAME}"), namespace)


async def known(api: Api, namespace: str) -> bytes:
    """The same, where an operator has run before. Raises NotFound, Invalid, Refused, Unreachable."""
    return _said(await api.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{NAME}"), namespace)


def _said(document: Json, namespace: str) -> bytes:
    try:
        key = base64.b64decode((document.get("data") or {}).get(FIELD) or "", validate=True)
    except binascii.Error:
        key = b""
    if len(key) < BYTES:
        raise Invalid(
            f"the Secret {namespace}/{NAME} must hold at least {BYTES} random bytes under {FIELD!r}; "
            "delete it to have it created anew: servers that use secrets then get new containers"
        )
    return key
