"""The independent client: one MCP handshake over plain HTTP, as cheap as it gets, the same for every contestant."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
QUESTION = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "benchmark", "version": "1"},
        },
    }
)


def greeted(url: str, *, seconds: float = 2.0) -> str | None:
    """The version that the server at `url` says it has; None if it does not greet now."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=seconds)
    try:
        connection.request("POST", parts.path, QUESTION, HEADERS)
        greeting = json.loads(connection.getresponse().read())
        return str(greeting["result"]["serverInfo"]["version"])
    except (OSError, ValueError, LookupError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def answers(url: str) -> bool:
    """Whether the server at `url` greets now."""
    return greeted(url) is not None
