"""What a server has to prove to a probe that shows a credential (`spec.health.credentialsRef`).

the probe showed     the server asks who it is      it is
nothing wanted       AuthRequired                   alive, which is all that can be known: enough
not the wanted one   AuthRequired                   not asked yet: the credential is on its way
the wanted one       CredentialsRefused             alive and not proven: not ready, and nobody restarts it
"""

from __future__ import annotations

from dataclasses import replace

from toolkeeper.planning.observed import Container, Handshake
from toolkeeper.planning.world import Wanted
from toolkeeper.resources.conditions import find, is_true
from toolkeeper.resources.mcpserver import MCPServer

PROBE_CREDENTIALS = "probe-credentials"
"""The feature of a host whose probes can show a credential."""
ASKS = frozenset({"AuthRequired", "CredentialsRefused"})
"""Reasons of a handshake that says only that the server lives and asks who is there."""


def believed(container: Container, wanted: Wanted, elapsed: float) -> Container:
    """The container, without an answer that was given to another credential than the one that is on its way to it.

    While it is, a server that was ready says what it said before, and a new one nothing. Only for so long as a start
    may take: a credential that never arrives must not look like a server that never answers.
    """
    handshake, probe, server = container.handshake, wanted.probe, wanted.server
    if probe is None or handshake is None or handshake.reason not in ASKS:
        return container
    if probe.version in ("", handshake.credential) or wanted.probe_not_taken is not None:
        return container
    if stood(container, server):
        return replace(container, handshake=_said_before(server))
    if container.age + elapsed >= server.spec.health.startup_seconds:
        return container
    return replace(container, handshake=None)


def unproven(wanted: Wanted, container: Container | None) -> tuple[str, str] | None:
    """(reason, message) of a server that answers and does not prove what its spec asks for; None if it does."""
    probe, handshake = wanted.probe, container.handshake if container is not None else None
    if probe is None or handshake is None or handshake.reason not in ASKS:
        return None
    if not probe.version:
        return wanted.missing_reason, "; ".join(wanted.missing_secrets)
    if handshake.credential == probe.version:
        return "CredentialsRefused", handshake.message or "it refuses the credential of health.credentialsRef"
    if wanted.probe_not_taken is not None:
        return "CredentialsNotGiven", f"the toolbox does not take them: {wanted.probe_not_taken[1]}"
    if stood(container, wanted.server):
        return None
    return "CredentialsNotGiven", "it asks for credentials, and its probe has not been given them yet"


def stood(container: Container | None, server: MCPServer) -> bool:
    """Whether status says of this very container that it is ready."""
    status = server.status
    here = container is not None and container.container_id == status.container_id != ""
    return here and is_true(status.conditions, "Ready")


def _said_before(server: MCPServer) -> Handshake:
    status, reachable = server.status, find(server.status.conditions, "Reachable")
    return Handshake(
        ok=True,
        reason=reachable.reason if reachable is not None and reachable.status == "True" else "Reachable",
        era="modern" if status.era == "modern" else "legacy" if status.era == "legacy" else "",
        protocol_version=status.protocol_version,
        server_name=status.server_name,
        server_version=status.server_version,
        capabilities=status.capabilities,
        tools=status.tools,
        tools_hash=status.tools_hash,
    )
