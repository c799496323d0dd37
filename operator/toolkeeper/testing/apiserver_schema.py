"""Structural schemas: pruning, defaults and validation, and our own models in place of CEL."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from toolkeeper.resources.agentconnection import AgentConnectionSpec
from toolkeeper.resources.mcpserver import MCPServerSpec
from toolkeeper.resources.meta import GROUP
from toolkeeper.resources.toolbox import ToolboxSpec
from toolkeeper.testing.apiserver_kinds import Json, Kind, Rejected

Schema = Mapping[str, Any]
SPECS: dict[str, TypeAdapter[Any]] = {
    "Toolbox": TypeAdapter(ToolboxSpec),
    "MCPServer": TypeAdapter(MCPServerSpec),
    "AgentConnection": TypeAdapter(AgentConnectionSpec),
}
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def pruned(schema: Schema, value: Any) -> Any:
    """The value without fields that the schema does not know."""
    if isinstance(value, dict):
        known, rest = schema.get("properties", {}), schema.get("additionalProperties")
        keep = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        result = {}
        for key, inner in value.items():
            if key in known:
                result[key] = pruned(known[key], inner)
            elif isinstance(rest, Mapping):
                result[key] = pruned(rest, inner)
            elif keep or rest is True:
                result[key] = inner
        return result
    if isinstance(value, list):
        return [pruned(schema.get("items", {}), each) for each in value]
    return value


def unknown(schema: Schema, value: Any, path: str = "") -> Iterator[str]:
    """Fields that pruning would drop."""
    if isinstance(value, dict):
        known, rest = schema.get("properties", {}), schema.get("additionalProperties")
        for key, inner in value.items():
            within = known.get(key) or (rest if isinstance(rest, Mapping) else None)
            if within is not None:
                yield from unknown(within, inner, f"{path}.{key}".strip("."))
            elif not schema.get("x-kubernetes-preserve-unknown-fields") and rest is not True:
                yield f"{path}.{key}".strip(".")
    if isinstance(value, list):
        for place, inner in enumerate(value):
            yield from unknown(schema.get("items", {}), inner, f"{path}[{place}]")


def defaulted(schema: Schema, value: Any) -> Any:
    """The value with the schema's defaults where it says nothing."""
    if isinstance(value, dict):
        result = dict(value)
        for key, inner in schema.get("properties", {}).items():
            if (
                result.get(key) is None
                and "default" in inner
                and not (key in result and inner.get("nullable"))
            ):
                result[key] = copy.deepcopy(inner["default"])
            if key in result:
                result[key] = defaulted(inner, result[key])
        rest = schema.get("additionalProperties")
        if isinstance(rest, Mapping):
            result = {key: defaulted(rest, inner) for key, inner in result.items()}
        return result
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), each) for each in value]
    return value


def check(kind: Kind, name: str, content: Json) -> None:
    """Raises Rejected, with every fault."""
    faults = list(_faults(kind.schema, content, ""))
    if not faults and kind.group == GROUP and kind.has_rules:
        faults = list(_rules(kind, content))
    if faults:
        causes = [
            {"reason": "FieldValueInvalid", "field": field, "message": message} for field, message in faults
        ]
        message = ", ".join(f"{field}: Invalid value: {message}" for field, message in faults)
        raise Rejected(
            422,
            "Invalid",
            f'{kind.name}.{kind.group} "{name}" is invalid: {message}',
            details={"name": name, "group": kind.group, "kind": kind.name, "causes": causes},
        )


def _rules(kind: Kind, content: Json) -> Iterator[tuple[str, str]]:
    try:
        SPECS[kind.name].validate_python(content.get("spec", {}))
    except ValidationError as exc:
        for each in exc.errors(include_url=False):
            yield ".".join(["spec", *map(str, each["loc"])]), each["msg"]


def _faults(schema: Schema, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if schema.get("x-kubernetes-int-or-string"):
        if isinstance(value, bool) or not isinstance(value, int | str):
            yield path, "must be an integer or a string"
        else:
            yield from _limits(schema, value, path)
        return
    if value is None and schema.get("nullable"):
        return
    wanted = schema.get("type", "")
    is_typed = wanted not in TYPES or (
        isinstance(value, TYPES[wanted]) and (wanted == "boolean" or not isinstance(value, bool))
    )
    if not is_typed:
        yield path, f"must be of type {wanted}"
        return
    yield from _limits(schema, value, path)
    if isinstance(value, dict):
        known, rest = schema.get("properties", {}), schema.get("additionalProperties")
        yield from (
            (f"{path}.{key}".strip("."), "Required value")
            for key in schema.get("required", ())
            if key not in value
        )
        for key, inner in value.items():
            within = known.get(key) or (rest if isinstance(rest, Mapping) else {})
            yield from _faults(within, inner, f"{path}.{key}".strip("."))
    if isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _faults(schema.get("items", {}), inner, f"{path}[{place}]")


def _limits(schema: Schema, value: Any, path: str) -> Iterator[tuple[str, str]]:
    if "enum" in schema and value not in schema["enum"]:
        yield path, f"must be one of {schema['enum']}"
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield path, f"must match {schema['pattern']}"
        yield from _size(schema, len(value), path, "Length")
    elif isinstance(value, list):
        yield from _size(schema, len(value), path, "Items")
        if schema.get("x-kubernetes-list-type") == "map":
            keys = [tuple(each.get(key) for key in schema["x-kubernetes-list-map-keys"]) for each in value]
            if len(keys) != len(set(keys)):
                yield path, "has the same key twice"
    elif isinstance(value, dict):
        yield from _size(schema, len(value), path, "Properties")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _range(schema, value, path)


def _range(schema: Schema, value: float, path: str) -> Iterator[tuple[str, str]]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value < low or (value == low and schema.get("exclusiveMinimum"))):
        yield path, f"must be at least {low}"
    if high is not None and (value > high or (value == high and schema.get("exclusiveMaximum"))):
        yield path, f"must be at most {high}"


def _size(schema: Schema, size: int, path: str, what: str) -> Iterator[tuple[str, str]]:
    if size < schema.get(f"min{what}", 0):
        yield path, f"is too short ({size})"
    if size > schema.get(f"max{what}", size):
        yield path, f"is too long ({size})"
