"""The program around the commands: exit codes, and one line on stderr for whatever went wrong."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from cli.conftest import Run
from toolkeeper.cli.main import _outcome, main

WITHOUT_READER = "import sys; from toolkeeper.cli.main import main; main(['get', 'servers', '-o', 'json'])"


def exit_code(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_done_is_zero_failed_is_one_and_wrong_usage_is_two(tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path))
    assert exit_code("version") == 0
    assert exit_code("delete", "server", "nobody", *state) == 1
    assert exit_code("get", "servers", "--nonsense") == 2


@pytest.mark.parametrize("command", [("crds", "--dir"), ("up", "tests", "--check", "--state-dir")])
def test_a_folder_that_cannot_be_made_is_said_in_one_line(
    command: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert exit_code(*command, str(tmp_path / "file" / "folder")) == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert f"{tmp_path}/file" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("text", [None, "{", "clusters: everywhere", "current-context: nowhere"])
def test_a_kubeconfig_that_leads_nowhere_is_said_in_one_line(
    text: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig = tmp_path / "config"
    if text is not None:
        kubeconfig.write_text(text)
    options = ("--store", "kubernetes", "--kubeconfig", str(kubeconfig), "--operator-namespace", "tools")
    assert exit_code("operator", *options) == 1
    said = capsys.readouterr().err
    assert said.startswith("Error: ")
    assert str(kubeconfig) in said
    assert "Traceback" not in said


def test_a_reader_who_has_had_enough_gets_no_complaint(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_READER], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60,
        env={**os.environ, "TOOLKEEPER_STATE_DIR": str(tmp_path)}, check=False,
    )  # fmt: skip
    os.close(writing)
    assert done.stderr == ""


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_wrong_usage(toolkeeper: Run, tmp_path: Path, port: str) -> None:
    done = toolkeeper("up", str(tmp_path), "--port", port)
    assert done.exit_code == 2
    assert "--port" in done.output


def test_nobody_waits_for_less_than_a_moment(toolkeeper: Run, tmp_path: Path) -> None:
    assert toolkeeper("up", str(tmp_path), "--check", "--timeout", "-1").exit_code == 2


@pytest.mark.parametrize("leave", ["close the terminal", "close the pipe"])
def test_up_tidies_up_when_nobody_is_there_any_more(tmp_path: Path, leave: str) -> None:
    manifests, state = tmp_path / "manifests", tmp_path / "state"
    manifests.mkdir()
    command = ["up", str(manifests), "--runtime", "process", "--port", "0", "--state-dir", str(state)]
    running = subprocess.Popen(
        [sys.executable, "-c", "from toolkeeper.cli.main import main; main()", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stderr is not None
    while not running.stdout.readline().startswith("✗"):  # it is under way: it misses manifests
        assert running.poll() is None
    if leave == "close the terminal":
        running.send_signal(signal.SIGHUP)
    running.stdout.close()
    (manifests / "more.yaml").write_text("something to tell")
    assert running.wait(60) == 0
    assert running.stderr.read() == ""
    running.stderr.close()
    assert list(state.glob("*/node")) == []


def test_who_may_not_write_the_state_is_told_how_to_keep_it_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOOLKEEPER_STATE_DIR", str(tmp_path / "a" / "b"))

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    for path, told in ((tmp_path / "a", True), (tmp_path / "a" / "b" / "c", True), (tmp_path / "d", False)):
        assert _outcome(partial(refuse, path)) == 1
        said = capsys.readouterr().err
        assert said.startswith(f"Error: {path}: Permission denied")
        assert ("--state-dir" in said) is told
