"""What a kind is to the API server in memory, those of Kubernetes' own that it serves, and how it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Json = dict[str, Any]


class Rejected(Exception):
    """The request is refused, as a Status of Kubernetes' says."""

    def __init__(self, code: int, reason: str, message: str, *, details: Json | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details or {}

    def status(self) -> Json:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "reason": self.reason,
            "message": self.message,
            "details": self.details,
            "code": self.code,
        }


@dataclass(frozen=True)
class Kind:
    """One kind of objects at one version."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    has_status: bool = False
    schema: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[Mapping[str, Any], ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @cached_property
    def has_rules(self) -> bool:
        """Whether its schema holds CEL rules."""
        return "x-kubernetes-validations" in str(self.schema)

    @property
    def store(self) -> tuple[str, str]:
        """Where its objects are kept: core's events and those of events.k8s.io are the same."""
        return ("events.k8s.io", "events") if self.plural == "events" else (self.group, self.plural)

    def shown(self, document: Json) -> Json:
        """The document as this version of the kind writes it."""
        if self.plural == "events" and self.group == "":
            return _as_core_event(document)
        return document


BUILT_IN = (
    Kind("", "v1", "Namespace", "namespaces", namespaced=False, short=("ns",)),
    Kind("", "v1", "Secret", "secrets"),
    Kind("", "v1", "ConfigMap", "configmaps", short=("cm",)),
    Kind("", "v1", "Event", "events", short=("ev",)),
    Kind("events.k8s.io", "v1", "Event", "events", short=("ev",)),
    Kind("coordination.k8s.io", "v1", "Lease", "leases"),
    Kind(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        namespaced=False,
        short=("crd", "crds"),
        has_status=True,
    ),
)
DEFINITIONS = BUILT_IN[-1]


def _as_core_event(document: Json) -> Json:
    series = document.get("series") or {}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": document["metadata"],
        "involvedObject": document.get("regarding", {}),
        "reason": document.get("reason"),
        "message": document.get("note"),
        "type": document.get("type"),
        "eventTime": document.get("eventTime"),
        "reportingComponent": document.get("reportingController"),
        "reportingInstance": document.get("reportingInstance"),
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "count": series.get("count", 1),
    }
