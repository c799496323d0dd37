"""Probing over a byte stream, against a server that lives in the same process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from toolkeeper.probe.outcome import ProbeOutcome
from toolkeeper.probe.stdio import probe_stream
from toolkeeper.testing.tiny_mcp import answer
from toolkeeper.testing.virtual import in_virtual_time

Message = dict[str, Any]
Server = Callable[[Message], Message | None]
BANNER = b'Word server starting\n\xff\xfe\n[1, 2]\n42\n{"level": "info"}\n\n'


@dataclass
class Wire:
    """The two byte streams of a server that answers line by line."""

    server: Server = answer
    chunk: int = 65536
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.to_probe: MemoryObjectSendStream[bytes]
        self.from_server: MemoryObjectReceiveStream[bytes]
        self.to_probe, self.from_server = anyio.create_memory_object_stream[bytes](1_000_000)

    async def send(self, line: bytes) -> None:
        assert line.endswith(b"\n")
        message = json.loads(line)
        if "method" not in message:  # its answer to a question of ours
            return
        self.asked.append(message["method"])
        if (reply := self.server(message)) is not None:
            self.say(json.dumps(reply).encode() + b"\n")

    async def receive(self) -> bytes:
        return await self.from_server.receive()

    def say(self, content: bytes) -> None:
        for start in range(0, len(content), self.chunk):
            self.to_probe.send_nowait(content[start : start + self.chunk])

    async def probe(self, timeout: float = 5, **options: Any) -> ProbeOutcome:  # noqa: ASYNC109 - passed on
        with self.to_probe, self.from_server:
            return await probe_stream(self.send, self.receive, timeout, **options)


def legacy(message: Message) -> Message | None:
    if message["method"] == "server/discover":
        return {
            "jsonrpc": "2.0",
            "id": message["id"],
            "error": {"code": -32602, "message": "before initialize"},
        }
    return answer(message)


def silent(_: Message) -> None:
    return None


@in_virtual_time
async def test_a_modern_server_is_known_after_two_lines() -> None:
    wire = Wire()
    outcome = await wire.probe()
    assert wire.asked == ["server/discover", "tools/list"]
    assert (outcome.handshake.ok, outcome.handshake.era, outcome.handshake.tools) == (
        True,
        "modern",
        ("echo",),
    )
    assert outcome.handshake.findings == ()


@in_virtual_time
async def test_a_legacy_server_is_asked_again_in_its_own_era() -> None:
    wire = Wire(legacy)
    assert (await wire.probe()).handshake.era == "legacy"
    assert wire.asked == ["server/discover", "initialize", "notifications/initialized", "tools/list"]


@in_virtual_time
async def test_a_server_known_to_be_legacy_is_not_asked_in_vain() -> None:
    wire = Wire(legacy)
    assert (await wire.probe(era="legacy")).handshake.ok
    assert wire.asked == ["initialize", "notifications/initialized", "tools/list"]


@in_virtual_time
async def test_a_legacy_server_may_leave_unknown_questions_unanswered() -> None:
    def deaf(message: Message) -> Message | None:
        return None if message["method"] == "server/discover" else answer(message)

    assert (await Wire(deaf).probe(timeout=0.6)).handshake.era == "legacy"


@in_virtual_time
async def test_a_server_that_started_slowly_is_still_met_in_its_era() -> None:
    """It reads the first question late, takes it as the opening of a modern connection, and refuses `initialize`."""
    first = True

    def slow(message: Message) -> Message | None:
        nonlocal first
        if first:
            first = False
            return None
        if message["method"] == "initialize":
            error = {
                "code": -32022,
                "message": "modern",
                "data": {"supported": ["2026-07-28"], "requested": "x"},
            }
            return {"jsonrpc": "2.0", "id": message["id"], "error": error}
        return answer(message)

    wire = Wire(slow)
    assert (await wire.probe(timeout=0.6)).handshake.era == "modern"
    assert wire.asked == ["server/discover", "initialize", "server/discover", "tools/list"]


@pytest.mark.parametrize("chunk", [1, 7, 65536])
@in_virtual_time
async def test_messages_may_arrive_in_any_pieces(chunk: int) -> None:
    assert (await Wire(chunk=chunk).probe()).handshake.ok


@in_virtual_time
async def test_other_text_on_stdout_is_skipped_and_reported() -> None:
    wire = Wire()
    wire.say(BANNER)
    handshake = (await wire.probe()).handshake
    assert (handshake.ok, handshake.reason) == (True, "Reachable")
    assert handshake.findings == ("StdoutNoise: other text than JSON-RPC on stdout",)


@in_virtual_time
async def test_other_text_and_no_answer_is_the_reason() -> None:
    wire = Wire(silent)
    wire.say(BANNER)
    handshake = (await wire.probe(timeout=0.3)).handshake
    assert (handshake.ok, handshake.reason) == (False, "StdoutNoise")


@in_virtual_time
async def test_a_mute_server_fails_within_the_time_given() -> None:
    before = anyio.current_time()
    handshake = (await Wire(silent).probe(timeout=0.4)).handshake
    assert (handshake.reason, handshake.message) == ("Timeout", "no answer to initialize in time")
    assert anyio.current_time() - before == 0.4


@in_virtual_time
async def test_a_server_that_ends_is_said_to_have_exited() -> None:
    wire = Wire(silent)
    wire.say(b"Traceback (most recent call last):\n")
    wire.say(b"ModuleNotFoundError: No module named 'mcp.server.fastmcp'")
    wire.to_probe.close()
    handshake = (await wire.probe()).handshake
    assert (handshake.ok, handshake.reason) == (False, "Exited")


@pytest.mark.parametrize("error", [BrokenPipeError(), ConnectionResetError(), anyio.BrokenResourceError()])
@in_virtual_time
async def test_a_server_that_reads_no_more_is_said_to_have_exited(error: Exception) -> None:
    def gone(_: Message) -> None:
        raise error

    assert (await Wire(gone).probe()).handshake.reason == "Exited"


@in_virtual_time
async def test_a_server_that_ends_halfway_has_exited_and_keeps_its_name() -> None:
    wire = Wire()

    def halfway(message: Message) -> Message | None:
        if message["method"] == "tools/list":
            wire.to_probe.close()
            return None
        return answer(message)

    wire.server = halfway
    handshake = (await wire.probe()).handshake
    assert (handshake.reason, handshake.server_name) == ("Exited", "tiny-mcp")
    assert handshake.message == "the server closed its output before it answered tools/list"


@pytest.mark.parametrize("flood", [b"x" * (5 * 2**20), b"noise\n" * 2**20], ids=["one line", "many lines"])
@in_virtual_time
async def test_a_flood_is_cut_off(flood: bytes) -> None:
    wire = Wire(silent)
    wire.say(flood)
    handshake = (await wire.probe()).handshake
    assert handshake.reason == "ProtocolViolation"
    assert "4 MiB" in handshake.message


@in_virtual_time
async def test_a_sloppy_schema_is_a_violation() -> None:
    def sloppy(message: Message) -> Message | None:
        reply = answer(message)
        if message["method"] == "tools/list":
            assert reply is not None
            reply["result"]["tools"] = [{"name": "echo", "inputSchema": None}]
        return reply

    handshake = (await Wire(sloppy).probe()).handshake
    assert handshake.reason == "ProtocolViolation"
    assert handshake.message.startswith("tools/list: tools.0.inputSchema")


@in_virtual_time
async def test_requests_from_the_server_do_not_disturb() -> None:
    wire = Wire()
    wire.say(b'{"jsonrpc": "2.0", "id": 1, "method": "roots/list"}\n')
    wire.say(
        b'{"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}}\n'
    )
    wire.say(b'{"jsonrpc": "2.0", "id": 99, "result": {}}\n')
    handshake = (await wire.probe()).handshake
    assert (handshake.ok, handshake.findings) == (True, ())
