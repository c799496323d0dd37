"""What `describe` says of a server whose versions follow each other."""

from __future__ import annotations

import re
from datetime import timedelta

from toolkeeper.cli.views import describe
from toolkeeper.planning.history import extended, record
from toolkeeper.resources.conditions import Condition
from toolkeeper.resources.mcpserver import MCPServer, RolloutRecord
from toolkeeper.resources.meta import RESTARTED_AT
from toolkeeper.resources.reasons import remedy
from toolkeeper.testing.builders import NOW, make_server

OLD, NEW, LAST = (f"v1:sha256:{digit * 64}" for digit in "123")


def _ended(server: MCPServer, spec_hash: str, outcome: str, minutes: int) -> RolloutRecord:
    done = record(server, spec_hash, "Succeeded")
    assert done is not None
    return done.model_copy(update={"outcome": outcome, "finished_at": NOW - timedelta(minutes=minutes)})


def _described(server: MCPServer, *history: RolloutRecord, running: str, wanted: str) -> str:
    numbered: tuple[RolloutRecord, ...] = ()
    for each in history:
        numbered = extended(numbered, each)
    status = server.status.model_copy(
        update={"history": numbered, "running_hash": running, "wanted_hash": wanted}
    )
    return describe(server.model_copy(update={"status": status}), (), NOW, remedy)


def test_the_history_says_what_each_rollout_changed() -> None:
    first, second = make_server(image="acme/x:1"), make_server(image="acme/x:2")
    asked = make_server(image="acme/x:2", annotations={RESTARTED_AT: "tuesday"})
    text = _described(
        asked,
        _ended(first, OLD, "Succeeded", 30),
        _ended(second, NEW, "Succeeded", 20),
        _ended(asked, LAST, "Succeeded", 10),
        running=LAST,
        wanted=LAST,
    )
    rows = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines() if "Succeeded" in line]
    assert [row[0] for row in rows] == ["3", "2", "1"]
    assert [row[1] for row in rows] == ["10m", "20m", "30m"]
    assert [row[-1] for row in rows] == ["a restart was requested", "image: acme/x:1 → acme/x:2", "-"]
    assert "Edited:" not in text


def test_an_edit_that_does_not_run_yet_is_shown_beside_the_hashes() -> None:
    first, second = make_server(image="acme/x:1"), make_server(image="acme/x:2", port=9000)
    text = _described(second, _ended(first, OLD, "Succeeded", 30), running=OLD, wanted=NEW)
    assert "Edited:       image: acme/x:1 → acme/x:2; port: not set → 9000" in text


def test_what_was_said_of_one_condition_is_not_said_again_of_the_next() -> None:
    message = (
        "web-key/token: there is no secret default/web-key: declare a v1 Secret web-key in namespace default"
    )
    conditions = tuple(
        Condition(
            type=name,
            status="True" if name == "Reconciling" else "False",
            reason="SecretMissing",
            message=message,
            last_transition_time=NOW,
            observed_generation=1,
        )
        for name in ("SecretsResolved", "Deployed", "Reconciling")
    )
    server = make_server()
    server = server.model_copy(update={"status": server.status.model_copy(update={"conditions": conditions})})
    text = describe(server, (), NOW, remedy)
    assert text.count(message) == 1
    assert text.count("→") == 1
    assert text.count("as SecretsResolved says") == 2


def test_after_a_rollback_nobody_is_told_that_the_version_is_tried_again() -> None:
    rolled_back = Condition(
        type="RolledBack", status="True", reason="ImageNotFound", message="no such image",
        last_transition_time=NOW, observed_generation=1,
    )  # fmt: skip
    server = make_server()
    server = server.model_copy(
        update={"status": server.status.model_copy(update={"conditions": (rolled_back,)})}
    )
    assert f"→ {remedy('RolledBack')}" in describe(server, (), NOW, remedy)
    assert "five minutes" not in describe(server, (), NOW, remedy)


def test_where_it_is_declared_stands_with_the_facts_not_below_the_events() -> None:
    text = describe(make_server(), (), NOW, remedy, ["Declared in:  time.yaml"])
    assert text.index("Declared in:") < text.index("Conditions:")
