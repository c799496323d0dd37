"""A small MCP server that needs nothing but Python 3.9: for bare containers, where it answers within 100 ms.

    python3 tiny_mcp.py --host 0.0.0.0 --port 8000     streamable HTTP at /mcp, stateless
    python3 tiny_mcp.py --stdio

Both protocol eras. Tools: `echo`, and `tool_001` … when TINY_TOOLS asks for more than one. TINY_VERSION is the
version it reports; TINY_TOKEN is the bearer token that it demands over HTTP; TINY_BROKEN=exit ends it at once with code
3, TINY_BROKEN=mute makes it listen and never answer.
The file is copied into containers, so it imports nothing of Toolkeeper.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socketserver
import sys
import threading
from typing import Any, BinaryIO

MODERN = "2026-07-28"
LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
META = "io.modelcontextprotocol/"
TOOLS = int(os.environ.get("TINY_TOOLS", "1"))
INFO = {"name": "tiny-mcp", "version": os.environ.get("TINY_VERSION", "1.0.0")}
BROKEN = os.environ.get("TINY_BROKEN", "")
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
LIST = [{"name": "echo", "description": "Returns its text.", "inputSchema": SCHEMA}]
LIST += [
    {"name": f"tool_{n:03d}", "description": f"Tool {n}.", "inputSchema": SCHEMA} for n in range(1, TOOLS)
]


def answer(request: dict[str, Any]) -> dict[str, Any] | None:
    """The response to one JSON-RPC message; None for a notification."""
    if "id" not in request:
        return None
    params = request.get("params") or {}
    version = (params.get("_meta") or {}).get(META + "protocolVersion")
    if version not in (None, MODERN):
        return failed(
            request, -32022, "Unsupported protocol version", {"supported": [MODERN], "requested": version}
        )
    result = outcome(str(request.get("method")), params)
    if isinstance(result, str):
        return failed(request, -32602 if request.get("method") == "tools/call" else -32601, result)
    if version:
        result = {"resultType": "complete", **result, "_meta": {META + "serverInfo": INFO}}
    return {"jsonrpc": "2.0", "id": request["id"], "result": result}


def outcome(method: str, params: dict[str, Any]) -> dict[str, Any] | str:
    """The result of one request, or why there is none."""
    cached = {"ttlMs": 0, "cacheScope": "public"}
    if method == "server/discover":
        return {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, **cached}
    if method == "initialize":
        wanted = params.get("protocolVersion")
        version = wanted if wanted in LEGACY else LEGACY[0]
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": INFO}
    if method == "tools/list":
        return {"tools": LIST, **cached}
    if method == "tools/call":
        if params.get("name") not in {tool["name"] for tool in LIST}:
            return "Unknown tool"
        text = str((params.get("arguments") or {}).get("text", ""))
        return {"content": [{"type": "text", "text": text}], "isError": False}
    return {} if method == "ping" else "Method not found"


def failed(request: dict[str, Any], code: int, message: str, data: object = None) -> dict[str, Any]:
    error = {"code": code, "message": message, **({"data": data} if data else {})}
    return {"jsonrpc": "2.0", "id": request.get("id"), "error": error}


class Connection(socketserver.StreamRequestHandler):
    """One kept-alive HTTP/1.1 connection. `http.server` would triple the start-up time."""

    disable_nagle_algorithm = True
    token = os.environ.get("TINY_TOKEN", "")

    def handle(self) -> None:
        while (start := self.rfile.readline(65537).split()) and len(start) == 3:
            headers: dict[str, str] = {}
            while (line := self.rfile.readline(65537).strip()) and len(headers) < 100:
                name, _, value = line.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            if BROKEN == "mute":
                threading.Event().wait()
            body = self.rfile.read(min(int(headers.get("content-length") or 0), 2**22))
            if self.token and headers.get("authorization") != f"Bearer {self.token}":
                self.reply("401 Unauthorized", b'{"error": "invalid_token"}')
            else:
                self.reply(*respond(start[0], start[1], body))

    def reply(self, status: str, body: bytes) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)


def respond(verb: bytes, path: bytes, body: bytes) -> tuple[str, bytes]:
    if path.split(b"?")[0].rstrip(b"/") != b"/mcp":
        return "404 Not Found", b"{}"
    if verb != b"POST":
        return "405 Method Not Allowed", b"{}"
    try:
        response = answer(json.loads(body))
    except (ValueError, AttributeError, TypeError):
        return "400 Bad Request", json.dumps(failed({}, -32700, "Parse error")).encode()
    if response is None:
        return "202 Accepted", b""
    codes = {-32601: "404 Not Found", -32022: "400 Bad Request"}
    return codes.get(response.get("error", {}).get("code"), "200 OK"), json.dumps(response).encode()


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def serve_stdio(lines: BinaryIO, out: BinaryIO) -> None:
    for line in lines:
        response = answer(json.loads(line)) if BROKEN != "mute" else None
        if response is not None:
            out.write(json.dumps(response).encode() + b"\n")
            out.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0 = any; stderr says which")
    parser.add_argument("--stdio", action="store_true")
    options = parser.parse_args()
    if BROKEN == "exit":
        sys.exit(3)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # as PID 1 it would otherwise be ignored
    if options.stdio:
        serve_stdio(sys.stdin.buffer, sys.stdout.buffer)
        return
    with Server((options.host, options.port), Connection) as server:
        sys.stderr.write(f"listening on {options.host}:{server.socket.getsockname()[1]}\n")
        sys.stderr.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
