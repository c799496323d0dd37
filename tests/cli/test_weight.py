"""What the two programs that run for months carry: nothing of what they never use."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.process

LISTS = """
import importlib, json, sys
from toolkeeper.cli.main import main
later = sys.argv.pop()
try:
    main()
finally:
    importlib.import_module(later)
    print(json.dumps(sorted(sys.modules)))
"""


def carried_by(command: str, later: str) -> set[str]:
    """The modules that `toolkeeper COMMAND` has imported once it could start and needed `later`."""
    done = subprocess.run(
        [sys.executable, "-c", LISTS, command, "--help", later],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_node_carries_no_mcp_server_no_cryptography_and_no_resources() -> None:
    carried = carried_by("node", "toolkeeper.node.docker.runtime")
    assert {"mcp.client.session", "docker", "fastapi"} <= carried
    unused = {
        "mcp.server",
        "cryptography",
        "rich.console",
        "pygments.lexers",
        "toolkeeper.resources.mcpserver",
    }
    assert not carried & unused


def test_the_operator_carries_nothing_of_a_node() -> None:
    carried = carried_by("operator", "toolkeeper.dtma.client")
    assert "toolkeeper.reconcile.operator" in carried
    assert not carried & {"docker", "fastapi", "mcp", "kopf", "rich.console", "pygments.lexers"}
