"""The conversation that every probe leads: agree on an era, list all tools, hang up.

It drives the SDK's `ClientSession` rather than its `Client` for two reasons. `Client` takes no dispatcher, and the
dispatcher is where results still are the raw JSON that gets hashed (the SDK's models drop unknown fields). And its
automatic negotiation waits ten seconds for `server/discover` whatever the caller's time-out; the session leaves the
fall-back to `initialize` to its user, so here the time-out is ours. Both are the SDK's public calls.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio
import httpx2
from mcp_types import (
    CONNECTION_CLOSED,
    PARSE_ERROR,
    REQUEST_TIMEOUT,
    UNSUPPORTED_PROTOCOL_VERSION,
    Implementation,
    PaginatedRequestParams,
)
from pydantic import ValidationError

import toolkeeper
from toolkeeper.planning.observed import Handshake
from toolkeeper.probe import lint
from toolkeeper.probe.definitions import tool_hashes, tools_hash
from toolkeeper.probe.evidence import Evidence, Kind, TooMuch, Trouble, Violation
from toolkeeper.probe.hints import Hint, explain
from toolkeeper.probe.outcome import ProbeOutcome
from toolkeeper.probe.sdk import (
    CallOptions,
    ClientSession,
    JSONRPCDispatcher,
    MCPError,
    SessionMessage,
    TransportContext,
)

MOST_TOOLS = 1000
LONGEST_NAME = 256
GOODBYE_SECONDS = 0.5
"""What a legacy server gets to answer the DELETE of its session, once everything is known."""

Era = Literal["", "modern", "legacy"]
Transport = AbstractAsyncContextManager[tuple[Any, Any]]
"""The SDK's: yields its two streams of `SessionMessage`."""

_CLIENT = Implementation(name="toolkeeper", version=toolkeeper.__version__)

# A broken server is a result of the probe. The SDK would also log it, with a traceback, at every attempt.
logging.getLogger("mcp.client").setLevel(logging.CRITICAL)
logging.getLogger("mcp.shared").setLevel(logging.CRITICAL)


@dataclass(slots=True)
class _Learned:
    """What the server has said so far, raw."""

    era: Era = ""
    greeting: dict[str, Any] = field(default_factory=dict)
    tools: list[dict[str, Any]] = field(default_factory=list)
    undeliverable: list[str] = field(default_factory=list)
    """Tools that clients must drop, because their x-mcp-header annotations are invalid."""


class _Recorder(JSONRPCDispatcher[TransportContext]):
    """Keeps raw results, notes what was asked, and bounds the time for `server/discover`."""

    def __init__(self, read: Any, write: Any, evidence: Evidence, discover_seconds: float) -> None:
        super().__init__(read, write)
        self._evidence = evidence
        self._discover_seconds = discover_seconds
        self.raw: dict[str, Any] = {}

    async def send_raw_request(
        self, method: str, params: Mapping[str, Any] | None, opts: CallOptions | None = None, **internal: Any
    ) -> dict[str, Any]:
        self._evidence.method = method
        if method == "server/discover":
            opts = {**(opts or {}), "timeout": self._discover_seconds}
        self.raw = await super().send_raw_request(method, params, opts, **internal)
        self._evidence.answered.append(method)
        return self.raw


async def converse(
    transport: Transport, evidence: Evidence, *, seconds: float, discover_seconds: float, era: Era
) -> ProbeOutcome:
    """Lead one conversation over `transport`, within `seconds`.

    Never raises for anything that a server does; the caller's cancellation passes through. `era` is the last one
    known: a legacy server is then spared a question that it refuses.
    """
    learned = _Learned()
    troubles = [Trouble(Kind.TIMEOUT)]
    with anyio.move_on_after(seconds) as clock:
        try:
            async with transport as (read, write):
                recorder = _Recorder(read, write, evidence, discover_seconds)
                async with ClientSession(dispatcher=recorder, client_info=_CLIENT) as session:
                    await _negotiate(session, era)
                    _remember_greeting(session, recorder, learned)
                    await _list_tools(session, recorder, learned)
                    troubles = []
                clock.deadline = min(clock.deadline, anyio.current_time() + GOODBYE_SECONDS)
        except Exception as error:  # noqa: BLE001 - a server can make the SDK raise anything; all of it is a result
            if troubles:  # else it failed at saying goodbye, which harms nobody
                troubles = list(_translate(error))
    return _success(learned, evidence) if not troubles else _failure(learned, explain(troubles, evidence))


async def _negotiate(session: ClientSession, known: Era) -> None:
    """Modern first, unless the server is known to be legacy; an error of any code means: try the other era.

    A server that started slower than `server/discover` was waited for has by now taken that question as the
    opening of a modern connection, and says so when `initialize` follows: then discovery is repeated.
    """
    first, second = (
        (session.initialize, session.discover)
        if known == "legacy"
        else (session.discover, session.initialize)
    )
    if await _refused(first) is None:
        return
    try:
        await second()
    except MCPError as error:
        if error.code != UNSUPPORTED_PROTOCOL_VERSION or known == "legacy":
            raise
        await session.discover()


async def _refused(greet: Callable[[], Awaitable[object]]) -> Exception | None:
    try:
        await greet()
    except (
        MCPError,
        ValidationError,
        RuntimeError,
    ) as error:  # RuntimeError: a version that the SDK does not know
        return error
    return None


