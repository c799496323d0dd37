"""Help, versions, completion, plans: what works before anything runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import Run
from toolkeeper.cli.main import COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(toolkeeper: Run, command: str) -> None:
    shown = toolkeeper(command, "--help")
    assert shown.exit_code == 0, shown.output
    assert f"toolkeeper {command}" in shown.output.replace("Usage: cli", "")
    assert "Example" in shown.output


def test_an_unknown_command_is_answered_with_the_nearest(toolkeeper: Run) -> None:
    done = toolkeeper("descirbe")
    assert done.exit_code == 2
    assert "Did you mean 'describe'?" in done.output


def test_the_version_can_be_read_by_programs(toolkeeper: Run) -> None:
    assert json.loads(toolkeeper("version", "-o", "json").output)["apiVersion"] == "toolkeeper.dev/v1alpha1"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_that_shell(toolkeeper: Run, shell: str) -> None:
    assert "_TOOLKEEPER_COMPLETE" in toolkeeper("completion", shell).output


def test_a_plan_of_a_manifest_names_the_container_and_the_cause_and_changes_nothing(
    toolkeeper: Run, manifest: Callable[..., str]
) -> None:
    planned = toolkeeper("plan", "-f", manifest())
    assert planned.exit_code == 0, planned.output
    assert "create tk_test_default_time_" in planned.output
    assert "because" in planned.output
    assert json.loads(toolkeeper("get", "servers", "-o", "json").output)["items"] == []


def test_a_plan_takes_a_manifest_without_a_namespace_for_one_of_the_namespace_it_is_given(
    toolkeeper: Run, manifest: Callable[..., str]
) -> None:
    planned = toolkeeper("plan", "-n", "team-a", "-f", manifest())
    assert "team-a/time is placed nowhere: ToolboxNotFound" in planned.output


def test_a_plan_that_cannot_see_a_toolbox_says_so_and_fails(toolkeeper: Run, tmp_path: Path) -> None:
    toolbox = tmp_path / "toolbox.yaml"
    toolbox.write_text(
        "apiVersion: toolkeeper.dev/v1alpha1\nkind: Toolbox\nmetadata: {name: far}\n"
        "spec: {endpoint: 'http://127.0.0.1:1'}\n"
    )
    planned = toolkeeper("plan", "-f", str(toolbox))
    assert planned.exit_code == 1
    assert "default/far" in planned.output
    assert "cannot be seen" in planned.output


def test_the_custom_resource_definitions_are_written_and_then_the_same(
    toolkeeper: Run, tmp_path: Path
) -> None:
    written = toolkeeper("crds", "--dir", str(tmp_path / "crds"))
    assert "mcpservers.yaml" in written.output
    assert toolkeeper("crds", "--dir", str(tmp_path / "crds"), "--check").exit_code == 0


def test_enrolling_prints_a_manifest_and_no_token(toolkeeper: Run, tmp_path: Path) -> None:
    shown = toolkeeper(
        "node", "--state-dir", str(tmp_path / "node"), "enroll", "--endpoint", "https://box.example:30000",
        "--name", "box",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert "kind: Toolbox" in shown.output
    assert "sha256:" in shown.output
    token = (tmp_path / "node" / "token").read_text().strip()
    assert token not in shown.output
    assert "toolkeeper node --host 0.0.0.0" in shown.output


def test_enrolling_says_when_no_node_has_run_with_that_state(toolkeeper: Run, tmp_path: Path) -> None:
    state = str(tmp_path / "node")
    command = ("node", "enroll", "--endpoint", "https://box.example:30000", "--name", "box")
    first, second = (toolkeeper(*command, "--state-dir", state) for _ in range(2))
    assert f"no node has run with {state} yet" in first.stderr
    assert "no node has run" not in second.stderr
    assert first.stdout == second.stdout
    assert f"{state}/token" in first.stderr


def test_enrolling_a_node_that_listens_there_warns_of_nothing(toolkeeper: Run, tmp_path: Path) -> None:
    there = ("node", "--state-dir", str(tmp_path / "node"))
    for options in (("--host", "10.0.0.1"), ()):
        endpoint = "https://10.0.0.1:30000" if options else "http://127.0.0.1:30000"
        shown = toolkeeper(*there, *options, "enroll", "--endpoint", endpoint, "--name", "box")
        assert "--host 0.0.0.0" not in shown.output


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (("--endpoint", "box"), "spec.endpoint"),
        (("--endpoint", "https://box:30000", "--name", "Bad Name"), "metadata.name"),
        (("--endpoint", "https://box:30000", "-n", "Bad Namespace"), "metadata.namespace"),
    ],
)
def test_enrolling_refuses_what_the_operator_would_refuse(
    toolkeeper: Run, tmp_path: Path, wrong: tuple[str, ...], field: str
) -> None:
    done = toolkeeper("node", "--state-dir", str(tmp_path / "node"), "enroll", *wrong)
    assert done.exit_code == 1
    assert f"Error: {field}: " in done.output
    assert "kind: Toolbox" not in done.output


def test_nobody_is_pointed_to_help_that_is_not_there(toolkeeper: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret.yaml"
    secret.write_text("apiVersion: v1\nkind: Secret\nmetadata: {name: key}\nstringData: {token: hidden}\n")
    said = toolkeeper("apply", "-f", str(secret)).output
    assert "toolkeeper describe" in said
    assert "hidden" not in said
