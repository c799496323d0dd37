"""The kinds that the API server in memory serves: a few of Kubernetes' own, and those of its CRDs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from toolkeeper.testing.apiserver_objects import Objects

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


def kinds(objects: Objects) -> tuple[Kind, ...]:
    """All kinds that are served now."""
    known = _KNOWN.get(objects)
    if known is None or known[0] != objects.definitions:
        known = _KNOWN[objects] = objects.definitions, (*BUILT_IN, *_defined(objects))
    return known[1]


_KNOWN: WeakKeyDictionary[Objects, tuple[int, tuple[Kind, ...]]] = WeakKeyDictionary()


def _defined(objects: Objects) -> Iterator[Kind]:
    for definition in objects.all(DEFINITIONS, None):
        spec = definition["spec"]
        names = spec["names"]
        for version in spec["versions"]:
            if version.get("served"):
                yield Kind(
                    spec["group"],
                    version["name"],
                    names["kind"],
                    names["plural"],
                    namespaced=spec["scope"] == "Namespaced",
                    short=tuple(names.get("shortNames", ())),
                    categories=tuple(names.get("categories", ())),
                    has_status="status" in version.get("subresources", {}),
                    schema=version.get("schema", {}).get("openAPIV3Schema", {}),
                    columns=tuple(version.get("additionalPrinterColumns", ())),
                )


def serving(objects: Objects, group: str, version: str, plural: str) -> Kind:
    """The kind under that path. Raises Rejected."""
    for kind in kinds(objects):
        if (kind.group, kind.version, kind.plural) == (group, version, plural):
            return kind
    raise Rejected(404, "NotFound", "the server could not find the requested resource")


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
