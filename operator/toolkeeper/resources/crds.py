"""Models → CustomResourceDefinitions and JSON Schemas for editors. Text out, nothing written.

A CRD's schema must be *structural* (apiextensions.k8s.io): every field has a type, references are written out, and
nothing is null. Defaults stay out of it: the models fill them in when they read, so that nobody's object is changed
behind their back, Git and cluster do not differ, and a later default reaches everybody in the same way. The one
exception is `status.observedGeneration: -1`, by which a fresh object counts as in progress, not as done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import yaml
from pydantic import BaseModel

from toolkeeper.resources.kinds import KINDS
from toolkeeper.resources.meta import DNS_LABEL, GROUP, VERSION
from toolkeeper.resources.shapes import SENTENCES

Schema = dict[str, Any]

HEADER: Final = "# Written by `toolkeeper crds` from the resource models. Do not edit.\n"
DRAFT: Final = "http://json-schema.org/draft-07/schema#"


class Column(NamedTuple):
    """What `kubectl get` prints; those of priority 1 only with `-o wide`."""

    name: str
    path: str
    priority: int = 0
    type: str = "string"


class Face(NamedTuple):
    """How kubectl names and lists a kind."""

    plural: str
    short: str
    columns: tuple[Column, ...]


_READY: Final = Column("Ready", '.status.conditions[?(@.type=="Ready")].status')
_REASON: Final = Column("Reason", '.status.conditions[?(@.type=="Ready")].reason')
_AGE: Final = Column("Age", ".metadata.creationTimestamp", type="date")

FACES: Final[Mapping[str, Face]] = {
    "Toolbox": Face(
        "toolboxes",
        "tbx",
        (
            _READY,
            _REASON,
            Column("Runtime", ".status.runtime"),
            Column("Servers", ".status.servers", type="integer"),
            Column("Endpoint", ".spec.endpoint", 1),
            Column("Version", ".status.agentVersion", 1),
            _AGE,
        ),
    ),
    "MCPServer": Face(
        "mcpservers",
        "mcp",
        (
            _READY,
            Column("Phase", ".status.phase"),
            _REASON,
            Column("Toolbox", ".status.toolbox"),
            Column("Image", ".status.image", 1),
            Column("Endpoint", ".status.endpoint", 1),
            _AGE,
        ),
    ),
    "AgentConnection": Face(
        "agentconnections",
        "agc",
        (
            _READY,
            _REASON,
            Column("Agent", ".spec.agent"),
            Column("Server", ".spec.serverRef"),
            Column("Expires", ".spec.expiresAt", 1),
            Column("Endpoint", ".status.endpoint", 1),
            _AGE,
        ),
    ),
}


def render_crds() -> Mapping[str, str]:
    """File name below `crds/` → content, the same each time."""
    files = {f"{FACES[kind].plural}.yaml": HEADER + _yaml(crd(kind)) for kind in KINDS}
    schemas = {kind: editor_schema(kind) for kind in KINDS}
    files |= {f"schemas/{kind.lower()}.json": _json(schema) for kind, schema in schemas.items()}
    one_of_all = {"$schema": DRAFT, "title": "Toolkeeper manifest", "oneOf": list(schemas.values())}
    return files | {"schemas/toolkeeper.json": _json(one_of_all)}


def crd(kind: str) -> Schema:
    """The CustomResourceDefinition of one kind."""
    face = FACES[kind]
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": structural_schema(kind)},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": each.name, "type": each.type, "jsonPath": each.path}
            | ({"priority": each.priority} if each.priority else {})
            for each in face.columns
        ],
    }
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": face.plural,
        "singular": kind.lower(),
        "shortNames": [face.short],
        "categories": ["toolkeeper"],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{face.plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def structural_schema(kind: str) -> Schema:
    """The schema of one kind as the API server accepts it."""
    model = KINDS[kind]
    spec = _drawn(_part(model, "spec"), _structural_with_default)
    status = _drawn(_part(model, "status"), _structural)
    status["properties"]["observedGeneration"]["default"] = -1
    return {
        "description": model.__doc__,
        "type": "object",
        "properties": {
            "apiVersion": {"description": "Version of this representation.", "type": "string"},
            "kind": {"description": "Kind of this object.", "type": "string"},
            # Names are parts of container names, hence shorter than Kubernetes allows.
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": 63, "pattern": DNS_LABEL}},
            },
            "spec": spec,
            "status": {**status, "default": {"observedGeneration": -1}},
        },
        "required": ["spec"],
    }


def _part(model: type[BaseModel], name: str) -> type[BaseModel]:
    part = model.model_fields[name].annotation
    assert isinstance(part, type)
    assert issubclass(part, BaseModel)
    return part


def editor_schema(kind: str) -> Schema:
    """A JSON Schema (draft 7) of what people write, for editors: strict, with defaults."""
    drawn = _drawn(KINDS[kind], _editable)
    properties = drawn["properties"]
    text = {"type": "object", "additionalProperties": {"type": "string"}}
    named = properties["metadata"]["properties"]
    properties["metadata"] = {
        "description": "Identity.",
        "type": "object",
        "properties": {
            "name": named["name"],
            "namespace": named["namespace"],
            "labels": {**text, "description": named["labels"]["description"]},
            "annotations": {**text, "description": named["annotations"]["description"]},
        },
        "required": ["name"],
    }
    properties["status"] = {"description": "Skipped in manifests.", "type": "object"}
    required = ["apiVersion", "kind", "metadata", "spec"]
    return {"$schema": DRAFT, "title": kind, **drawn, "required": required}


# From pydantic's schema ----------------------------------------------------------------------------------------------

Dialect = Callable[[Schema], Schema]


def _drawn(model: type[BaseModel], dialect: Dialect) -> Schema:
    """The model's schema with references written out, each piece brought into a dialect."""
    source = model.model_json_schema(by_alias=True)
    return _piece(source, source.pop("$defs", {}), dialect)