def _remember_greeting(session: ClientSession, recorder: _Recorder, learned: _Learned) -> None:
    learned.era = "modern" if session.discover_result is not None else "legacy"
    learned.greeting = {
        "version": session.protocol_version or "",
        "name": session.server_info.name if session.server_info else "",
        "server_version": session.server_info.version if session.server_info else "",
        "instructions": session.instructions or "",
        "capabilities": sorted(
            name for name, value in recorder.raw["capabilities"].items() if value is not None
        ),
    }


async def _list_tools(session: ClientSession, recorder: _Recorder, learned: _Learned) -> None:
    """All pages, as long as they lead on."""
    if "tools" not in learned.greeting["capabilities"]:
        return
    cursor: str | None = None
    cursors: set[str | None] = set()
    while cursor not in cursors:
        cursors.add(cursor)
        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor) if cursor else None)
        raw = recorder.raw["tools"]
        kept = {tool.name for tool in page.tools}
        learned.undeliverable += [tool["name"] for tool in raw if tool["name"] not in kept]
        learned.tools += raw
        if len(learned.tools) > MOST_TOOLS:
            raise Violation(f"more than {MOST_TOOLS} tools")
        if any(len(tool["name"]) > LONGEST_NAME for tool in raw):
            raise Violation(f"a tool's name is longer than {LONGEST_NAME} characters")
        cursor = page.next_cursor
        if not cursor:
            return
    raise Violation("a page's nextCursor leads back to an earlier page")


def _success(learned: _Learned, evidence: Evidence) -> ProbeOutcome:
    noise = ("StdoutNoise: other text than JSON-RPC on stdout",) if evidence.noise else ()
    dropped = tuple(
        f"InvalidHeaderAnnotation: tool {lint.printable(name, 64)}" for name in learned.undeliverable[:20]
    )
    hashes = tool_hashes(learned.tools)
    handshake = Handshake(
        ok=True,
        reason="Reachable",
        **_greeting(learned),
        tools=tuple(name for name, _ in hashes),
        tools_hash=tools_hash(learned.tools),
        tool_hashes=hashes,
        findings=(*noise, *dropped, *lint.findings(learned.tools, learned.greeting["instructions"])),
    )
    return ProbeOutcome(handshake, tuple(learned.tools))


def _failure(learned: _Learned, hint: Hint) -> ProbeOutcome:
    """What was learned before the failure stays; tools do not, because a list that broke off is no list."""
    ok = hint.reason in ("AuthRequired", "CredentialsRefused")
    return ProbeOutcome(Handshake(ok=ok, reason=hint.reason, message=hint.message, **_greeting(learned)))


def _greeting(learned: _Learned) -> dict[str, Any]:
    if not learned.greeting:
        return {}
    return {
        "era": learned.era,
        "protocol_version": learned.greeting["version"],
        "server_name": lint.printable(learned.greeting["name"], 128),
        "server_version": lint.printable(learned.greeting["server_version"], 128),
        "capabilities": tuple(lint.printable(name, 64) for name in learned.greeting["capabilities"][:64]),
    }


def _translate(error: BaseException) -> Iterator[Trouble]:
    """Every leaf of an exception group, in words of no library."""
    match error:
        case BaseExceptionGroup():
            for inner in error.exceptions:
                yield from _translate(inner)
        case TooMuch():
            yield Trouble(Kind.TOO_MUCH)
        case Violation():
            yield Trouble(Kind.VIOLATION, str(error))
        case ValidationError():
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"] if not str(part).startswith("function-"))
            yield Trouble(Kind.SCHEMA, f"{lint.printable(where, 120)}: {first['msg']}")
        case MCPError():
            yield _translate_rpc(error)
        case httpx2.HTTPStatusError():
            yield Trouble(Kind.OTHER, "an HTTP status")
        case httpx2.HTTPError():
            yield _translate_http(error)
        case RuntimeError() if str(error).startswith("Unsupported protocol version"):
            yield Trouble(Kind.VIOLATION, "the server names a protocol version that nobody knows")
        case _:
            yield Trouble(Kind.OTHER, type(error).__name__)


def _translate_rpc(error: MCPError) -> Trouble:
    if error.code == REQUEST_TIMEOUT:
        return Trouble(Kind.TIMEOUT)
    if error.code == CONNECTION_CLOSED:
        return Trouble(Kind.CLOSED)
    if error.code == PARSE_ERROR and error.error.message.startswith("Failed to parse"):  # the SDK's own words
        return Trouble(Kind.UNPARSEABLE)
    return Trouble(Kind.RPC_ERROR, str(error.code))


def _translate_http(error: httpx2.HTTPError) -> Trouble:
    text = str(error)
    match error:
        case httpx2.TimeoutException():
            return Trouble(Kind.TIMEOUT)
        case httpx2.SSEError():
            return Trouble(Kind.TOO_MUCH) if "exceeded" in text else Trouble(Kind.UNPARSEABLE)
        case httpx2.ConnectError() if "SSL" in text or "certificate" in text.lower():
            return Trouble(Kind.TLS, text)
        case httpx2.ConnectError():
            return Trouble(Kind.REFUSED, text)
        case httpx2.LocalProtocolError() | httpx2.UnsupportedProtocol():
            return Trouble(Kind.UNSENDABLE)
        case httpx2.RemoteProtocolError() if "disconnected" not in text:
            return Trouble(Kind.NOT_HTTP)
        case httpx2.RemoteProtocolError() | httpx2.NetworkError():
            return Trouble(Kind.HUNG_UP)
        case _:
            return Trouble(Kind.OTHER, type(error).__name__)


SdkMessage = SessionMessage | Exception
