"""Label and field selectors, as far as our programs and kubectl use them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from toolkeeper.testing.apiserver_kinds import Json, Kind, Rejected


def matcher(kind: Kind, query: Mapping[str, str]) -> Callable[[Json], bool]:
    """Whether a document matches the selectors of the query. Raises Rejected for what is not understood."""
    labels = [_label(each) for each in _terms(query.get("labelSelector", ""))]
    fields = [_field(each) for each in _terms(query.get("fieldSelector", ""))]

    def matches(document: Json) -> bool:
        given = document["metadata"].get("labels") or {}
        shown = kind.shown(document)
        return all(each(given) for each in labels) and all(each(shown) for each in fields)

    return matches


def _terms(selector: str) -> list[str]:
    return [each.strip() for each in re.split(r",(?![^(]*\))", selector) if each.strip()]


def _label(term: str) -> Callable[[Mapping[str, str]], bool]:
    if found := re.fullmatch(r"(\S+) (in|notin) \((.*)\)", term):
        key, word, values = found[1], found[2], {each.strip() for each in found[3].split(",")}
        return lambda labels: (labels.get(key) in values) == (word == "in")
    if found := re.fullmatch(r"([^=!]+)(==|=|!=)([^=!]*)", term):
        key, operator, value = found[1], found[2], found[3]
        return lambda labels: (labels.get(key) == value) == (operator != "!=")
    if term.startswith("!"):
        return lambda labels: term[1:] not in labels
    return lambda labels: term in labels


def _field(term: str) -> Callable[[Json], bool]:
    found = re.fullmatch(r"([^=!]+)(==|=|!=)([^=!]*)", term)
    if not found:
        raise Rejected(400, "BadRequest", f"unable to parse field selector {term!r}")
    path, operator, value = found[1].split("."), found[2], found[3]

    def matches(document: Json) -> bool:
        at: Any = document
        for key in path:
            at = at.get(key) if isinstance(at, dict) else None
        return (str(at or "") == value) == (operator != "!=")

    return matches
