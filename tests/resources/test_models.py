"""The models: what is declared comes back the same, and importing them costs little."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from generated import examples
from toolkeeper.resources import shapes
from toolkeeper.resources.agentconnection import AgentConnectionSpec
from toolkeeper.resources.crds import editor_schema
from toolkeeper.resources.kinds import KINDS, Resource
from toolkeeper.resources.mcpserver import MCPServer, MCPServerSpec
from toolkeeper.resources.meta import DNS_LABEL, NO_NUL, NO_SPACE, Key
from toolkeeper.resources.parse import parse_text
from toolkeeper.resources.printing import print_yaml

Schema = dict[str, Any]
ANY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
WORDS = st.sampled_from(
    [
        "y",
        "no",
        "Off",
        "~",
        "null",
        "1.10",
        "0x1",
        "08",
        "1_000",
        "1:30",
        "2026-08-31",
        "- a",
        "a: b",
        "*a",
        "{{port}}",
        "",
    ]
)
TEXTS: dict[str, st.SearchStrategy[str]] = {
    NO_NUL: ANY_TEXT | WORDS,
    NO_SPACE: st.sampled_from(["*", "read_*", "y", "1.0", "~"]),
    DNS_LABEL: st.sampled_from(["a", "0", "1e3", "null", "no", "a-b"]),
    shapes.NAMESPACED_NAME: st.sampled_from(["a", "team/a", "08"]),
    shapes.SECRET_NAME: st.sampled_from(["a", "1.5"]),
    shapes.SECRET_KEY: st.sampled_from(["token", ".dockerconfigjson", "-"]),
    shapes.ENV_NAME: st.sampled_from(["A", "Y", "NO", "null", "A.b-c"]),
    shapes.MEMORY: st.sampled_from(["6Mi", "512Mi", "1.5Gi", "6291456"]),
    shapes.CPU: st.sampled_from(["10m", "1", "0.5"]),
    shapes.HOST_PORT: st.sampled_from(["a.example:443", "*.example:1", "1:30"]),
    shapes.HOST_HEADER: st.sampled_from(["localhost:8000", "[::1]:80", "1:30"]),
    shapes.HEADER_NAME: st.sampled_from(["X-Api-Key", "0"]),
    shapes.ENDPOINT_PATH: st.sampled_from(["/", "/mcp?x=1#y"]),
    shapes.MOUNT_PATH: st.sampled_from(["/data", "/..a/.b", "/a/b"]),
    shapes.IMAGE: st.sampled_from(["a", "1.5", "ghcr.io/a/b:1.2", "0x1"]),
    shapes.PACKAGE_NAME: st.sampled_from(["mcp-server-time", "1"]),
    shapes.PACKAGE_VERSION: st.sampled_from(["1.2.3", "2026.8.31", "1.0.0-rc.1"]),
    shapes.COMPANION: st.sampled_from(["mcp<2", "@a/b@^1", "x[y]>=1,<2"]),
    shapes.DEBIAN_PACKAGE: st.sampled_from(["git", "off", "libstdc++6"]),
    shapes.CATALOG_NAME: st.sampled_from(["io.github.example/server"]),
    shapes.HTTP_URL: st.sampled_from(["https://a.example/x?y=1"]),
    shapes.NODE_URL: st.sampled_from(["https://a.example:30000", "unix:///run/x"]),
    shapes.SHA256: st.sampled_from(["sha256:" + "0" * 64]),
    shapes.TIMESTAMP: st.sampled_from(["2030-01-31T12:00:00Z", "2030-01-31T12:00:00.5+02:00"]),
}
"""For each shape some texts of it, above all those that a careless reader takes for something else."""


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """Values that a schema for editors admits."""
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    match schema["type"]:
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(schema["minimum"], schema["maximum"])
        case "array":
            return st.lists(values(schema["items"]), max_size=3)
        case "object" if "properties" in schema:
            fields = {name: values(each) for name, each in schema["properties"].items()}
            required = {name: fields.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(required, optional=fields)
        case "object":
            return st.dictionaries(
                st.sampled_from(["app", "example.com/tier"]),
                st.sampled_from(["a", "B.1", ""]),
                max_size=2,
                min_size=schema.get("minProperties", 0),
            )
        case _:
            return TEXTS[schema["pattern"]] if "pattern" in schema else ANY_TEXT


def chosen(draw: st.DrawFn, spec: Schema, *fields: str, last: Schema) -> None:
    """Keep exactly one of the fields."""
    there = [name for name in fields if spec.get(name) is not None]
    if not there:
        spec.update(last)
    for name in set(there) - {draw(st.sampled_from(there or [*last]))}:
        del spec[name]


@functools.cache
def specs(kind: str) -> st.SearchStrategy[Any]:
    """What that kind's `spec` may be, apart from rules between fields."""
    return values(editor_schema(kind)["properties"]["spec"])


