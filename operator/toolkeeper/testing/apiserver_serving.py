"""Which kinds the API server in memory serves now: its own, and those that its CRDs define."""

from __future__ import annotations

from collections.abc import Iterator
from weakref import WeakKeyDictionary

from toolkeeper.testing.apiserver_kinds import BUILT_IN, DEFINITIONS, Kind, Rejected
from toolkeeper.testing.apiserver_objects import Objects


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
