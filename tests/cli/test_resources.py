"""apply, get, describe, delete, events and the verbs, on the embedded store."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cli.conftest import SERVER, Run
from toolkeeper.cli.opening import warn_of_age
from toolkeeper.resources.mcpserver import MCPServerStatus
from toolkeeper.testing.builders import make_server
from toolkeeper.wiring.places import Place


def test_apply_says_created_then_unchanged_then_configured(
    toolkeeper: Run, manifest: Callable[..., str]
) -> None:
    assert "mcpserver/time created" in toolkeeper("apply", "-f", manifest()).output
    assert "mcpserver/time unchanged" in toolkeeper("apply", "-f", manifest()).output
    changed = manifest(image="registry.example/time:2")
    assert "mcpserver/time configured" in toolkeeper("apply", "-f", changed).output


def test_apply_reads_standard_input(toolkeeper: Run) -> None:
    done = toolkeeper("apply", "-f", "-", stdin=SERVER.format(name="piped", image="a/b:1"))
    assert done.exit_code == 0
    assert "mcpserver/piped created" in done.output


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"]
)
def test_to_apply_nothing_is_a_failure(toolkeeper: Run, text: str) -> None:
    done = toolkeeper("apply", "-f", "-", stdin=text)
    assert done.exit_code == 1
    assert "standard input: declares no MCPServer, Toolbox or AgentConnection" in done.output


def test_one_broken_manifest_and_nothing_is_applied(
    toolkeeper: Run, manifest: Callable[..., str], tmp_path: Path
) -> None:
    good = manifest("good")
    broken = tmp_path / "broken.yaml"
    broken.write_text(SERVER.format(name="broken", image="a/b:1").replace("image:", "imagee:"))

    done = toolkeeper("apply", "-f", good, "-f", str(broken))

    assert done.exit_code == 1
    assert f"{broken}:6: spec.imagee" in done.output
    assert "image" in done.output
    assert "nothing was done" in done.output
    assert json.loads(toolkeeper("get", "servers", "-o", "json").output)["items"] == []


def test_what_get_prints_can_be_applied_again(toolkeeper: Run, manifest: Callable[..., str]) -> None:
    toolkeeper("apply", "-f", manifest())
    printed = toolkeeper("get", "server", "time", "-o", "yaml").output
    assert yaml.safe_load(printed)["spec"]["image"] == "registry.example/time:1"
    assert "unchanged" in toolkeeper("apply", "-f", "-", stdin=printed).output


@pytest.mark.parametrize(
    "words", [("server", "time"), ("server/time",), ("mcp", "time"), ("mcpservers", "time")]
)
def test_a_kind_has_the_names_that_people_know(
    toolkeeper: Run, manifest: Callable[..., str], words: tuple[str, ...]
) -> None:
    toolkeeper("apply", "-f", manifest())
    assert "time" in toolkeeper("get", *words).output


def test_a_misspelt_name_is_answered_with_the_nearest(toolkeeper: Run, manifest: Callable[..., str]) -> None:
    toolkeeper("apply", "-f", manifest())
    done = toolkeeper("describe", "server", "tine")
    assert done.exit_code == 1
    assert "did you mean time?" in done.output


def test_a_misspelt_kind_is_wrong_usage(toolkeeper: Run) -> None:
    done = toolkeeper("get", "severs")
    assert done.exit_code == 2
    assert "did you mean servers?" in done.output


TOOLBOX = """\
apiVersion: toolkeeper.dev/v1alpha1
kind: Toolbox
metadata: {name: attic}
spec: {endpoint: "unix:///nowhere"}
"""


@pytest.fixture
def both(toolkeeper: Run, manifest: Callable[..., str]) -> Run:
    """`toolkeeper` on a store with a server and a toolbox."""
    toolkeeper("apply", "-f", manifest())
    toolkeeper("apply", "-f", "-", stdin=TOOLBOX)
    return toolkeeper


@pytest.mark.parametrize(
    ("kinds", "names"),
    [
        ("servers,toolboxes", ["mcpserver/time", "toolbox/attic"]),
        ("toolbox,server,tbx", ["toolbox/attic", "mcpserver/time"]),
        ("all", ["toolbox/attic", "mcpserver/time"]),
    ],
)
def test_several_kinds_are_listed_in_blocks_and_a_kind_without_anything_in_none(
    both: Run, kinds: str, names: list[str]
) -> None:
    blocks = both("get", kinds).stdout.split("\n\n")
    assert [[line.split()[0] for line in block.splitlines()] for block in blocks] == [
        ["NAME", name] for name in names
    ]
    assert both("get", kinds, "-o", "name").stdout.split() == names


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_several_kinds_are_one_list_for_programs(both: Run, output: str) -> None:
    found = yaml.safe_load(both("get", "servers,toolboxes", "-o", output).stdout)
    assert found["kind"] == "List"
    assert [each["kind"] for each in found["items"]] == ["MCPServer", "Toolbox"]
    alone = yaml.safe_load(both("get", "connections,toolboxes", "-o", output).stdout)
    assert [each["kind"] for each in alone["items"]] == ["Toolbox"]


def test_several_kinds_of_which_there_is_nothing_are_said(toolkeeper: Run) -> None:
    done = toolkeeper("get", "servers,connections", "-n", "tools")
    assert done.exit_code == 0
    assert "no MCPServer or AgentConnection in namespace tools" in done.output


@pytest.mark.parametrize(
    "words",
    [("servers,toolboxes", "time"), ("all", "time"), ("servers,toolboxes/time",), ("servers,", "toolboxes")],
)
def test_names_of_several_kinds_are_wrong_usage(both: Run, words: tuple[str, ...]) -> None:
    done = both("get", *words)
    assert done.exit_code == 2
    assert "names go with one kind, such as: server time" in done.output


def test_each_of_several_kinds_must_be_one(toolkeeper: Run) -> None:
    done = toolkeeper("get", "servers,toolbux")
    assert done.exit_code == 2
    assert "unknown kind 'toolbux'; did you mean toolbox?" in done.output
    assert toolkeeper("get", "servers,").exit_code == 2


def test_the_help_of_get_shows_several_kinds(toolkeeper: Run) -> None:
    said = toolkeeper("get", "--help").output
    assert "toolkeeper get servers,toolboxes" in said
    assert "toolkeeper get all" in said


def test_delete_removes_and_says_so_and_fails_for_what_is_not_there(
    toolkeeper: Run, manifest: Callable[..., str]
) -> None:
    toolkeeper("apply", "-f", manifest())
    assert "mcpserver/time deleted" in toolkeeper("delete", "server", "time").output
    again = toolkeeper("delete", "server", "time")
    assert again.exit_code == 1
    assert "does not exist" in again.output


def test_describe_names_the_remedy_beside_the_problem(toolkeeper: Run, manifest: Callable[..., str]) -> None:
    toolkeeper("apply", "-f", manifest())
    described = toolkeeper("describe", "server", "time")
    assert described.exit_code == 0
    assert "Source:       registry.example/time:1" in described.output
    assert "Events:" in described.output


@pytest.mark.parametrize(
    ("verb", "field", "value"),
    [("stop", "running", False), ("start", "running", True), ("pause", "paused", True)],
)
def test_a_verb_changes_the_resource_where_it_can_be_written(
    toolkeeper: Run, manifest: Callable[..., str], verb: str, field: str, value: bool
) -> None:
    toolkeeper("apply", "-f", manifest())
    done = toolkeeper(verb, "server", "time")
    assert done.exit_code == 0, done.output
    spec = json.loads(toolkeeper("get", "server", "time", "-o", "json").output)["spec"]
    assert spec[field] is value


def test_a_restart_changes_only_an_annotation(toolkeeper: Run, manifest: Callable[..., str]) -> None:
    toolkeeper("apply", "-f", manifest())
    toolkeeper("restart", "time")
    found = json.loads(toolkeeper("get", "server", "time", "-o", "json").output)
    assert "toolkeeper.dev/restartedAt" in found["metadata"]["annotations"]
    assert found["metadata"]["generation"] == 1


def test_a_restart_of_what_does_not_run_is_not_called_one(
    toolkeeper: Run, manifest: Callable[..., str]
) -> None:
    toolkeeper("apply", "-f", manifest())
    assert "mcpserver/time restarts\n" in toolkeeper("restart", "time").output
    toolkeeper("pause", "time")
    assert "restarts once it is resumed" in toolkeeper("restart", "time").output
    toolkeeper("stop", "time")
    assert "is stopped: it begins anew when it is started" in toolkeeper("restart", "time").output


def test_a_rollback_without_history_says_what_is_missing(
    toolkeeper: Run, manifest: Callable[..., str]
) -> None:
    toolkeeper("apply", "-f", manifest())
    done = toolkeeper("rollback", "server", "time")
    assert done.exit_code == 1
    assert "no earlier version" in done.output


def test_a_directory_is_edited_not_applied_to(
    toolkeeper: Run, manifest: Callable[..., str], tmp_path: Path
) -> None:
    file = manifest()
    folder = tmp_path / "tree"
    folder.mkdir()
    Path(file).rename(folder / "time.yaml")
    place = ("--store", "directory", "--path", str(folder))
    refused = toolkeeper("delete", "server", "time", *place)
    assert refused.exit_code == 1
    assert "edit or delete the files" in refused.output

    paused = toolkeeper("pause", "server", "time", *place)
    assert paused.exit_code == 0
    described = toolkeeper("describe", "server", "time", *place).output
    assert "Override:     pause" in described
    assert '{"spec": {"paused": true}}' in described


def test_who_takes_a_verb_back_is_told_that_the_file_decides_again(
    toolkeeper: Run, manifest: Callable[..., str], tmp_path: Path
) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    Path(manifest()).rename(folder / "time.yaml")
    place = ("--store", "directory", "--path", str(folder))
    assert "(until its file is edited;" in toolkeeper("pause", "server", "time", *place).output
    assert "is no longer paused (as its file says)" in toolkeeper("resume", "time", *place).output
    assert "Override:" not in toolkeeper("describe", "server", "time", *place).output


def test_nothing_found_says_where_it_was_looked_for(toolkeeper: Run, tmp_path: Path) -> None:
    said = toolkeeper("get", "servers", "-n", "tools").output
    assert "no MCPServer in namespace tools" in said
    assert str(tmp_path) in said


def test_the_events_of_a_server_that_never_was_are_no_empty_list(
    toolkeeper: Run, manifest: Callable[..., str]
) -> None:
    toolkeeper("apply", "-f", manifest())
    assert toolkeeper("events", "server", "time").exit_code == 0
    done = toolkeeper("events", "server", "tine")
    assert done.exit_code == 1
    assert "did you mean time?" in done.output


def test_a_file_that_is_no_database_is_not_called_a_damaged_one_of_ours(
    toolkeeper: Run, tmp_path: Path
) -> None:
    other = tmp_path / "letter.txt"
    other.write_text("Dear reader,\n" * 100)
    said = toolkeeper("get", "servers", "--store", "sqlite", "--path", str(other)).output
    assert "is no state database" in said
    assert "check --path" in said


def test_what_nobody_looks_after_any_more_is_said_to_be_old(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place("directory", tmp_path / "servers", tmp_path, "test", "")
    never, seen = make_server(), make_server(status=MCPServerStatus(observed_generation=1))
    place.folder.mkdir()
    warn_of_age(place, [never])
    assert capsys.readouterr().err == ""
    warn_of_age(place, [never, seen])
    assert f"no operator looks after directory {place.path} now" in capsys.readouterr().err
    (place.folder / "lease").write_text(f"{os.getpid()}\n")
    warn_of_age(place, [seen])
    assert capsys.readouterr().err == ""


def test_state_that_is_kept_among_the_manifests_is_no_manifest(toolkeeper: Run, tmp_path: Path) -> None:
    (tmp_path / "time.yaml").write_text(SERVER.format(name="time", image="a/b:1"))
    state = tmp_path / "state"
    state.mkdir()
    (state / "current.json").write_text('{"kind": "directory"}')
    place = ("--store", "directory", "--path", str(tmp_path), "--state-dir")
    for folder in (state, tmp_path):
        said = toolkeeper("get", "servers", *place, str(folder))
        assert "time" in said.stdout
        assert ("current.json" in said.stderr) is (folder == tmp_path)
