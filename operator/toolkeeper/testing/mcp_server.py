"""A real MCP server on the official SDK, and every way in which real servers misbehave.

    python -m toolkeeper.testing.mcp_server --transport streamable-http --port 0 --tools 3

Both protocol eras on all three transports. It says `listening on HOST:PORT` on stderr once it does (port 0 = any).
`tiny_mcp` is the one for containers; this one needs the SDK.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp.server import MCPServer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

BANNER = "Welcome to the fixture server!\n[info] loading tools…\n"


def main() -> None:
    options = _options()
    if options.exit is not None:
        sys.stderr.write("fixture: exiting on purpose\n")
        sys.exit(options.exit)
    if options.noise:
        sys.stdout.write(BANNER)
        sys.stdout.flush()
    if options.transport == "stdio":
        _serve_stdio(options)
    else:
        _serve_http(options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--transport", choices=["stdio", "streamable-http", "sse"], default="streamable-http")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tools", type=int, default=2)
    parser.add_argument("--description-bytes", type=int, default=0, help="length of each tool's description")
    parser.add_argument("--mute", action="store_true", help="accept everything, answer nothing")
    parser.add_argument("--exit", type=int, metavar="CODE", help="exit at once")
    parser.add_argument("--noise", action="store_true", help="print a banner to stdout first")
    parser.add_argument("--auth", metavar="TOKEN", help="want this bearer token, as a resource server would")
    parser.add_argument("--legacy-only", action="store_true", help="know nothing newer than 2025-11-25")
    parser.add_argument("--stateless", action="store_true", help="JSON answers and no sessions")
    return parser.parse_args()


def _build(options: argparse.Namespace) -> MCPServer[None]:
    from mcp.server import MCPServer  # noqa: PLC0415 - a server that exits or stays mute needs no SDK

    server: MCPServer[None] = MCPServer("fixture", version="1.0.0", **_auth(options), log_level="CRITICAL")

    def echo(text: str) -> str:
        return text

    padding = "x" * options.description_bytes
    server.add_tool(echo, name="echo", description=padding or "Returns its text.")
    for number in range(1, options.tools):
        server.add_tool(echo, name=f"tool_{number:03d}", description=padding or f"Tool {number}.")
    return server


def _auth(options: argparse.Namespace) -> dict[str, Any]:
    if not options.auth:
        return {}
    from mcp.server.auth.provider import AccessToken  # noqa: PLC0415 - as above
    from mcp.server.auth.settings import AuthSettings  # noqa: PLC0415 - as above

    class OneToken:
        async def verify_token(self, token: str) -> AccessToken | None:
            return AccessToken(token=token, client_id="fixture", scopes=[]) if token == options.auth else None

    urls = {"issuer_url": "https://issuer.example", "resource_server_url": "http://127.0.0.1/mcp"}
    settings = AuthSettings.model_validate({**urls, "validate_token_resource": False})
    return {"token_verifier": OneToken(), "auth": settings}


def _serve_stdio(options: argparse.Namespace) -> None:
    if options.mute:
        sys.stdin.read()
        return
    import anyio  # noqa: PLC0415 - as above
    from mcp.server.stdio import stdio_server  # noqa: PLC0415 - as above

    low = _build(options)._lowlevel_server  # noqa: SLF001 - the SDK offers no other way to filter stdin

    async def serve() -> None:
        async with stdio_server() as (inbox, outbox):
            if not options.legacy_only:
                await low.run(inbox, outbox, low.create_initialization_options())
                return
            filtered, passed = anyio.create_memory_object_stream[Any](0)

            async def filter_() -> None:
                async with filtered:
                    async for item in inbox:
                        if hasattr(item, "message") and getattr(item.message, "params", None):
                            item.message.params = without_envelope(item.message.params)
                        await filtered.send(item)

            async with anyio.create_task_group() as group:
                group.start_soon(filter_)
                await low.run(passed, outbox, low.create_initialization_options())
                group.cancel_scope.cancel()

    anyio.run(serve)


def _serve_http(options: argparse.Namespace) -> None:
    with socket.create_server((options.host, options.port), backlog=128) as listener:
        host, port = listener.getsockname()[:2]
        # asyncio switches it on only for sockets that it made itself; without it every answer waits 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if options.mute:
            sys.stderr.write(f"listening on {host}:{port}\n")
            sys.stderr.flush()
            sys.stdin.read()
            return
        import uvicorn  # noqa: PLC0415 - as above

        server = _build(options)
        app: App
        if options.transport == "sse":
            app = server.sse_app(host=options.host)
        else:
            app = server.streamable_http_app(
                host=options.host, stateless_http=options.stateless, json_response=options.stateless
            )
        if options.legacy_only:
            app = _legacy(app)
        sys.stderr.write(f"listening on {host}:{port}\n")
        sys.stderr.flush()
        uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="on")).run(sockets=[listener])


def without_envelope(params: dict[str, Any]) -> dict[str, Any]:
    """Request parameters as a client of the older era would have sent them."""
    meta = {key: value for key, value in params.get("_meta", {}).items() if "modelcontextprotocol" not in key}
    return {
        **{key: value for key, value in params.items() if key != "_meta"},
        **({"_meta": meta} if meta else {}),
    }


def _legacy(app: App) -> App:
    """The app behind a veil: what a newer client adds to a request does not reach it."""

    async def veiled(scope: Scope, receive: Receive, send: Send) -> None:
        async def older() -> MutableMapping[str, Any]:
            message = await receive()
            if message.get("body"):
                body = json.loads(message["body"])
                message["body"] = json.dumps(
                    {**body, "params": without_envelope(body.get("params", {}))}
                ).encode()
            return message

        if scope["type"] == "http":
            headers = [(name, value) for name, value in scope["headers"] if value != b"2026-07-28"]
            scope = {**scope, "headers": [pair for pair in headers if pair[0] != b"content-length"]}
        await app(scope, older, send)

    return veiled


if __name__ == "__main__":
    main()
