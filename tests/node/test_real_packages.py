"""Real servers from PyPI and npm, installed and started as child processes."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

import pytest

from toolkeeper.clock import SystemClock
from toolkeeper.node.process.runtime import ProcessRuntime
from toolkeeper.planning.instance import EnvEntry, Instance, PackageSource
from toolkeeper.testing.nodes import INSTALLATION, container_of, request_of, standing

pytestmark = [pytest.mark.anyio, pytest.mark.process, pytest.mark.network, pytest.mark.slow]

EVERYTHING = PackageSource("npm", "@modelcontextprotocol/server-everything", "2026.8.31")
SERVERS = {
    "time": Instance(
        1,
        "stdio",
        package=PackageSource("pypi", "mcp-server-time", "2026.10.19"),
        args=("--local-timezone=UTC",),
    ),
    "everything": Instance(
        1,
        "streamable-http",
        package=EVERYTHING,
        port=8000,
        path="/mcp",
        args=("streamableHttp",),
        env=(EnvEntry("PORT", "{{port}}"),),
    ),
    "thinking": Instance(
        1,
        "stdio",
        package=PackageSource("npm", "@modelcontextprotocol/server-sequential-thinking", "2026.8.31"),
    ),
}


@pytest.fixture(params=["the machine's Node", "no Node on the machine"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path) -> ProcessRuntime:
    # What a user keeps for npm is not for servers, either.
    settings = {**os.environ, "npm_config_global": "true", "npm_config_prefix": str(tmp_path / "elsewhere")}
    if request.param == "no Node on the machine":
        bare = tmp_path / "bin"
        bare.mkdir()
        for program in ("sh", "env", "uname", "dirname"):
            (bare / program).symlink_to(shutil.which(program) or pytest.fail(f"no {program} here"))
        settings["PATH"] = str(bare)
    elif shutil.which("node") is None:
        pytest.skip("this machine has no Node")
    return ProcessRuntime(
        tmp_path / "process", clock=SystemClock(), new_id=lambda: secrets.token_hex(16), settings=settings
    )


async def test_the_quick_start_servers_answer(runtime: ProcessRuntime) -> None:
    async with standing(runtime) as stand:
        claim = await stand.client.claim(INSTALLATION, 0)
        for server, instance in SERVERS.items():
            await stand.client.create(claim, container_of(server), request_of(server, instance))
        settled = await stand.until(
            lambda now: all(
                each.state == "failed" or (each.handshake is not None and each.handshake.ok)
                for each in now.containers
            )
        )
        tools = {
            each.server: each.handshake.tools if each.handshake else each.error for each in settled.containers
        }
        for name in [each.name for each in settled.containers]:
            await runtime.remove(name, 2)
    assert tools["time"] == ("convert_time", "get_current_time")
    assert "echo" in tools["everything"]
    assert tools["thinking"] == ("sequentialthinking",)
