"""The command line as a function: arguments in, exit code and text out, on a store of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from toolkeeper.cli.main import cli

SERVER = """\
apiVersion: toolkeeper.dev/v1alpha1
kind: MCPServer
metadata: {{name: {name}}}
spec:
  toolboxRef: local
  image: {image}
"""
Run = Callable[..., Result]


@pytest.fixture
def toolkeeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`toolkeeper(*arguments, stdin=None)`, with state in the test's own folder."""
    monkeypatch.setenv("TOOLKEEPER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("TOOLKEEPER_INSTALLATION", "test")

    def run(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(cli, list(arguments), input=stdin)

    return run


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., str]:
    """Write a manifest; returns its path."""

    def write(name: str = "time", image: str = "registry.example/time:1", file: str | None = None) -> str:
        path = tmp_path / (file or f"{name}.yaml")
        path.write_text(SERVER.format(name=name, image=image))
        return str(path)

    return write
