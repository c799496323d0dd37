"""What the API server in memory says about itself, for kopf and kubectl."""

from __future__ import annotations

from itertools import groupby

from toolkeeper.testing.apiserver_kinds import Json, Kind
from toolkeeper.testing.apiserver_objects import Objects
from toolkeeper.testing.apiserver_serving import kinds

VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def group_documents(objects: Objects, path: str) -> Json | None:
    """The document under `api`, `apis`, `api/v1`, `apis/GROUP` or `apis/GROUP/VERSION`; None elsewhere."""
    served = list(kinds(objects))
    match path.split("/"):
        case ["api"]:
            return {"kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"]}
        case ["apis"]:
            named = sorted({(each.group, each.version) for each in served if each.group})
            groups = [
                _group(name, [each[1] for each in versions]) for name, versions in groupby(named, key=_first)
            ]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["api", version]:
            return _resources("", version, served)
        case ["apis", group]:
            versions = sorted({each.version for each in served if each.group == group})
            return _group(group, versions) | {"kind": "APIGroup", "apiVersion": "v1"} if versions else None
        case ["apis", group, version]:
            return _resources(group, version, served)
    return None


def _first(pair: tuple[str, str]) -> str:
    return pair[0]


def _group(name: str, versions: list[str]) -> Json:
    said = [{"groupVersion": f"{name}/{each}", "version": each} for each in versions]
    return {"name": name, "versions": said, "preferredVersion": said[0]}


def _resources(group: str, version: str, served: list[Kind]) -> Json | None:
    here = [each for each in served if (each.group, each.version) == (group, version)]
    if not here:
        return None
    resources = []
    for kind in here:
        about = {
            "name": kind.plural,
            "singularName": kind.name.lower(),
            "namespaced": kind.namespaced,
            "kind": kind.name,
            "verbs": VERBS,
            "shortNames": list(kind.short),
            "categories": list(kind.categories),
        }
        resources.append(about)
        if kind.has_status:
            status = {"name": f"{kind.plural}/status", "namespaced": kind.namespaced, "kind": kind.name}
            resources.append(status | {"singularName": "", "verbs": ["get", "patch", "update"]})
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": here[0].api_version,
        "resources": resources,
    }
