"""Resources as programs read them: the document of `-o json|yaml`. Pure."""

from __future__ import annotations

from typing import Any

from toolkeeper.reconcile.ports import Listing, Resource
from toolkeeper.resources.meta import Key
from toolkeeper.stores.declared import Declared


def document(resource: Resource, declared: Declared | None = None, synced: str = "") -> dict[str, Any]:
    """The whole resource. `status.source` says what declares it, where that is a file; nothing ever writes it.

    `file` declares it, says so since `commit`, and `synced` is the commit in force now; both only with Git.
    """
    found: dict[str, Any] = resource.model_dump(mode="json", by_alias=True, exclude_none=True)
    if declared is not None:
        said = {"file": declared.path, "commit": declared.revision, "synced": synced}
        found["status"]["source"] = {name: value for name, value in said.items() if value}
    return found


def concerning(listing: Listing, kind: str, key: Key | None = None) -> list[str]:
    """What is wrong with the source, as far as it may concern objects of the kind, or the one object."""
    return [
        f"{each.source}: {each.message}"
        for each in listing.problems
        if each.key is None or (each.key.kind == kind and key in (None, each.key))
    ]
