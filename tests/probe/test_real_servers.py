"""Probing servers that are real: the SDK's in every era and transport, and the tiny one in a bare Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from anyio.abc import Process

from toolkeeper.probe.endpoint import probe_http
from toolkeeper.probe.outcome import ProbeOutcome
from toolkeeper.probe.stdio import probe_stream
from toolkeeper.testing import tiny_mcp

pytestmark = [pytest.mark.anyio, pytest.mark.process]

SDK = (sys.executable, "-m", "toolkeeper.testing.mcp_server")
PATHS = {"streamable-http": "/mcp", "sse": "/sse"}


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[str, ...]:
    """The tiny server as a container runs it: one copied file, no environment, no site-packages."""
    copied = shutil.copy(str(tiny_mcp.__file__), tmp_path / "server.py")
    return (sys.executable, "-I", "-S", str(copied))


@contextmanager
def listening(*command: str, **env: str) -> Iterator[str]:
    """The base URL of a server that said on stderr where it listens."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **env}
    ) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline().strip()
            assert line.startswith("listening on "), line
            yield f"http://{line.removeprefix('listening on ')}"
        finally:
            process.kill()


@asynccontextmanager
async def spawned(*command: str, **env: str) -> AsyncIterator[Process]:
    async with await anyio.open_process(command, stderr=None, env={**os.environ, **env}) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def probe_process(process: Process, timeout: float = 20, **options: Any) -> ProbeOutcome:  # noqa: ASYNC109
    assert process.stdin is not None
    assert process.stdout is not None
    return await probe_stream(process.stdin.send, process.stdout.receive, timeout, **options)


@pytest.mark.parametrize(
    ("options", "transport", "era", "tools"),
    [
        ("--tools 3", "streamable-http", "modern", 3),
        ("--tools 120 --stateless", "streamable-http", "modern", 120),
        ("--legacy-only", "streamable-http", "legacy", 2),
        ("--legacy-only --stateless", "streamable-http", "legacy", 2),
        ("--tools 3", "sse", "modern", 3),
        ("--legacy-only", "sse", "legacy", 2),
    ],
)
async def test_every_era_and_transport_of_the_sdk_gives_the_same_hashes(
    options: str, transport: Any, era: str, tools: int, client: httpx2.AsyncClient
) -> None:
    with listening(*SDK, "--transport", transport, *options.split()) as base:
        hashes = set()
        for known in ("", era, "legacy"):
            url = base + PATHS[transport]
            outcome = await probe_http(url, transport=transport, client=client, timeout=20, era=known)  # type: ignore[arg-type]
            handshake = outcome.handshake
            assert (handshake.ok, handshake.reason, handshake.message) == (True, "Reachable", "")
            assert handshake.era == ("legacy" if known == "legacy" else era)
            assert (handshake.server_name, len(handshake.tools)) == ("fixture", tools)
            assert len(outcome.definitions) == tools
            hashes.add(handshake.tool_hashes)
    assert len(hashes) == 1


@pytest.mark.parametrize("transport", ["streamable-http", "sse"])
async def test_a_rejected_host_is_named_and_the_right_one_helps(
    transport: Any, client: httpx2.AsyncClient
) -> None:
    with listening(*SDK, "--transport", transport) as base:
        hosts = {"tk-server:8000": "HostRejected", "localhost:8000": "Reachable"}
        for host, reason in hosts.items():
            outcome = await probe_http(
                base + PATHS[transport], transport=transport, client=client, timeout=20, host_header=host
            )
            assert outcome.handshake.reason == reason


@pytest.mark.parametrize("transport", ["streamable-http", "sse"])
async def test_a_server_behind_a_token_is_alive_and_opens_up_to_it(
    transport: Any, client: httpx2.AsyncClient
) -> None:
    with listening(*SDK, "--transport", transport, "--auth", "s3cret") as base:
        url = base + PATHS[transport]
        without = await probe_http(url, transport=transport, client=client, timeout=20)
        opened = await probe_http(url, transport=transport, client=client, timeout=20, credential="s3cret\n")
        wrong = await probe_http(url, transport=transport, client=client, timeout=20, credential="wr0ng")
    assert (without.handshake.ok, without.handshake.reason, without.handshake.tools) == (
        True,
        "AuthRequired",
        (),
    )
    assert (opened.handshake.reason, len(opened.handshake.tools)) == ("Reachable", 2)
    assert (wrong.handshake.ok, wrong.handshake.reason) == (True, "CredentialsRefused")


