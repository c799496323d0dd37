"""The SDK comes in without its server side, and still is all there for whoever asks."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkeeper.probe.sdk import defer


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A package whose own file needs its heavy half, beside a light one that does not."""
    name = "gathering"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from gathering.heavy import weight\nfrom gathering.light import word\n"
    )
    (folder / "heavy.py").write_text("weight = 1\n")
    (folder / "light.py").write_text("word = 'light'\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    for module in [each for each in sys.modules if each.split(".")[0] == name]:
        del sys.modules[module]


def test_a_module_of_a_deferred_package_is_imported_without_its_siblings(package: str) -> None:
    defer(package)
    assert importlib.import_module(f"{package}.light").word == "light"
    assert f"{package}.heavy" not in sys.modules


def test_a_deferred_package_answers_for_its_names_as_ever(package: str) -> None:
    defer(package)
    light = importlib.import_module(f"{package}.light")
    whole = importlib.import_module(package)
    assert (whole.weight, whole.word, whole.light) == (1, "light", light)
    with pytest.raises(AttributeError, match="neither"):
        _ = whole.neither


def test_looking_around_runs_nothing(package: str) -> None:
    defer(package)
    assert not hasattr(sys.modules[package], "__wrapped__")
    assert f"{package}.heavy" not in sys.modules


def test_a_package_that_has_been_imported_stays_as_it_is(package: str) -> None:
    whole = importlib.import_module(package)
    defer(package)
    assert sys.modules[package] is whole


def test_a_package_that_is_missing_is_left_to_its_import_to_report() -> None:
    defer("there_is_no_such_package")
    assert "there_is_no_such_package" not in sys.modules
