"""The golden scenarios: what is wanted and seen → what is planned and said. Every law is checked on the way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from planning import storyboard


@pytest.mark.parametrize("path", storyboard.FILES, ids=lambda path: path.stem)
def test_the_plan_and_the_status_are_as_written(path: Path) -> None:
    told, story, golden = storyboard.read(path)
    played = storyboard.play(story)
    if os.environ.get("UPDATE_GOLDEN"):
        storyboard.write(path, told, played)
    else:
        assert played == golden


def test_every_scenario_says_what_it_shows() -> None:
    titles = [storyboard.read(path)[1]["title"] for path in storyboard.FILES]
    assert len(set(titles)) == len(titles) >= 45
