"""A thousand broken manifests, each between two good ones: a sentence with line and field, and the neighbours stay."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generated import examples
from resources.mutations import SAID, broken
from toolkeeper.resources.parse import parse_text

BEFORE = "apiVersion: toolkeeper.dev/v1alpha1\nkind: Toolbox\nmetadata: {name: before}\nspec: {endpoint: 'https://a'}\n"
AFTER = BEFORE.replace("before", "after")
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_broken_manifest_is_told_with_line_and_field_and_hurts_nobody_else(seed: int) -> None:
    rng = random.Random(seed)
    seen = set()
    for _ in range(100):
        name, text = broken(rng)
        seen.add(name)
        whole = f"{BEFORE}---\n{text}---\n{AFTER}".encode("utf-8", "surrogateescape")
        parsed = parse_text(whole, "f.yaml")
        assert [each.metadata.name for each in parsed.resources] == ["before", "after"], (name, text)
        assert parsed.problems, (name, text)
        for problem in parsed.problems:
            assert 6 <= problem.line <= 6 + text.count("\n"), (name, str(problem), text)
            assert re.fullmatch(r"f\.yaml:\d+: [^\n]{5,700}", str(problem)), (name, str(problem))
            assert not re.search(r"Input should|pydantic|Traceback|<class|Error", str(problem)), str(problem)
            if name in {each.__name__ for each in SAID} and name != "missing_part":
                assert problem.field or problem.message.startswith("and "), (name, str(problem), text)
    assert len(seen) > 25


@given(st.one_of(st.text(), st.binary(), st.text("-:[]{}&*!|>'\"%@`,?# \n\tab01<~", max_size=200)))
@settings(max_examples=examples(400), deadline=None)
def test_never_raises_whatever_the_text(text: str | bytes) -> None:
    for problem in parse_text(text, "f").problems:
        assert problem.line >= 1
        assert str(problem)


@given(st.data())
@settings(max_examples=examples(300), deadline=None)
def test_never_raises_whatever_happens_to_a_manifest_on_its_way(data: st.DataObject) -> None:
    traps = (Path(__file__).parent / "manifests" / "traps.yaml").read_bytes()
    content = bytearray(traps)
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.integers(0, 2)):
            case 0:
                content[place] = data.draw(st.integers(0, 255))
            case 1:
                del content[place : place + data.draw(st.integers(1, 200))]
            case _:
                content[place:place] = content[place : place + data.draw(st.integers(1, 200))]
        if not content:
            return
    for problem in parse_text(bytes(content), "f").problems:
        assert 1 <= problem.line <= content.count(b"\n") + content.count(b"\r") + 2
