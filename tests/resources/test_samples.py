"""What the models accept and refuse, by the same table that a real API server is held to."""

from __future__ import annotations

import json

import jsonschema_rs
import pytest

from resources.samples import Sample, samples
from toolkeeper.resources.crds import editor_schema
from toolkeeper.resources.kinds import KINDS
from toolkeeper.resources.parse import parse_text
from toolkeeper.resources.rules import Ruled

SAMPLES = list(samples())
ACCEPTED = [each for each in SAMPLES if not each.because]
REFUSED = [each for each in SAMPLES if each.because]


@pytest.mark.parametrize("sample", ACCEPTED, ids=lambda sample: sample.id)
def test_accepts_what_the_table_accepts(sample: Sample) -> None:
    assert parse_text(json.dumps(sample.manifest), "sample").problems == ()


@pytest.mark.parametrize("sample", REFUSED, ids=lambda sample: sample.id)
def test_refuses_what_the_table_refuses_and_says_why(sample: Sample) -> None:
    parsed = parse_text(json.dumps(sample.manifest), "sample")
    assert parsed.declared == ()
    assert any(sample.because in str(problem) for problem in parsed.problems), parsed.problems


@pytest.fixture(scope="module")
def editors() -> dict[str, jsonschema_rs.Validator]:
    """What an editor makes of each kind."""
    return {kind: jsonschema_rs.validator_for(editor_schema(kind)) for kind in KINDS}


@pytest.mark.parametrize("sample", ACCEPTED, ids=lambda sample: sample.id)
def test_the_schema_for_editors_accepts_whatever_the_models_accept(
    sample: Sample, editors: dict[str, jsonschema_rs.Validator]
) -> None:
    editors[sample.manifest["kind"]].validate(sample.manifest)


def test_every_rule_between_fields_has_a_sample_that_breaks_it() -> None:
    told = "\n".join(
        str(problem)
        for sample in REFUSED
        for problem in parse_text(json.dumps(sample.manifest), "sample").problems
    )
    assert [says for says in _rule_sentences() if says not in told] == []


def _rule_sentences() -> list[str]:
    return sorted({rule.says for model in _below(Ruled) for rule in model.RULES})


def _below(model: type[Ruled]) -> list[type[Ruled]]:
    return [each for child in model.__subclasses__() for each in (child, *_below(child))]
