"""The real operator in worlds where things go wrong: whatever happens, the laws hold and everything ends as declared.

Each run follows from its seed. `TOOLKEEPER_SEED=<seed> pytest tests/simulation -k replays` plays one again.
"""

from __future__ import annotations

import os

import pytest

from simulation import schedule
from simulation.play import play
from simulation.schedule import Schedule
from simulation.world import Finding

RUNS_PER_TEST = 20
RANDOM_RUNS = 560
SWEPT = (2, 3, 7, 8)
"""Seeds of calm runs, with 51 to 65 side effects each, that are interrupted at every one of them."""
MOST_EFFECTS = 150


def _holds(finding: Finding, seed: str) -> None:
    again = f"TOOLKEEPER_SEED={seed} pytest tests/simulation -k replays"
    assert not finding.violations, f"play it again: {again}\n{finding}"


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, RANDOM_RUNS, RUNS_PER_TEST))
def test_the_laws_hold_whatever_happens(first: int) -> None:
    for seed in range(first, first + RUNS_PER_TEST):
        _holds(play(schedule.draw(seed)), str(seed))


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("seed", SWEPT)
def test_a_crash_around_any_side_effect_ends_the_same(seed: int, after: bool) -> None:
    for effect in range(MOST_EFFECTS):
        finding = play(schedule.crash(seed, effect, after=after))
        _holds(finding, f"{seed}:{'after' if after else 'before'}:{effect}")
        if finding.processes == 1:
            return  # there are fewer side effects than that
    pytest.fail(f"more than {MOST_EFFECTS} side effects in a calm run")


def test_a_seed_replays_the_same_run() -> None:
    assert play(schedule.draw(7)).trace == play(schedule.draw(7)).trace


@pytest.mark.skipif(
    "TOOLKEEPER_SEED" not in os.environ, reason="set TOOLKEEPER_SEED to the seed of a failing run"
)
def test_replays_one_seed() -> None:
    seed = os.environ["TOOLKEEPER_SEED"]
    _holds(play(_named(seed)), seed)


def _named(seed: str) -> Schedule:
    if ":" not in seed:
        return schedule.draw(int(seed))
    number, when, effect = seed.split(":")
    return schedule.crash(int(number), int(effect), after=when == "after")
