"""Reading many files again and again."""

from __future__ import annotations

from pathlib import Path

import pytest

from stores.conftest import manifest, server, write
from toolkeeper.resources.mcpserver import MCPServer
from toolkeeper.stores.manifests import Contents, Reader, contents_of

COUNT = 100
"""Manifests, in more than one folder."""
LATER = 1e12
"""So much later than any file was written that its stamp can be trusted."""


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for number in range(COUNT):
        folder = tmp_path / f"{number // 50}"
        write(
            folder / f"s{number}.yaml",
            server(f"s{number}", args=["--verbose"], env=[{"name": "A", "value": "b"}]),
        )
    return tmp_path


def test_after_an_edit_only_the_edited_file_is_parsed(many: Path) -> None:
    parsed: list[str] = []

    def parse(text: str, source: str) -> Contents:
        parsed.append(source)
        return contents_of(text, source)

    reader = Reader(many, parse=parse)
    first = reader.read(LATER)
    assert len([each for manifest in first.manifests for each in manifest.contents.declarations]) == COUNT
    assert len(parsed) == COUNT
    assert reader.read(LATER).same_as(first)
    write(many / "1" / "s70.yaml", server("s70", image="time:2"))
    second = reader.read(LATER)
    assert parsed[COUNT:] == [str(many / "1" / "s70.yaml")]
    assert not second.same_as(first)


def test_a_file_that_is_touched_but_not_changed_is_not_parsed_again(tmp_path: Path) -> None:
    parsed: list[str] = []

    def parse(text: str, source: str) -> Contents:
        parsed.append(source)
        return contents_of(text, source)

    write(tmp_path / "time.yaml", server())
    reader = Reader(tmp_path, parse=parse)
    reader.read(LATER)
    write(tmp_path / "time.yaml", server())
    reader.read(LATER)
    assert len(parsed) == 1


def test_a_file_that_is_still_being_written_is_read_when_it_is_done(tmp_path: Path) -> None:
    file = tmp_path / "time.yaml"
    parts = [manifest(server(args=["--zone"])).removesuffix("  - --zone\n"), "  - --zone\n", "  - UTC\n", ""]

    def pause(seconds: float) -> None:
        with file.open("a") as opened:
            opened.write(parts.pop(0))

    pause(0)
    reading = Reader(tmp_path, pause=pause).read(LATER)
    (declaration,) = reading.manifests[0].contents.declarations
    assert isinstance(declaration.resource, MCPServer)
    assert declaration.resource.spec.args == ("--zone", "UTC")


def test_problems_name_file_line_and_field(tmp_path: Path) -> None:
    write(tmp_path / "good.yaml", server())
    (tmp_path / "bad.yaml").write_text(
        "apiVersion: toolkeeper.dev/v1alpha1\nkind: MCPServer\nmetadata: {name: bad}\nspec:\n  toolboxRef: here\n"
        "  imagee: time:1\n"
    )
    (problem,) = Reader(tmp_path).read(LATER).problems
    assert problem.source == f"{tmp_path}/bad.yaml:6"
    assert problem.message.startswith("spec.imagee: unknown field")
    assert problem.key == server("bad").key


def test_documents_of_other_tools_are_nobodys_problem(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n")
    assert Reader(tmp_path).read(LATER).problems == ()
