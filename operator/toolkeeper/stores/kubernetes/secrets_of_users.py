"""Reading the Secrets that people refer to: only those that say they may be."""

from __future__ import annotations

import base64
import binascii

from toolkeeper.errors import NotFound, Refused
from toolkeeper.reconcile.ports import Secret
from toolkeeper.resources.meta import CREDENTIAL, FOR_TOOLBOXES
from toolkeeper.stores.kubernetes.answers import Json
from toolkeeper.stores.kubernetes.api import Api


async def read(api: Api, namespace: str, name: str) -> Secret:
    """The values of a marked Secret, read now. Raises NotFound, Refused, Unreachable."""
    try:
        document = await api.request("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
    except NotFound as exc:
        raise NotFound(
            f"there is no secret {namespace}/{name}: create it and label it {CREDENTIAL}=true, "
            f"or {CREDENTIAL}={FOR_TOOLBOXES} if it opens a Toolbox"
        ) from exc
    labels = document.get("metadata", {}).get("labels") or {}
    if labels.get(CREDENTIAL) not in ("true", FOR_TOOLBOXES):
        raise Refused(
            f"the secret {namespace}/{name} is not marked for use: "
            f"kubectl -n {namespace} label secret {name} {CREDENTIAL}=true "
            f"(={FOR_TOOLBOXES} if it opens a Toolbox)",
            reason="SecretNotMarked",
        )
    return Secret(_values(document, f"{namespace}/{name}"), labels)


def _values(document: Json, what: str) -> dict[str, str]:
    values = {}
    for key, encoded in (document.get("data") or {}).items():
        try:
            values[key] = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise Refused(f"{key} of the secret {what} is not UTF-8 text", reason="SecretInvalid") from None
    return values
