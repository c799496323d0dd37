"""Manifests that are named on the command line: files, directories, standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from toolkeeper.reconcile.ports import Resource
from toolkeeper.resources.documents import LARGEST
from toolkeeper.resources.meta import Key
from toolkeeper.resources.parse import Declared, parse_text

SUFFIXES = frozenset({".yaml", ".yml", ".json"})


@dataclass(frozen=True, slots=True)
class Manifests:
    """What was read, and what could not be."""

    resources: tuple[Resource, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What was read and left out, such as documents of other tools."""


def read(files: Iterable[Path]) -> Manifests:
    """Everything that these files declare. Never raises: what is wrong is among the problems."""
    files = tuple(files)
    declared: list[Declared] = []
    problems: list[str] = []
    notes: list[str] = []
    for source, content in _contents(files):
        if content is None:
            problems.append(source)
            continue
        parsed = parse_text(content, source)
        declared += parsed.declared
        problems += map(str, parsed.problems)
        notes += (f"{each}: not ours, ignored" for each in parsed.ignored)
        if parsed.secrets:
            notes.append(
                f"{source}: Secrets are not applied; "
                "`toolkeeper describe` of the server that needs one says where it is looked for"
            )
    problems += _twice(declared)
    if files and not declared and not problems:  # a pipe whose first command failed is empty, too
        named = ", ".join("standard input" if str(each) == "-" else str(each) for each in files)
        problems.append(f"{named}: declares no MCPServer, Toolbox or AgentConnection")
    return Manifests(tuple(each.resource for each in declared), tuple(problems), tuple(notes))


def refuse(manifests: Manifests) -> None:
    """Say what is wrong, each on a line of its own, and exit 1; do nothing when all could be read."""
    for note in manifests.notes:
        click.echo(note, err=True)
    for problem in manifests.problems:
        click.echo(problem, err=True)
    if manifests.problems:
        count = len(manifests.problems)
        raise click.ClickException(f"{count} problem{'s' * (count > 1)}; nothing was done")


def _contents(files: Iterable[Path]) -> Iterator[tuple[str, bytes | None]]:
    for file in files:
        if str(file) == "-":
            yield "standard input", sys.stdin.buffer.read(LARGEST + 1)
        elif file.is_dir():
            found = [each for each in sorted(file.rglob("*")) if _is_manifest(each, file)]
            if not found:
                yield f"{file}: no manifest (*.yaml, *.yml, *.json) in it", None
            for each in found:
                yield _content(each)
        else:
            yield _content(file)


def _is_manifest(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return path.suffix in SUFFIXES and path.name != "toolkeeper.yaml" and not hidden and path.is_file()


def _content(path: Path) -> tuple[str, bytes | None]:
    try:
        with path.open("rb") as stream:
            return str(path), stream.read(LARGEST + 1)
    except OSError as exc:
        return f"{path}: {exc.strerror}", None


def _twice(declared: Iterable[Declared]) -> list[str]:
    first: dict[Key, Declared] = {}
    problems = []
    for each in declared:
        known = first.setdefault(each.resource.key, each)
        if known is not each:
            problems.append(
                f"{each.source}:{each.line}: {each.resource.key} is declared at {known.source}:{known.line} already"
            )
    return problems
