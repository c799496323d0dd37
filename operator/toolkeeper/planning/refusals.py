"""Specs that cannot run at all, as ordered checks: the first that objects is the reason."""

from __future__ import annotations

from collections.abc import Callable

from toolkeeper.planning.naming import volume_name
from toolkeeper.resources.mcpserver import MCPServer

Refusal = tuple[str, str]
"""(reason, message)."""

LONGEST_VOLUME_NAME = 255


def refusal(server: MCPServer, installation: str, features: frozenset[str]) -> Refusal | None:
    """Why this spec can run nowhere, or not on a host with these features (empty: unknown); None when it can."""
    found = (check(server, installation, features) for check in CHECKS)
    return next((each for each in found if each is not None), None)


def _source_is_known(server: MCPServer, installation: str, features: frozenset[str]) -> Refusal | None:
    if server.spec.catalog is not None:
        return "SourceUnsupported", "spec.catalog is not deployed yet: name its image or package"
    if server.spec.remote is not None:
        return "SourceUnsupported", "spec.remote has no container; reaching it needs the gateway"
    return None


def _source_is_possible_here(
    server: MCPServer, installation: str, features: frozenset[str]
) -> Refusal | None:
    spec = server.spec
    needed = "images" if spec.image is not None else "packages"
    if features and needed not in features:
        return "RuntimeUnsupported", f"this toolbox cannot run {needed}"
    if features and spec.transport == "stdio" and "stdio" not in features:
        return "RuntimeUnsupported", "this toolbox cannot run stdio servers"
    return None


def _names_fit(server: MCPServer, installation: str, features: frozenset[str]) -> Refusal | None:
    identity = (installation, server.metadata.namespace, server.metadata.name)
    for each in server.spec.volumes:
        name = volume_name(*identity, each.name)
        if len(name) > LONGEST_VOLUME_NAME:
            return "NameTooLong", f"the volume's name on the host would have {len(name)} characters: {name}"
    return None


CHECKS: tuple[Callable[[MCPServer, str, frozenset[str]], Refusal | None], ...] = (
    _source_is_known,
    _source_is_possible_here,
    _names_fit,
)
