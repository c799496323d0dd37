"""From what a document says and what pydantic refuses to one sentence for each fault. Values are not repeated.

A value may be a secret that somebody wrote in the wrong place; the line number says enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from toolkeeper.resources.fields import known_fields, nearest, whereabouts
from toolkeeper.resources.nodes import Node, Odd
from toolkeeper.resources.shapes import SENTENCES

Path = tuple[str | int, ...]


class FieldFault(NamedTuple):
    """One thing that is wrong with one field."""

    path: Path
    message: str
    hint: str = ""


FEW = 4


def field_faults(model: type[BaseModel], document: Node, error: ValidationError) -> list[FieldFault]:
    """Each fault once."""
    found = [
        fault
        for each in error.errors(include_url=False, include_input=False)
        for fault in _faults(model, document, each)
    ]
    # `imagee: x` is one mistake, although `image` is missing now as well.
    meant = {(*each.path[:-1], _suggestion(each)) for each in found if each.message == "unknown field"}
    told = [each for each in found if each.message != "is missing" or each.path not in meant]
    return list(dict.fromkeys(told))


def _suggestion(fault: FieldFault) -> str:
    return fault.hint.removeprefix("did you mean ").removesuffix("?")


def unknown_field(model: type[BaseModel], path: Path) -> FieldFault:
    """Names the nearest field that is known there, or where the field belongs."""
    name, known = str(path[-1]), known_fields(model, path[:-1])
    close = nearest(name, known)
    if close:
        return FieldFault(path, "unknown field", f"did you mean {close}?")
    elsewhere = whereabouts(model, name)
    if elsewhere:
        # In a small map it is more likely that another word is meant: `secretRef` of `env` is `valueFrom`.
        beside = f"; known here: {', '.join(sorted(known))}" if 0 < len(known) <= FEW else ""
        return FieldFault(path, "unknown field", f"it belongs to {elsewhere}{beside}")
    few = f"known here: {', '.join(sorted(known))}" if 0 < len(known) <= 12 else ""
    return FieldFault(path, "unknown field", few)


def _faults(model: type[BaseModel], document: Node, error: ErrorDetails) -> Iterator[FieldFault]:
    path: Path = tuple(each for each in error["loc"] if each != "[key]")
    kind, context = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        yield unknown_field(model, path)
    elif kind == "rules":
        for rule in context["broken"]:
            yield FieldFault((*path, rule.at) if rule.at else path, rule.says)
    elif kind == "duplicate":
        yield FieldFault((*path, context["index"], context["field"]), error["msg"])
    elif kind in _WANTED:
        yield _wrong_type(path, _WANTED[kind], document.at(*path))
    elif kind == "literal_error":
        yield _not_one_of(path, context["expected"], document.at(*path))
    elif kind in _SENTENCES:
        yield FieldFault(path, _SENTENCES[kind](context))
    else:
        yield FieldFault(path, error["msg"].removeprefix("Value error, "))


_WANTED: Final = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
    "model_attributes_type": "a map",
}

_SENTENCES: Final[Mapping[str, Callable[[Mapping[str, Any]], str]]] = {
    "missing": lambda context: "is missing",
    "string_pattern_mismatch": lambda context: SENTENCES.get(
        context["pattern"], f"must match {context['pattern']}"
    ),
    "string_too_long": lambda context: f"must have at most {context['max_length']} characters",
    "string_too_short": lambda context: f"must have at least {context['min_length']} character(s)",
    "too_long": lambda context: (
        f"has {context['actual_length']} entries; at most {context['max_length']} are possible"
        if context.get("actual_length")
        else f"must have at most {context['max_length']} entries"
    ),
    "too_short": lambda context: f"must have at least {context['min_length']} entry",
    "greater_than_equal": lambda context: f"must be at least {context['ge']}",
    "less_than_equal": lambda context: f"must be at most {context['le']}",
    "value_error": lambda context: str(context["error"]),
}


def _wrong_type(path: Path, wanted: str, node: Node | None) -> FieldFault:
    if node is None:
        return FieldFault(path, f"must be {wanted}")
    if node.kind in {"list", "map"} or wanted in {"a list", "a map"}:
        hint = "begin each entry with '- '" if wanted == "a list" else ""
        return FieldFault(path, f"must be {wanted}, not {_is(node)}", hint)
    meaning = node.meaning()
    if meaning is None:
        return FieldFault(path, "is empty", "write a value, or remove it")
    if wanted == "text":
        return FieldFault(path, f"must be text, but is read as {_is(node)}", "put it in quotes")
    if isinstance(meaning, Odd):
        return FieldFault(path, f"must be {wanted}, in plain decimal digits")
    quoted = (
        node.kind == "text" and isinstance(meaning, str) and _fits(wanted, Node("plain", node.mark, meaning))
    )
    return FieldFault(path, f"must be {wanted}", "remove the quotes" if quoted else "")


def _fits(wanted: str, unquoted: Node) -> bool:
    meaning = unquoted.meaning()
    return isinstance(meaning, bool) if wanted == "true or false" else type(meaning) is int


def _not_one_of(path: Path, expected: str, node: Node | None) -> FieldFault:
    words = re.findall(r"'([^']*)'", expected)
    shown = words if len(words) <= 8 else [*words[:3], "…"]
    message = f"must be {words[0]}" if len(words) == 1 else f"must be one of {', '.join(shown)}"
    if node is None or node.kind in {"list", "map"}:
        return FieldFault(path, message)
    if not isinstance(node.meaning(), str):
        return FieldFault(path, f"{message}, but is read as {_is(node)}", "put it in quotes")
    close = nearest(node.text, words)
    return FieldFault(path, message, f"did you mean {close}?" if close and len(words) > 1 else "")


def _is(node: Node) -> str:
    if node.kind in {"list", "map"}:
        return f"a {node.kind}"
    meaning = node.meaning()
    if meaning is None:
        return "nothing"
    if isinstance(meaning, bool):
        return "true or false"
    return "text" if isinstance(meaning, str) else "a number"
