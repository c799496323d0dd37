"""The table of reasons: whole, readable, and used."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkeeper.resources.reasons import REASONS, UNKNOWN, remedy, table

SOURCE = Path(__file__).parents[2] / "operator" / "toolkeeper"
WORD = re.compile(r"[A-Z][a-z]+[A-Za-z]*|[A-Z]{2,}[A-Za-z]+")
POSITIONS = {
    "Said": 2,
    "Verdict": 1,
    "Placement": 1,
    "condition": 2,
    "Unreachable": 0,
    "Problem": 0,
    "fault": 1,
}
"""Calls that take a reason by position."""
NO_ANSWER = {"NoSuchPath", "TooManyRequests", "Unexpected"}
"""Words of a node that its client takes for no answer at all."""
AREAS = ("planning", "node", "probe", "dtma", "reconcile", "stores")


def test_the_table_is_the_one_that_was_agreed_upon() -> None:
    golden = Path(__file__).parent / "golden" / "reasons.txt"
    assert table() == golden.read_text(encoding="utf-8")


def test_every_remedy_is_one_sentence_that_stands_alone() -> None:
    for name, reason in REASONS.items():
        assert re.fullmatch(r"[A-Z][^.]*(\.[^ .][^.]*)*\.", reason.remedy), name
        assert len(reason.remedy) <= 110, name


def test_what_needs_an_edit_always_says_which() -> None:
    idle = [
        name
        for name, row in REASONS.items()
        if row.severity == "terminal" and row.remedy.startswith("Nothing")
    ]
    assert idle == []


def test_a_reason_of_a_newer_node_still_has_a_remedy() -> None:
    assert remedy("InventedTomorrow") == UNKNOWN


@pytest.mark.parametrize("area", AREAS)
def test_every_reason_that_is_given_anywhere_is_in_the_table(area: str) -> None:
    used = {
        reason: place for file in sorted((SOURCE / area).rglob("*.py")) for reason, place in _reasons(file)
    }
    assert {reason: place for reason, place in used.items() if reason not in {*REASONS, *NO_ANSWER}} == {}


def test_the_search_for_reasons_finds_them() -> None:
    found = {reason for file in (SOURCE / "planning").rglob("*.py") for reason, _ in _reasons(file)}
    assert {"Deleting", "SourceUnsupported", "NoToolboxMatches", "OOMKilled"} <= found


def _reasons(file: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        for value in _given(node):
            for word in _words(value):
                yield word, f"{file.relative_to(SOURCE)}:{value.lineno}"


def _given(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions in which a node gives a reason."""
    if isinstance(node, ast.Call):
        yield from (each.value for each in node.keywords if each.arg in {"reason", "error_reason"})
        position = POSITIONS.get(getattr(node.func, "id", getattr(node.func, "attr", "")))
        if position is not None and len(node.args) > position:
            yield node.args[position]
    elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "reason":
        yield node.value
    elif isinstance(node, ast.Return) and isinstance(node.value, ast.Tuple):
        # (reason, message), or (status, reason, message)
        yield from node.value.elts[: len(node.value.elts) - 1]


def _words(value: ast.expr) -> Iterator[str]:
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        if WORD.fullmatch(value.value) and value.value not in {
            "True",
            "False",
            "Unknown",
            "Normal",
            "Warning",
        }:
            yield value.value
    elif isinstance(value, ast.IfExp):
        yield from (*_words(value.body), *_words(value.orelse))
    elif isinstance(value, ast.BoolOp):
        yield from (word for each in value.values for word in _words(each))
