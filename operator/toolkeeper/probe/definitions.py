"""Tool definitions in canonical form and their hashes: what a pin compares.

Canonical = the fields that reach a model, as JSON with sorted keys and no spaces, in UTF-8. An absent field stays
absent, so a server that starts to send `"title": null` has changed its definition. The hash is of the *raw* JSON:
the SDK's models drop fields that they do not know.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

PINNED_FIELDS = ("name", "title", "description", "inputSchema", "outputSchema", "annotations")


def canonical(tool: Mapping[str, Any]) -> bytes:
    """The bytes of one tool object that are hashed."""
    pinned = {field: tool[field] for field in PINNED_FIELDS if field in tool}
    text = json.dumps(pinned, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "surrogatepass")


def tools_hash(tools: Iterable[Mapping[str, Any]]) -> str:
    """One hash over the definitions of a server, whatever order it lists them in."""
    return _sha256(b"[" + b",".join(text for _, text in _by_name(tools)) + b"]")


def tool_hashes(tools: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """(name, hash) of every name, sorted. Definitions that share a name share one hash, over all of them."""
    return tuple(
        (name, _sha256(b",".join(text for _, text in same_name)))
        for name, same_name in groupby(_by_name(tools), key=lambda pair: pair[0])
    )


def _by_name(tools: Iterable[Mapping[str, Any]]) -> list[tuple[str, bytes]]:
    return sorted((tool["name"], canonical(tool)) for tool in tools)


def _sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
