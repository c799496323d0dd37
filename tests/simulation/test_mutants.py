"""The laws are watched: an operator that breaks one of them does not get through a hundred runs."""

from __future__ import annotations

import pytest

from simulation import schedule
from simulation.mutants import MUTANTS
from simulation.play import play

RUNS = 100
EVERY_LAW = {1, 2, 3, 4, 5, 6, 7, 10, 11, 12}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_operator_is_caught(name: str) -> None:
    mutant = MUTANTS[name]
    for seed in range(RUNS):
        finding = play(schedule.draw(seed), mutant.subject)
        if any(violation.law in mutant.laws for violation in finding.violations):
            return
    pytest.fail(f"an operator that {name} was not caught within {RUNS} runs")


def test_every_law_has_an_operator_that_breaks_it() -> None:
    assert set().union(*(mutant.laws for mutant in MUTANTS.values())) >= EVERY_LAW
