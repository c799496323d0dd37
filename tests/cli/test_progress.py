"""What `up` shows of a server at one moment."""

from __future__ import annotations

import json

import pytest

from toolkeeper.cli.display import display, summary
from toolkeeper.cli.output import age, table
from toolkeeper.cli.progress import document, hopeless, lines
from toolkeeper.clock import SystemClock
from toolkeeper.resources.conditions import condition
from toolkeeper.resources.mcpserver import MCPServer, MCPServerStatus
from toolkeeper.testing.builders import make_container, make_server


def with_status(server: MCPServer, **status: object) -> MCPServer:
    generation = server.metadata.generation
    return server.model_copy(
        update={"status": MCPServerStatus.model_validate({"observed_generation": generation, **status})}
    )


def test_a_server_nobody_looked_at_is_waiting() -> None:
    (line,) = lines([make_server()], [])
    assert (line.mark, line.state) == ("busy", "waiting")


def test_work_on_a_container_is_shown_with_its_progress() -> None:
    server = make_server()
    working = make_container(server, state="pulling", progress="pulling 43 %")
    (line,) = lines([server], [working])
    assert (line.state, line.detail) == ("pulling", "43 %")


def test_a_ready_server_shows_endpoint_and_tools() -> None:
    server = with_status(
        make_server(),
        conditions=(condition("Ready", True, "Available"),),
        endpoint="http://10.0.0.1:8000/mcp",
        tools=("a", "b"),
    )
    (line,) = lines([server], [])
    assert line.mark == "ready"
    assert line.detail == "http://10.0.0.1:8000/mcp  2 tools: a, b"
    assert summary([server]).startswith("1 of 1 servers ready")


def test_a_stalled_server_shows_why() -> None:
    stalled = condition("Stalled", True, "ImageNotFound", "no such image")
    server = with_status(make_server(), conditions=(condition("Ready", False, "ImageNotFound"), stalled))
    (line,) = lines([server], [])
    assert (line.mark, line.state, line.detail) == ("failed", "ImageNotFound", "no such image")


def test_a_version_that_failed_is_not_ready_because_the_one_before_still_serves() -> None:
    conditions = (
        condition("Ready", True, "PreviousVersion", "the previous version serves"),
        condition("Stalled", True, "RolloutFailed", "no such image"),
    )
    server = with_status(make_server(), conditions=conditions)
    (line,) = lines([server], [])
    assert (line.mark, line.state) == ("failed", "RolloutFailed")
    assert line.detail == "no such image; the previous version serves"
    assert summary([server]).startswith("0 of 1 servers ready")
    assert document([server])["ready"] is False


def test_nobody_waits_for_servers_that_wait_for_somebody() -> None:
    there = with_status(make_server("there"), conditions=(condition("Ready", True, "Available"),))
    stalled = with_status(
        make_server("stalled"),
        conditions=(condition("Ready", False, "ImageNotFound"), condition("Stalled", True, "ImageNotFound")),
    )
    starting = with_status(make_server("starting"), conditions=(condition("Ready", False, "Starting"),))
    assert hopeless([there, stalled])
    assert not hopeless([there, stalled, starting])
    assert not hopeless([there])
    assert not hopeless([])


def test_nobody_waits_for_a_toolbox_or_a_secret_that_no_file_declares() -> None:
    for type in ("Placed", "SecretsResolved"):
        lacking = (
            condition("Ready", False, "X"),
            condition("Reconciling", True, "X"),
            condition(type, False, "X"),
        )
        assert hopeless([with_status(make_server(), conditions=lacking)])


def test_servers_of_one_name_are_told_apart_by_their_namespaces() -> None:
    both = [make_server("time", namespace="a"), make_server("time", namespace="b")]
    assert [each.name for each in lines(both, [])] == ["a/time", "b/time"]
    assert "  b/time  waiting" in summary(both)


def test_the_summary_says_why_a_server_is_not_ready() -> None:
    stalled = condition("Stalled", True, "ImageNotFound", "no such image")
    server = with_status(make_server(), conditions=(condition("Ready", False, "ImageNotFound"), stalled))
    assert "ImageNotFound  no such image" in summary([server])
    (told,) = json.loads(json.dumps(document([server])))["servers"]
    assert (told["state"], told["message"]) == ("ImageNotFound", "no such image")


def test_what_is_on_its_way_is_said_in_words() -> None:
    server = with_status(
        make_server(), conditions=(condition("Ready", False, "WaitingForSurge", "a moment"),)
    )
    (line,) = lines([server], [])
    assert (line.mark, line.state) == ("busy", "waiting for surge")


def test_a_table_is_as_wide_as_it_must_be() -> None:
    assert table(("A", "B"), [("long", "x")]) == "A      B\nlong   x"


def test_an_age_has_one_unit() -> None:
    now = SystemClock().now()
    assert age(None, now) == "-"
    assert age(now, now) == "0s"


def test_a_log_says_once_that_a_server_is_gone(capsys: pytest.CaptureFixture[str]) -> None:
    shown = display(quiet=False)
    shown.draw(lines([make_server()], []), ["a.yaml:1: bad"])
    shown.draw([], ["a.yaml:1: bad"])
    shown.draw([], ["a.yaml:1: bad"])
    assert capsys.readouterr().out == "◌ time  waiting\n✗ a.yaml:1: bad\n○ time  gone\n"
