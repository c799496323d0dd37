"""Which rollouts stay on record."""

from __future__ import annotations

import pytest

from toolkeeper.planning.history import KEPT, ROOM, extended, record
from toolkeeper.resources.mcpserver import RolloutRecord
from toolkeeper.testing.builders import make_server


def _record(name: str, *, good: bool = False) -> RolloutRecord:
    return RolloutRecord(hash=name, outcome="Succeeded" if good else "RolledBack")


def _names(history: tuple[RolloutRecord, ...]) -> str:
    return "".join(each.hash for each in history)


def test_the_oldest_record_makes_room() -> None:
    history: tuple[RolloutRecord, ...] = ()
    for name in "abcdefg":
        history = extended(history, _record(name, good=True))
    assert _names(history) == "cdefg"


def test_failures_never_push_out_the_version_that_works() -> None:
    history: tuple[RolloutRecord, ...] = (_record("a", good=True), _record("b", good=True))
    for name in "cdefghi":
        history = extended(history, _record(name))
    assert _names(history) == "bfghi"
    assert len(history) == KEPT


def _of_size(name: str, size: int, *, good: bool = True) -> RolloutRecord:
    return _record(name, good=good).model_copy(update={"spec": {"image": "x" * size}})


@pytest.mark.parametrize(
    ("share", "kept"),
    [
        (0.1, "cdefg"),
        (0.3, "efg"),
        (0.6, "g"),
        (1.1, ""),
    ],
)
def test_the_specs_on_record_leave_room_for_the_object(share: float, kept: str) -> None:
    history: tuple[RolloutRecord, ...] = ()
    for name in "abcdefg":
        history = extended(history, _of_size(name, int(share * ROOM)))
    assert _names(history) == "cdefg"
    assert "".join(each.hash for each in history if each.spec) == kept


def test_the_version_to_go_back_to_is_kept_before_failures_after_it() -> None:
    history: tuple[RolloutRecord, ...] = ()
    for name, good in (("a", True), ("b", False), ("c", False)):
        history = extended(history, _of_size(name, int(0.4 * ROOM), good=good))
    assert [each.hash for each in history if each.spec] == ["a", "c"]


def test_without_news_it_stays_the_same() -> None:
    history = (_record("a"),)
    assert extended(history, None) is history


def test_a_revision_keeps_its_number_when_older_ones_have_gone() -> None:
    history: tuple[RolloutRecord, ...] = ()
    for name in "abcdefg":
        history = extended(history, _record(name, good=name == "a"))
    assert [(each.hash, each.revision) for each in history] == [
        ("a", 1),
        ("d", 4),
        ("e", 5),
        ("f", 6),
        ("g", 7),
    ]


def test_a_record_keeps_the_spec_as_it_was_declared() -> None:
    made = record(make_server(image="img:1", toolboxRef="box", restartPolicy="Always"), "v1:1", "Succeeded")

    assert made is not None
    # A default that somebody wrote down is kept: that of another release may differ.
    assert made.spec == {"image": "img:1", "toolboxRef": "box", "restartPolicy": "Always"}
