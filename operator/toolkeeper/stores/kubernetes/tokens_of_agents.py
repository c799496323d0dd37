"""The Secrets that Toolkeeper makes for agents, one for each connection, and the only ones that it would touch.

A Secret is ours if it carries our label and is owned by the very connection: the cluster removes it with its owner. It
cannot be edited; who deletes it gets another token. It is not marked as a credential, so no server can ask for it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable

from toolkeeper.errors import Conflict, NotFound
from toolkeeper.resources.agentconnection import AgentConnection
from toolkeeper.resources.meta import AGENT_TOKEN, API_VERSION
from toolkeeper.stores.credentials import token_secret_taken
from toolkeeper.stores.kubernetes.answers import Json
from toolkeeper.stores.kubernetes.api import ONLY_METADATA, Api

KEY = "token"


async def issue(api: Api, connection: AgentConnection, new_token: Callable[[], str]) -> bool:
    """Make the Secret if it is not there; whether it was made now. Raises Refused, Unreachable.

    Of a Secret that is there, only the metadata is asked for: whatever it holds is not even seen.
    """
    collection = f"/api/v1/namespaces/{connection.metadata.namespace}/secrets"
    one = f"{collection}/{connection.token_secret}"
    try:
        found = await api.request("GET", one, accept=ONLY_METADATA)
    except NotFound:
        try:
            await api.request("POST", collection, body=_secret(connection, new_token()), accept=ONLY_METADATA)
        except Conflict:  # the answer to our own create was lost, or somebody was faster
            found = await api.request("GET", one, accept=ONLY_METADATA)
        else:
            return True
    if not _is_for(found, connection):
        raise token_secret_taken(connection)
    return False


def _secret(connection: AgentConnection, token: str) -> Json:
    owner = connection.metadata
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": connection.token_secret,
            "namespace": owner.namespace,
            "labels": {AGENT_TOKEN: owner.name},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": connection.kind,
                    "name": owner.name,
                    "uid": owner.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "type": AGENT_TOKEN,
        "immutable": True,
        "data": {KEY: base64.b64encode(token.encode()).decode()},
    }


def _is_for(secret: Json, connection: AgentConnection) -> bool:
    metadata = secret.get("metadata") or {}
    owners = [each.get("uid") for each in metadata.get("ownerReferences") or []]
    return AGENT_TOKEN in (metadata.get("labels") or {}) and connection.metadata.uid in owners
