"""Objects as rows, which is how kubectl asks for them: the printer columns of a CRD, or name and age."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from toolkeeper.testing.apiserver_kinds import Json, Kind

NAME = {"name": "Name", "type": "string", "format": "name", "description": "Name", "priority": 0}
AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
STEP = re.compile(r'\.(?P<key>[A-Za-z0-9_-]+)|\[\?\(@\.(?P<by>\w+)\s*==\s*["\'](?P<is>[^"\']*)["\']\)\]')


def is_table(headers: Mapping[str, str]) -> bool:
    """Whether the client prefers rows."""
    return "as=Table" in headers.get("Accept", "")


def table(kind: Kind, documents: list[Json], version: str) -> Json:
    """The documents as rows."""
    columns: tuple[Mapping[str, Any], ...] = kind.columns or (AGE,)
    named = [
        {"format": "", "description": "", "priority": 0} | {k: v for k, v in each.items() if k != "jsonPath"}
        for each in columns
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version},
        "columnDefinitions": [NAME, *named],
        "rows": [
            {
                "cells": [each["metadata"]["name"], *(_cell(column, each) for column in columns)],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": each["metadata"],
                },
            }
            for each in documents
        ],
    }


def _cell(column: Mapping[str, Any], document: Json) -> Any:
    value = _at(column.get("jsonPath", ""), document)
    if column.get("type") == "date":
        return "now" if value else "<unknown>"  # an age would need a clock, and no test compares one
    return value


def _at(path: str, value: Any) -> Any:
    for step in STEP.finditer(path):
        if step["key"] is not None:
            value = value.get(step["key"]) if isinstance(value, dict) else None
        else:
            items = value if isinstance(value, list) else []
            value = next((each for each in items if str(each.get(step["by"])) == step["is"]), None)
        if value is None:
            return None
    return value
