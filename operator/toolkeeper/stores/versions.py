"""What a write does to an object: the rules of the Kubernetes API, as pure functions.

Every function takes the object as the store holds it and returns it as the store should hold it next. The very same
object comes back when nothing changes; then nothing is written and nobody is told. `version` is used only for a change.
"""

from __future__ import annotations

from datetime import datetime

from toolkeeper.errors import Conflict
from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.meta import FINALIZER, Metadata


def created(wanted: Resource, *, uid: str, version: str, now: datetime) -> Resource:
    """A new object: a uid of its own, generation 1, no finalizers, and a status that claims nothing."""
    metadata = Metadata(
        name=wanted.metadata.name,
        namespace=wanted.metadata.namespace,
        uid=uid,
        generation=1,
        resource_version=version,
        labels=wanted.metadata.labels,
        annotations=wanted.metadata.annotations,
        creation_timestamp=now,
    )
    return type(wanted)(metadata=metadata, spec=wanted.spec)  # type: ignore[arg-type]  # spec and type belong together


def applied(current: Resource, wanted: Resource, *, version: str) -> Resource:
    """The object with the spec, labels and annotations of `wanted`; the generation counts changes of the spec.

    Raises Conflict when the object is being deleted: what is declared now is another object, created once it is gone.
    """
    before, after = current.metadata, wanted.metadata
    same_spec = current.spec == wanted.spec
    if same_spec and before.labels == after.labels and before.annotations == after.annotations:
        return current
    if before.deletion_timestamp is not None:
        raise Conflict(f"{current.key} is being deleted; apply it again when it is gone")
    metadata = before.model_copy(
        update={
            "labels": after.labels,
            "annotations": after.annotations,
            "generation": before.generation + (not same_spec),
            "resource_version": version,
        }
    )
    return current.model_copy(update={"metadata": metadata, "spec": wanted.spec})


def deleted(current: Resource, *, version: str, now: datetime) -> Resource | None:
    """None when nothing holds the object; otherwise it stays, marked, until its last finalizer is removed."""
    if not current.metadata.finalizers:
        return None
    if current.metadata.deletion_timestamp is not None:
        return current
    # Kubernetes counts a deletion as a change of what is wanted, too.
    update = {
        "deletion_timestamp": now,
        "generation": current.metadata.generation + 1,
        "resource_version": version,
    }
    return current.model_copy(update={"metadata": current.metadata.model_copy(update=update)})


def with_status(current: Resource, written: Resource, *, version: str) -> Resource:
    """The object with the status of `written`. Raises Conflict when `written` is not the newest version."""
    _same_version(current, written)
    if current.status == written.status:
        return current
    metadata = current.metadata.model_copy(update={"resource_version": version})
    return current.model_copy(update={"metadata": metadata, "status": written.status})


def with_finalizer(current: Resource, written: Resource, *, present: bool, version: str) -> Resource:
    """The object with or without our finalizer. Raises Conflict likewise, and when adding it to a deleted object."""
    _same_version(current, written)
    metadata = current.metadata
    if present == metadata.held:
        return current
    if present and metadata.deletion_timestamp is not None:
        raise Conflict(f"{current.key} is being deleted and takes no new finalizers")
    finalizers = (
        (*metadata.finalizers, FINALIZER)
        if present
        else tuple(each for each in metadata.finalizers if each != FINALIZER)
    )
    update = {"finalizers": finalizers, "resource_version": version}
    return current.model_copy(update={"metadata": metadata.model_copy(update=update)})


def is_gone(resource: Resource) -> bool:
    """Whether it was deleted and nothing holds it any more: the store forgets it."""
    return resource.metadata.deletion_timestamp is not None and not resource.metadata.finalizers


def _same_version(current: Resource, written: Resource) -> None:
    if written.metadata.uid != current.metadata.uid:
        raise Conflict(f"{current.key} was deleted and created again: it is another object now")
    if written.metadata.resource_version != current.metadata.resource_version:
        raise Conflict(
            f"{current.key} changed: version {written.metadata.resource_version or 'none'} is not the newest, "
            f"{current.metadata.resource_version} is"
        )