def _piece(source: Schema, definitions: Schema, dialect: Dialect) -> Schema:
    piece = _unwrapped(source, definitions)
    for name in ("items", "additionalProperties"):
        if isinstance(piece.get(name), dict):
            piece[name] = _piece(piece[name], definitions, dialect)
    for name in ("properties", "patternProperties"):
        if name in piece:
            piece[name] = {key: _piece(each, definitions, dialect) for key, each in piece[name].items()}
    return dialect(piece)


def _unwrapped(source: Schema, definitions: Schema) -> Schema:
    """The schema itself: references followed, unions with null (the only ones, meaning *not set*) opened."""
    own = {name: value for name, value in source.items() if name not in {"title", "$ref", "anyOf"}}
    if "$ref" in source:
        return {**_unwrapped(definitions[source["$ref"].rpartition("/")[2]], definitions), **own}
    branches = [each for each in source.get("anyOf", ()) if each != {"type": "null"}]
    return {**_unwrapped(branches[0], definitions), **own} if branches else own


def _structural(piece: Schema) -> Schema:
    """A piece as the API server accepts it."""
    found = {name: value for name, value in piece.items() if name not in _NOT_STRUCTURAL}
    if "const" in piece:
        found["enum"] = [piece["const"]]
    if "x-kubernetes-validations" in piece:
        twins = piece["x-kubernetes-validations"]
        found["x-kubernetes-validations"] = [
            {name: twin[name] for name in ("rule", "message", "fieldPath") if name in twin} for twin in twins
        ]
    if "x-kubernetes-int-or-string" in piece:
        del found["type"]  # implied, and refused beside it
        return _ordered(found)
    match piece["type"]:
        case "integer":
            found["format"] = "int64"
        case "array":
            found.setdefault("x-kubernetes-list-type", "atomic")
        case "object" if "properties" not in piece:
            found |= _map(piece)
        case _:
            pass
    return _ordered(found)


_NOT_STRUCTURAL: Final = {
    "additionalProperties", "const", "default", "patternProperties", "propertyNames",
}  # fmt: skip


def _map(piece: Schema) -> Schema:
    """A map of the author's keys. Their shape needs CEL: a structural schema can only speak of values."""
    for pattern, values in piece.get("patternProperties", {}).items():
        longest = piece["propertyNames"]["maxLength"]
        rule = f"self.all(k, size(k) <= {longest} && k.matches(r'{pattern}'))"
        twin = {"rule": rule, "message": f"a key {SENTENCES[pattern]}"}
        return {"additionalProperties": values, "x-kubernetes-validations": [twin]}
    if isinstance(piece["additionalProperties"], dict):
        return {"additionalProperties": piece["additionalProperties"]}
    return {"x-kubernetes-preserve-unknown-fields": True}


def _structural_with_default(piece: Schema) -> Schema:
    """The same, with the default told in the description: it takes effect only where the spec is read."""
    found, default = _structural(piece), piece.get("default")
    if default in (None, "", []) or isinstance(default, dict):
        return found
    shown = default if isinstance(default, str) else json.dumps(default)
    return {**found, "description": f"{found['description']} Default: {shown}."}


def _editable(piece: Schema) -> Schema:
    """A piece as editors check it."""
    found = {name: value for name, value in piece.items() if not name.startswith("x-kubernetes-")}
    if found.get("default", 0) in (None, [], {}):
        del found["default"]
    if "patternProperties" in found:
        found["additionalProperties"] = False
    return _ordered(found)


_ORDER: Final = (
    "description", "type", "format", "const", "enum", "default", "minimum", "maximum", "minLength", "maxLength",
    "pattern", "minItems", "maxItems", "minProperties", "maxProperties", "items", "properties", "required",
)  # fmt: skip


def _ordered(piece: Schema) -> Schema:
    known: Schema = {name: piece[name] for name in _ORDER if name in piece}
    return {**known, **{name: piece[name] for name in sorted(piece) if name not in known}}


class _Plain(yaml.SafeDumper):
    """No anchors: what is the same twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(document: Schema) -> str:
    text: str = yaml.dump(document, Dumper=_Plain, sort_keys=False, width=110, allow_unicode=True)
    return text


def _json(document: Schema) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
