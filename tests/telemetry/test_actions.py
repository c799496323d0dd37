from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from toolkeeper.telemetry.actions import Action, Logged
from toolkeeper.telemetry.logs import Silent

ACTION = Action(
    at=datetime(2026, 1, 1, tzinfo=UTC),
    action="create",
    kind="MCPServer",
    namespace="default",
    name="time",
    because="it is wanted and not there",
    toolbox="default/box",
    container="tk_test_default_time_0123abcd",
)


class Kept(Silent):
    def __init__(self) -> None:
        self.records: list[tuple[str, str, dict[str, Any]]] = []

    def info(self, event: str, /, **keys: Any) -> None:
        self.records.append(("info", event, keys))

    def warning(self, event: str, /, **keys: Any) -> None:
        self.records.append(("warning", event, keys))


def test_an_action_is_logged_with_who_did_what_and_why_and_handed_on() -> None:
    log, kept = Kept(), list[Action]()
    Logged(log, kept.append).record(ACTION)
    ((level, event, keys),) = log.records
    assert (level, event) == ("info", "action")
    said = {"actor": "operator", "action": "create", "because": ACTION.because, "outcome": "accepted"}
    assert said.items() <= keys.items()
    assert kept == [ACTION]


def test_an_action_that_was_not_accepted_is_a_warning() -> None:
    log = Kept()
    Logged(log).record(replace(ACTION, outcome="refused", detail="no room"))
    assert log.records[0][0] == "warning"
    assert log.records[0][2]["detail"] == "no room"
