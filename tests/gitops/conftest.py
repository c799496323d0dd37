"""Objects as a cluster has them, and those who judge them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from services import judges
from services.judges import Verdict
from stores_kubernetes.conftest import cluster, fake_cluster, hand, opening, real_cluster
from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.meta import API_VERSION
from toolkeeper.stores.kubernetes import documents

__all__ = ["cluster", "fake_cluster", "hand", "opening", "real_cluster"]
EXAMPLES = Path(__file__).parents[2] / "examples"
CHECKS = EXAMPLES / "argocd" / "health"


def stored(resource: Resource) -> dict[str, Any]:
    """The object as the API server holds it after our writes."""
    meta = resource.metadata
    metadata: dict[str, Any] = {
        "name": meta.name,
        "namespace": meta.namespace,
        "generation": meta.generation,
        "labels": dict(meta.labels),
    }
    if meta.deletion_timestamp is not None:
        metadata["deletionTimestamp"] = meta.deletion_timestamp.isoformat()
    return {
        "apiVersion": API_VERSION,
        "kind": resource.kind,
        "metadata": metadata,
        "spec": resource.spec.as_declared(),
        # Before our first write there is what the definition's default says.
        "status": documents.status_body(resource)["status"],
    }


Jury = Callable[[Sequence[Resource]], list[Verdict]]


@pytest.fixture(scope="session")
def jury() -> Jury:
    """What kstatus and Argo CD say about each of these resources."""
    return lambda resources: judges.ask(CHECKS, [stored(each) for each in resources])
