"""Manifests in, resources and problems out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from toolkeeper.resources.kinds import KINDS
from toolkeeper.resources.meta import Key
from toolkeeper.resources.parse import FREE_MAPS, Parsed, parse_text
from toolkeeper.resources.secret import SecretDocument

HERE = Path(__file__).parent
GOOD = """\
apiVersion: toolkeeper.dev/v1alpha1
kind: MCPServer
metadata: {name: NAME}
spec: {toolboxRef: local, image: a}
"""


def good(name: str) -> str:
    """A document that declares MCPServer `name`."""
    return GOOD.replace("NAME", name)


def told(text: str | bytes) -> list[str]:
    """What is told about a text."""
    return [str(problem) for problem in parse_text(text, "f.yaml").problems]


def names(parsed: Parsed) -> list[str]:
    """The names that were declared."""
    return [each.metadata.name for each in parsed.resources]


def test_tells_each_known_trap_in_one_sentence_with_line_and_field() -> None:
    text = (HERE / "manifests" / "traps.yaml").read_bytes()
    parsed = parse_text(text, "traps.yaml")
    golden = (HERE / "golden" / "traps.txt").read_text(encoding="utf-8")
    assert "".join(f"{problem}\n" for problem in parsed.problems) == golden
    assert names(parsed) == ["good"]


def test_a_pointer_of_git_lfs_is_named_as_one() -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    [problem] = parse_text(pointer, "f.yaml").problems
    assert str(problem) == "f.yaml:1: is a pointer of Git LFS; keep manifests in Git itself"


def test_a_field_of_elsewhere_is_named_beside_what_a_small_map_knows() -> None:
    spec = "{toolboxRef: local, image: a, transport: stdio, env: [{name: A, secretRef: {name: s, key: k}}]}"
    text = f"apiVersion: toolkeeper.dev/v1alpha1\nkind: MCPServer\nmetadata: {{name: one}}\nspec: {spec}\n"
    [problem] = parse_text(text, "f.yaml").problems
    assert problem.message == "unknown field"
    assert str(problem).endswith("it belongs to spec.files; known here: name, value, valueFrom")


def test_reads_the_documents_beside_a_broken_one() -> None:
    for broken in ("a: [", "a: 'b", "\tx: 1", "kind: MCPServer", "- 1", "\0", "%nonsense", "a: *b"):
        parsed = parse_text(f"{good('one')}---\n{broken}\n---\n{good('two')}", "f.yaml")
        assert names(parsed) == ["one", "two"], broken
        assert len(parsed.problems) == 1
        assert parsed.problems[0].line in (6, 7)


def test_counts_lines_through_documents_comments_and_directives() -> None:
    text = f"# first\n%YAML 1.2\n---\n{good('one')}...\n\n# next\n---\n{good('two')}"
    assert [(each.resource.metadata.name, each.line) for each in parse_text(text, "f").declared] == [
        ("one", 4),
        ("two", 12),
    ]


def test_reads_json_with_tabs_and_surrogate_pairs() -> None:
    document = {
        "apiVersion": "toolkeeper.dev/v1alpha1",
        "kind": "MCPServer",
        "metadata": {"name": "a", "annotations": {"note": "🙂"}},
        "spec": {"toolboxRef": "local", "image": "a"},
    }
    parsed = parse_text(json.dumps(document, indent="\t"), "f.json")
    assert parsed.problems == ()
    assert parsed.resources[0].metadata.annotations == {"note": "🙂"}


def test_reads_windows_line_ends_and_a_byte_order_mark() -> None:
    text = ("\ufeff" + good("one") + "---\n" + good("two")).replace("\n", "\r\n")
    assert names(parse_text(text.encode(), "f.yaml")) == ["one", "two"]


def test_skips_what_only_a_store_can_know() -> None:
    text = good("a").replace(
        "{name: a}",
        "{name: a, uid: u, generation: 7, resourceVersion: '9', finalizers: [x], managedFields: []}",
    )
    parsed = parse_text(text + "status: {phase: nonsense, conditions: 5}\n", "f.yaml")
    assert parsed.problems == ()
    assert parsed.resources == parse_text(good("a"), "f.yaml").resources


def test_takes_an_empty_field_for_one_that_is_not_set_but_not_an_empty_label() -> None:
    assert told(good("a") + "  \n") == []
    assert told(good("a").replace("image: a", "image: a, args: , port: ~, security: {capAdd: null}")) == []
    assert told(good("a").replace("toolboxRef: local", "toolboxSelector: {zone: }")) == [
        "f.yaml:4: spec.toolboxSelector.zone: is empty; write a value, or remove it"
    ]


def test_knows_every_map_with_keys_of_its_authors_choice() -> None:
    found = {name for kind in KINDS.values() for name in _free_maps(kind)} | _free_maps(SecretDocument)
    assert found == FREE_MAPS


def _free_maps(model: type[BaseModel]) -> set[str]:
    definitions = model.model_json_schema(by_alias=True)
    models = [definitions, *definitions.pop("$defs").values()]
    written = [
        each
        for each in models
        if "observedGeneration" not in each["properties"] and each["title"] != "RolloutRecord"
    ]
    return {
        name
        for each in written
        for name, field in each["properties"].items()
        if re.search(r"'(patternProperties|additionalProperties)': {", str(field))
    }


def test_accepts_anchors_and_merges_within_bounds() -> None:
    text = good("a").replace(
        "{toolboxRef: local, image: a}", "{<<: [&x {toolboxRef: local}, {image: b}], image: a}"
    )
    parsed = parse_text(text, "f.yaml")
    assert parsed.problems == ()
    assert parsed.resources == parse_text(good("a"), "f.yaml").resources


def test_points_into_what_an_alias_stands_for() -> None:
    text = (
        good("a")
        .replace("spec:", "x: &net\n  egress: 5\nspec:")
        .replace("image: a", "image: a, network: *net")
    )
    assert told(text) == [
        "f.yaml:4: x: unknown field; known here: apiVersion, kind, metadata, spec, status",
        "f.yaml:5: spec.network.egress: must be a map, not a number",
    ]


def test_keeps_the_key_of_a_broken_manifest_so_that_its_last_good_content_can_stay() -> None:
    text = good("a").replace("image", "imagee").replace("{name: a}", "{name: a, namespace: team}")
    problem = parse_text(text, "f.yaml").problems[0]
    assert problem.key == Key("MCPServer", "team", "a")
    assert (problem.line, problem.column, problem.field) == (4, 27, "spec.imagee")


def test_refuses_the_second_declaration_of_the_same_object() -> None:
    parsed = parse_text(f"{good('a')}---\n{good('a')}", "f.yaml")
    assert names(parsed) == ["a"]
    assert str(parsed.problems[0]) == (
        "f.yaml:6: MCPServer/default/a is declared twice, first in line 1; remove one of them"
    )


def test_reads_lists_of_kubectl() -> None:
    items = ", ".join(
        f"{{apiVersion: toolkeeper.dev/v1alpha1, kind: Toolbox, metadata: {{name: {name}}}, spec: {spec}}}"
        for name, spec in (("a", "{endpoint: 'https://a'}"), ("b", "{}"), ("c", "{endpoint: 'https://c'}"))
    )
    for head in ("apiVersion: v1\nkind: List\n", "apiVersion: toolkeeper.dev/v1alpha1\nkind: ToolboxList\n"):
        parsed = parse_text(f"{head}metadata: {{}}\nitems: [{items}]\n", "f.yaml")
        assert names(parsed) == ["a", "c"]
        assert [str(each) for each in parsed.problems] == ["f.yaml:4: items[1].spec.endpoint: is missing"]


def test_leaves_documents_of_other_tools_alone_and_says_so() -> None:
    text = (
        "apiVersion: apps/v1\nkind: Deployment\n---\napiVersion: toolhive.stacklok.dev/v1\nkind: MCPServer\n"
    )
    parsed = parse_text(text, "f.yaml")
    assert (parsed.resources, parsed.problems) == ((), ())
    assert parsed.ignored == ("f.yaml:1: apps/v1 Deployment", "f.yaml:4: toolhive.stacklok.dev/v1 MCPServer")


def test_holds_secrets_without_ever_showing_them() -> None:
    text = (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: slack, namespace: team}\ntype: Opaque\n"
        "data: {a: aGVsbG8=, b: |\n  aGVs\n  bG8=\n}\nstringData: {b: s3cret-value}\n"
    ).replace("b: |\n  aGVs\n  bG8=\n", 'b: "aGVs\\nbG8="')
    parsed = parse_text(text, "f.yaml")
    assert parsed.problems == ()
    assert parsed.secrets[0].values == {"a": "hello", "b": "s3cret-value"}
    assert parsed.secrets[0].metadata.namespace == "team"
    assert "s3cret" not in repr(parsed)
    assert "aGVs" not in repr(parsed.secrets)


@pytest.mark.parametrize(
    "value", ["stringData: {a: 84512364}", "stringData: {a: [s3cret]}", "data: {a: s3cret!}", "s3cret: 5"]
)
def test_never_repeats_a_value_in_a_problem(value: str) -> None:
    problems = told(f"apiVersion: v1\nkind: Secret\nmetadata: {{name: a}}\n{value}\n")
    assert len(problems) == 1
    assert "84512364" not in problems[0]
    assert "s3cret" not in problems[0].replace("s3cret: unknown field", "")


def test_tells_at_most_twenty_faults_of_one_document_and_counts_the_rest() -> None:
    wrong = ", ".join(f"zz{number}: 1" for number in range(25))
    problems = told(good("a").replace("image: a", f"image: a, {wrong}"))
    assert len(problems) == 21
    assert problems[-1] == "f.yaml:1: and 5 more faults"


def test_refuses_what_is_too_much_without_reading_it() -> None:
    bomb = "a0: &a0 [xxxxxxxxxxxxxxxx]\n" + "".join(
        f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
    )
    heavy = "a: &a '" + "x" * 500_000 + "'\nb: [" + "*a, " * 1000 + "]\n"
    for text, sentence in (
        (bomb, "is too large with its aliases written out"),
        (heavy, "is too large with its aliases written out"),
        ("a: &a [*a]", "*a contains itself"),
        ("[" * 500_000, "is nested deeper than 40 levels"),
        ("- " * 400_000, "is nested deeper than 40 levels"),
        ("x" * 1_100_000, "the text has 1100000 bytes, more than 1 MiB; split it"),
        ("---\n" * 20_000, "the text has more than 10000 documents; split it"),
    ):
        problems = told(text)
        assert len(problems) == 1
        assert sentence in problems[0]


def test_reads_an_empty_text_as_nothing() -> None:
    for text in ("", "\n\n", "# nothing\n", "---\n---\n", "...\n", b"", "\ufeff", "null"):
        assert parse_text(text, "f.yaml") == Parsed()


def sized(cpu: str) -> str:
    """A document that declares a server with that much of CPUs."""
    return good("time").replace("image: a", f"image: a, resources: {{cpu: {cpu}}}")


def test_a_quantity_is_the_same_as_a_number_and_as_text() -> None:
    assert parse_text(sized("2"), "f").resources == parse_text(sized('"2"'), "f").resources != ()


@pytest.mark.parametrize("cpu", ["0.5", "2.0", "1e3", "0x10", "010", "1_000"])
def test_a_quantity_that_is_no_plain_whole_number_must_be_quoted(cpu: str) -> None:
    assert told(sized(cpu)) == [
        "f.yaml:4: spec.resources.cpu: must be a whole number or text; put it in quotes"
    ]
