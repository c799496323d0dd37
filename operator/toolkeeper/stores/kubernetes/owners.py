"""Who else has a say about an object. Pure."""

from __future__ import annotations

from toolkeeper.reconcile.ports import Resource

_MARKS = (
    ("annotations", "argocd.argoproj.io/tracking-id", "Argo CD"),
    ("labels", "kustomize.toolkit.fluxcd.io/name", "Flux"),
    ("labels", "helm.toolkit.fluxcd.io/name", "Flux"),
)


def managed_by(resource: Resource) -> str:
    """Who brings the object from Git and may undo what is changed in the cluster; empty for nobody."""
    marks = {"annotations": resource.metadata.annotations, "labels": resource.metadata.labels}
    return next((name for where, mark, name in _MARKS if mark in marks[where]), "")
