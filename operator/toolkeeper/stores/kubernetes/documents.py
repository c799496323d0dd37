"""Between Kubernetes' documents and our resources: paths, decoding, the bodies of our writes."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import ValidationError

from toolkeeper.errors import Invalid
from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.kinds import KINDS
from toolkeeper.resources.meta import API_VERSION, FINALIZER, GROUP, VERSION, Key, Metadata, Model
from toolkeeper.stores.kubernetes.answers import Json

PLURALS = {"Toolbox": "toolboxes", "MCPServer": "mcpservers", "AgentConnection": "agentconnections"}
ALWAYS_SAID = frozenset({"observedGeneration", "phase", "conditions"})
"""Fields of a status that are written even when they say nothing new."""


def collection(kind: str, namespace: str | None) -> str:
    """The path of all objects of a kind, in one namespace or (None) in all."""
    within = f"/namespaces/{namespace}" if namespace is not None else ""
    return f"/apis/{GROUP}/{VERSION}{within}/{PLURALS[kind]}"


def path(key: Key) -> str:
    """The path of one object."""
    return f"{collection(key.kind, key.namespace)}/{key.name}"


def key_of(kind: str, document: Json) -> Key:
    """The identity that a document claims."""
    metadata = document.get("metadata") or {}
    return Key(kind, str(metadata.get("namespace", "default")), str(metadata.get("name", "")))


def decoded(kind: str, document: Json) -> Resource:
    """The resource. A status that cannot be read counts as lost; it is observed again. Raises Invalid for the rest."""
    wanted = {"metadata": document.get("metadata"), "spec": document.get("spec")}
    try:
        return KINDS[kind].model_validate(wanted | {"status": document.get("status") or {}})
    except ValidationError:
        pass
    try:
        return KINDS[kind].model_validate(wanted)
    except ValidationError as exc:
        first = exc.errors(include_url=False)[0]
        field = ".".join(str(each) for each in first["loc"])
        raise Invalid(
            f"{key_of(kind, document)}: {field}: {first['msg']}; the installed CustomResourceDefinitions let it pass: "
            "install those of this version, then edit the object"
        ) from exc


def rewritten(known: Resource, resource: Resource, body: object, document: Json) -> Resource:
    """What the server has after our write of `body` for `resource` over the very version that is `known`.

    Only what the write can have changed is read: the version that was tested says that the spec is the same.
    """
    sent = body.get("status") if isinstance(body, dict) else None
    if sent is not None and sent != document.get("status"):
        return decoded(known.kind, document)
    try:
        metadata = Metadata.model_validate(document.get("metadata"))
    except ValidationError:
        return decoded(known.kind, document)
    status = known.status if sent is None else resource.status
    return known.model_copy(update={"metadata": metadata, "status": status})


def status_body(resource: Resource) -> Json:
    """The server-side apply of the whole status, for the very object and version that `resource` is."""
    metadata = resource.metadata
    return {
        "apiVersion": API_VERSION,
        "kind": resource.kind,
        "metadata": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "uid": metadata.uid,
            "resourceVersion": metadata.resource_version,
        },
        "status": _status(resource),
    }


def finalizer_body(resource: Resource, *, present: bool) -> list[Json]:
    """The JSON patch that adds or removes our finalizer, if the object is still the version that `resource` is."""
    metadata = resource.metadata
    others = [each for each in metadata.finalizers if each != FINALIZER]
    wanted = [*others, FINALIZER] if present else others
    # The list is replaced as a whole; the tested version says that nobody else changed it.
    return [
        {"op": "test", "path": "/metadata/uid", "value": metadata.uid},
        {"op": "test", "path": "/metadata/resourceVersion", "value": metadata.resource_version},
        {"op": "add", "path": "/metadata/finalizers", "value": wanted},
    ]


def _status(resource: Resource) -> dict[str, Any]:
    whole = resource.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    silent = _silent(type(resource.status))
    return {
        field: value for field, value in whole.items() if field in ALWAYS_SAID or value != silent.get(field)
    }


@cache
def _silent(status: type[Model]) -> dict[str, Any]:
    """What a status says before anything was observed."""
    return status().model_dump(mode="json", by_alias=True, exclude_none=True)
