"""Which rollouts stay on record."""

from __future__ import annotations

from toolkeeper.planning.history import KEPT, extended, record
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
