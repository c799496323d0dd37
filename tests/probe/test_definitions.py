"""What the hash of a tool definition covers."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from toolkeeper.probe.definitions import canonical, tool_hashes, tools_hash

ECHO: dict[str, Any] = {
    "name": "echo",
    "description": "Gibt «Text» zurück.",
    "inputSchema": {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "x-own": [1, 1.0, None, True],
    },
}
ADD: dict[str, Any] = {"name": "add", "inputSchema": {"type": "object"}}


def test_the_canonical_form_is_sorted_json_without_spaces_in_utf8() -> None:
    assert canonical(ECHO).decode() == (
        '{"description":"Gibt «Text» zurück.","inputSchema":{"properties":{"text":{"type":"string"}},"type":"object",'
        '"x-own":[1,1.0,null,true]},"name":"echo"}'
    )


def test_the_hash_of_a_tool_is_the_sha256_of_its_canonical_form() -> None:
    assert dict(tool_hashes([ECHO]))["echo"] == "sha256:" + hashlib.sha256(canonical(ECHO)).hexdigest()


def test_the_order_of_tools_and_of_keys_does_not_matter() -> None:
    reordered = dict(reversed(ECHO.items()))
    assert tools_hash([ECHO, ADD]) == tools_hash([ADD, reordered])


@pytest.mark.parametrize(
    "edited",
    [
        {"description": "Gibt Text zurück."},
        {"title": None},
        {"annotations": {"readOnlyHint": True}},
        {"outputSchema": {"type": "object"}},
        {"inputSchema": {**ECHO["inputSchema"], "x-own": [1, 1.0, None, 1]}},
    ],
)
def test_every_field_that_reaches_a_model_changes_the_hash(edited: dict[str, Any]) -> None:
    assert tools_hash([{**ECHO, **edited}]) != tools_hash([ECHO])


def test_fields_that_no_model_reads_do_not_change_the_hash() -> None:
    assert tools_hash([{**ECHO, "_meta": {"served": 17}, "icons": []}]) == tools_hash([ECHO])


def test_tools_that_share_a_name_share_a_hash_that_notices_a_change_in_either() -> None:
    twin = {**ECHO, "description": "Another."}
    assert [name for name, _ in tool_hashes([ECHO, ADD, twin])] == ["add", "echo"]
    assert tool_hashes([ECHO, twin]) == tool_hashes([twin, ECHO])
    assert tool_hashes([ECHO, twin]) != tool_hashes([ECHO, {**twin, "description": "Yet another."}])


def test_a_lone_surrogate_is_hashed_rather_than_fatal() -> None:
    assert tools_hash([{**ECHO, "description": "\ud800"}]).startswith("sha256:")