@pytest.mark.parametrize("transport", ["streamable-http", "sse"])
async def test_more_definitions_than_a_probe_reads_are_refused(
    transport: Any, client: httpx2.AsyncClient
) -> None:
    with listening(*SDK, "--transport", transport, "--tools", "500", "--description-bytes", "9000") as base:
        outcome = await probe_http(base + PATHS[transport], transport=transport, client=client, timeout=20)
    assert outcome.handshake.reason == "ProtocolViolation"
    assert outcome.definitions == ()


async def test_the_wrong_transport_is_not_mcp(client: httpx2.AsyncClient) -> None:
    with listening(*SDK, "--transport", "sse") as base:
        as_http = await probe_http(f"{base}/sse", transport="streamable-http", client=client, timeout=20)
        elsewhere = await probe_http(f"{base}/", transport="sse", client=client, timeout=20)
    assert (as_http.handshake.reason, elsewhere.handshake.reason) == ("NotMCP", "NotMCP")


async def test_a_mute_listener_times_out(client: httpx2.AsyncClient) -> None:
    with listening(*SDK, "--mute") as base:
        outcome = await probe_http(f"{base}/mcp", transport="streamable-http", client=client, timeout=0.3)
    assert outcome.handshake.reason == "Timeout"


@pytest.mark.parametrize(
    ("options", "reason", "era", "findings"),
    [
        ("", "Reachable", "modern", ()),
        ("--legacy-only", "Reachable", "legacy", ()),
        ("--noise", "Reachable", "modern", ("StdoutNoise: other text than JSON-RPC on stdout",)),
        ("--exit 3", "Exited", "", ()),
        ("--exit 3 --noise", "Exited", "", ()),
    ],
)
async def test_every_stdio_server_of_the_sdk_is_understood(
    options: str, reason: str, era: str, findings: tuple[str, ...]
) -> None:
    async with spawned(*SDK, "--transport", "stdio", *options.split()) as process:
        handshake = (await probe_process(process)).handshake
    assert (handshake.reason, handshake.era, handshake.findings) == (reason, era, findings)


@pytest.mark.parametrize(("options", "reason"), [("--mute", "Timeout"), ("--mute --noise", "StdoutNoise")])
async def test_a_mute_stdio_server_fails_within_the_time_given(options: str, reason: str) -> None:
    async with spawned(*SDK, "--transport", "stdio", *options.split()) as process:
        handshake = (await probe_process(process, timeout=1)).handshake
    assert handshake.reason == reason


async def test_the_tiny_server_needs_nothing_but_python(
    tiny: tuple[str, ...], client: httpx2.AsyncClient
) -> None:
    with listening(*tiny, "--port", "0", TINY_TOOLS="3", TINY_VERSION="2.0.0") as base:
        for era in ("modern", "legacy"):
            outcome = await probe_http(
                f"{base}/mcp", transport="streamable-http", client=client, timeout=20, era=era
            )
            assert (outcome.handshake.era, outcome.handshake.server_version) == (era, "2.0.0")
            assert outcome.handshake.tools == ("echo", "tool_001", "tool_002")


async def test_the_tiny_server_speaks_stdio_as_well(tiny: tuple[str, ...]) -> None:
    for era in ("modern", "legacy"):
        async with spawned(*tiny, "--stdio") as process:
            handshake = (await probe_process(process, era=era)).handshake
        assert (handshake.ok, handshake.era) == (True, era)


async def test_the_tiny_servers_tool_can_be_called(tiny: tuple[str, ...]) -> None:
    call = b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"}}}\n'
    async with spawned(*tiny, "--stdio") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(call)
        assert b'"text": "hello"' in await process.stdout.receive()


@pytest.mark.parametrize(("broken", "reason"), [("exit", "Exited"), ("mute", "Timeout")])
async def test_the_tiny_server_breaks_on_purpose(broken: str, reason: str, tiny: tuple[str, ...]) -> None:
    async with spawned(*tiny, "--stdio", TINY_BROKEN=broken) as process:
        assert (await probe_process(process, timeout=0.5)).handshake.reason == reason
        if broken == "exit":
            assert await process.wait() == 3


async def test_the_tiny_server_can_listen_and_stay_mute(
    tiny: tuple[str, ...], client: httpx2.AsyncClient
) -> None:
    with listening(*tiny, "--port", "0", TINY_BROKEN="mute") as base:
        outcome = await probe_http(f"{base}/mcp", transport="streamable-http", client=client, timeout=0.3)
    assert outcome.handshake.reason == "Timeout"