@st.composite
def documents(draw: st.DrawFn, kind: str) -> Schema:
    """A valid document of that kind."""
    spec = draw(specs(kind))
    if kind == "MCPServer":
        spec.pop("remote", None)
        chosen(draw, spec, "image", "package", "catalog", last={"image": "a"})
        chosen(draw, spec, "toolboxRef", "toolboxSelector", last={"toolboxRef": "a"})
        for each in [*spec.get("env", []), *spec.get("files", [])]:
            chosen(draw, each, "value", "valueFrom" if "name" in each else "secretRef", last={"value": ""})
        for name in ("env", "volumes", "files"):
            key = "path" if name == "files" else "name"
            spec[name] = [*{each[key]: each for each in spec.get(name, [])}.values()]
    if kind == "AgentConnection":
        chosen(draw, spec, "serverRef", "serverSelector", last={"serverRef": "a"})
        spec.pop("credentials", None)
    labels = draw(st.dictionaries(st.just("app"), WORDS.filter(lambda word: word.isalnum())))
    name = draw(TEXTS[DNS_LABEL])
    metadata = {
        "name": name,
        "namespace": "team",
        "labels": labels,
        "annotations": {"note": draw(ANY_TEXT | WORDS)},
    }
    return {"apiVersion": "toolkeeper.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("kind", sorted(KINDS))
@given(data=st.data())
@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
def test_what_is_printed_reads_back_the_same(kind: str, data: st.DataObject) -> None:
    document = data.draw(documents(kind))
    try:
        resource = KINDS[kind].model_validate_json(json.dumps(document), strict=True)
    except ValidationError as exc:
        assume({each["type"] for each in exc.errors()} != {"rules"})
        raise
    written = resource.as_declared()
    for form in (
        print_yaml([written]),
        json.dumps(written),
        json.dumps(written, indent="\t", ensure_ascii=False),
    ):
        parsed = parse_text(form, "f")
        assert parsed.problems == ()
        assert parsed.resources == (resource,)


def test_what_was_declared_comes_without_defaults_and_in_the_words_of_manifests() -> None:
    wrote = {
        "toolboxRef": "here",
        "image": "a",
        "hostHeader": None,
        "rollout": {"drainSeconds": 5, "onFailure": "Rollback"},
    }
    spec = MCPServerSpec.model_validate(wrote)
    assert spec.as_declared() == wrote
    assert spec.as_declared(nulls=False) == {
        name: value for name, value in wrote.items() if name != "hostHeader"
    }
    expiring = {"agent": "a", "serverRef": "b", "expiresAt": "2030-01-31T12:00:00Z"}
    assert AgentConnectionSpec.model_validate(expiring).as_declared() == expiring


def test_what_is_printed_means_the_same_to_readers_of_yaml_1_1() -> None:
    import yaml  # noqa: PLC0415

    words = [
        "y",
        "NO",
        "Off",
        "~",
        "null",
        "1.10",
        "0x1",
        "08",
        "0o7",
        "1_000",
        "1e3",
        "1:30",
        "",
        "- a",
        "# a",
        "a\nb",
        " a",
    ]
    assert yaml.safe_load(print_yaml([words])) == words
    assert [each for each in words if f"- {each}\n" in print_yaml([words]) and each.isalnum()] == []


def minimal(**metadata: str) -> Resource:
    """An MCPServer with next to nothing in it."""
    return MCPServer.model_validate(
        {"metadata": {"name": "a", **metadata}, "spec": {"image": "a", "toolboxRef": "b"}}
    )


def test_a_status_is_read_whatever_a_newer_version_wrote_into_it() -> None:
    document = minimal().model_dump(mode="json", by_alias=True)
    document["status"] |= {"invented": 1, "image": "x" * 10_000, "tools": ["t"] * 5000}
    assert MCPServer.model_validate(document).status.image == "x" * 10_000


def test_a_fresh_status_says_that_nothing_was_observed() -> None:
    for kind in KINDS.values():
        assert kind.model_fields["status"].default.observed_generation == -1


def test_names_the_toolbox_that_is_meant() -> None:
    spec = {"image": "a", "toolboxRef": "other/box"}
    there = MCPServer.model_validate({"metadata": {"name": "a", "namespace": "team"}, "spec": spec})
    here = MCPServer.model_validate(
        {"metadata": {"name": "a", "namespace": "team"}, "spec": {**spec, "toolboxRef": "box"}}
    )
    any_ = MCPServer.model_validate(
        {"metadata": {"name": "a"}, "spec": {"image": "a", "toolboxSelector": {}}}
    )
    assert there.toolbox_key == Key("Toolbox", "other", "box")
    assert here.toolbox_key == Key("Toolbox", "team", "box")
    assert any_.toolbox_key is None


def test_no_shape_means_something_else_to_go_or_javascript() -> None:
    # \\s, \\w and \\d are ASCII in Go, Unicode here; look-around is in neither.
    assert [each for each in shapes.SENTENCES if re.search(r"\\[swdSWDbB]|\(\?", each)] == []


def test_every_shape_has_a_sentence_for_whoever_gets_it_wrong() -> None:
    shapes_used = {
        pattern
        for kind in KINDS.values()
        for pattern in _patterns(kind.model_json_schema(by_alias=True)["$defs"])
    }
    assert shapes_used <= shapes.SENTENCES.keys()


def _patterns(value: Any) -> set[str]:
    if isinstance(value, list):
        return {found for each in value for found in _patterns(each)}
    if not isinstance(value, dict):
        return set()
    own = {value["pattern"]} if isinstance(value.get("pattern"), str) else set()
    return (
        own
        | {*value.get("patternProperties", ())}
        | {found for each in value.values() for found in _patterns(each)}
    )


def test_importing_the_nouns_imports_nothing_that_does_io() -> None:
    program = """
import sys
import pydantic, pydantic.main, pydantic.types, pydantic.fields, yaml
pydantic.create_model("Warm", x=(int, ...))
before = set(sys.modules)
import toolkeeper.resources.kinds, toolkeeper.resources.parse, toolkeeper.resources.reasons
print(sorted({"asyncio", "socket", "subprocess", "httpx", "docker"} & (set(sys.modules) - before)))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"
