"""The custom resource definitions: as checked in, and as an API server accepts them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from toolkeeper.resources.crds import crd, editor_schema, render_crds, structural_schema
from toolkeeper.resources.kinds import KINDS
from toolkeeper.resources.meta import API_VERSION, GROUP, VERSION

Schema = dict[str, Any]
CRDS = Path(__file__).parents[2] / "crds"

# What apiextensions.k8s.io/v1 knows of a schema, and a structural one may use outside of junctors.
KEYWORDS = {
    "description", "type", "format", "enum", "default", "minimum", "maximum", "minLength", "maxLength", "pattern",
    "minItems", "maxItems", "minProperties", "maxProperties", "items", "properties", "additionalProperties", "required",
    "x-kubernetes-validations", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string",
}  # fmt: skip


@pytest.fixture(scope="module")
def rendered() -> Mapping[str, str]:
    """Path → text of every file."""
    return render_crds()


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind in turn."""
    return str(request.param)


def pieces(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every piece of a schema with its path."""
    yield path, schema
    for name, each in schema.get("properties", {}).items():
        yield from pieces(each, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            yield from pieces(schema[name], f"{path}[]")


def test_the_checked_in_files_are_what_the_models_render(rendered: Mapping[str, str]) -> None:
    there = {
        str(file.relative_to(CRDS)): file.read_text("utf-8") for file in CRDS.rglob("*") if file.is_file()
    }
    assert there == rendered, "run `toolkeeper crds` and commit what it writes"


def test_rendering_twice_gives_the_same_text_and_valid_documents(rendered: Mapping[str, str]) -> None:
    assert rendered == render_crds()
    for name, text in rendered.items():
        assert (
            json.loads(text)
            if name.endswith(".json")
            else yaml.safe_load(text)["kind"] == "CustomResourceDefinition"
        )


def test_group_and_version_make_the_api_version() -> None:
    assert f"{GROUP}/{VERSION}" == API_VERSION


def test_every_piece_is_structural(kind: str) -> None:
    for path, piece in pieces(structural_schema(kind)):
        assert piece.keys() <= KEYWORDS, path
        assert ("type" in piece) != ("x-kubernetes-int-or-string" in piece), path
        if "type" not in piece:
            continue
        assert piece["type"] in {"object", "array", "string", "integer", "boolean"}, path
        assert not {"properties", "additionalProperties"} <= piece.keys(), path
        match piece["type"]:
            case "array":
                assert "items" in piece, path
                assert piece["x-kubernetes-list-type"] in {"atomic", "map"}, path
            case "object":
                open_ = piece.keys() & {
                    "properties",
                    "additionalProperties",
                    "x-kubernetes-preserve-unknown-fields",
                }
                assert open_ or path == ".metadata", path
            case "integer":
                assert piece["format"] == "int64", path
            case _:
                pass


def test_every_piece_of_a_spec_is_bounded_so_that_the_cost_of_rules_is(kind: str) -> None:
    for path, piece in pieces(structural_schema(kind)["properties"]["spec"]):
        match piece.get("type", "string"):
            case "string":
                assert "maxLength" in piece or "enum" in piece, path
            case "array":
                assert "maxItems" in piece, path
            case "integer":
                assert {"minimum", "maximum"} <= piece.keys(), path
            case "object" if "additionalProperties" in piece:
                assert "maxProperties" in piece, path
            case _:
                pass


def test_keys_of_list_maps_are_required(kind: str) -> None:
    for path, piece in pieces(structural_schema(kind)):
        if piece.get("x-kubernetes-list-type") == "map":
            (key,) = piece["x-kubernetes-list-map-keys"]
            assert key in piece["items"]["required"], path


def test_rules_point_at_fields_that_exist(kind: str) -> None:
    for path, piece in pieces(structural_schema(kind)):
        for rule in piece.get("x-kubernetes-validations", ()):
            assert rule["rule"], path
            assert "\n" not in rule["message"], path
            if "fieldPath" in rule:
                assert rule["fieldPath"].removeprefix(".") in piece["properties"], path


def test_every_field_explains_itself_in_one_sentence(kind: str) -> None:
    schema = structural_schema(kind)["properties"]
    for part in ("spec", "status"):
        for path, piece in pieces(schema[part], part):
            if path.endswith("[]"):
                continue
            sentence = piece.get("description", "")
            assert sentence.endswith("."), path
            assert sentence[0].isupper() or sentence[0] == "`", path
            assert len(sentence) <= 140, path


def test_no_default_changes_what_somebody_wrote(kind: str) -> None:
    found = {path: piece["default"] for path, piece in pieces(structural_schema(kind)) if "default" in piece}
    assert found == {".status": {"observedGeneration": -1}, ".status.observedGeneration": -1}


def test_kubectl_knows_short_names_category_columns_and_the_status_subresource(kind: str) -> None:
    spec = crd(kind)["spec"]
    (version,) = spec["versions"]
    columns = version["additionalPrinterColumns"]
    assert spec["names"]["categories"] == ["toolkeeper"]
    assert spec["names"]["shortNames"] == [
        {"MCPServer": "mcp", "AgentConnection": "agc", "Toolbox": "tbx"}[kind]
    ]
    assert version["subresources"] == {"status": {}}
    assert [each["name"] for each in columns][0::5][:1] == ["Ready"]
    assert columns[-1] == {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
    for each in columns:
        assert _exists(version["schema"]["openAPIV3Schema"], each["jsonPath"]), each


def _exists(schema: Schema, path: str) -> bool:
    if path.startswith((".metadata.", ".status.conditions[")):
        return True
    for name in path.removeprefix(".").split("."):
        schema = schema["properties"].get(name, {})
    return "type" in schema


def test_a_definition_fits_into_an_object_of_kubernetes(kind: str) -> None:
    assert len(json.dumps(crd(kind))) < 256 * 1024


def test_editors_refuse_unknown_fields_and_show_defaults() -> None:
    schema = editor_schema("MCPServer")
    spec = schema["properties"]["spec"]
    assert spec["additionalProperties"] is False
    assert spec["properties"]["transport"]["default"] == "streamable-http"
    assert schema["properties"]["kind"]["const"] == "MCPServer"
    assert not any(name.startswith("x-kubernetes") for _, piece in pieces(schema) for name in piece)
