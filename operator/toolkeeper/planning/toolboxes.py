"""What status says about a toolbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from toolkeeper.planning.force import misspelt
from toolkeeper.planning.observed import UNASKED, Snapshot, Unreachable
from toolkeeper.planning.orphans import Orphans
from toolkeeper.planning.situation import Situation
from toolkeeper.planning.statuses import Said, changed_conditions, word
from toolkeeper.planning.world import World
from toolkeeper.resources.conditions import Status, is_true
from toolkeeper.resources.mcpserver import MOST_NAMED, MCPServer
from toolkeeper.resources.quantity import memory_bytes, nano_cpus
from toolkeeper.resources.toolbox import GatewaySpec, Toolbox, ToolboxSpec

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
ANSWERED = frozenset({"AuthenticationFailed", "RuntimeUnavailable"})
"""Reasons for not knowing anything that are themselves an answer of the toolbox."""
HOPELESS = frozenset({"AuthenticationFailed", "CertificateMismatch", "SameHost"}) | UNASKED
"""Reasons for not knowing anything that stay until somebody brings the right token, certificate or endpoint."""
NOT_YET: tuple[tuple[str, Callable[[ToolboxSpec], bool]], ...] = (
    # field, whether this spec asks for it
    ("spec.agent: dtma", lambda spec: spec.agent == "dtma"),
    ("spec.agentRecovery", lambda spec: spec.agent_recovery != "Never"),
    ("spec.gateway", lambda spec: spec.gateway != GatewaySpec()),
)
"""Nothing acts on these. Said once, never silently ignored."""


def describe(
    world: World,
    seen: Snapshot | Unreachable,
    situations: Sequence[Situation],
    servers: Sequence[MCPServer],
    orphans: Orphans,
) -> Toolbox:
    """The toolbox with its new status; the very same object when nothing changed."""
    toolbox, status = world.toolbox, world.toolbox.status
    fields: dict[str, object] = {
        "observed_generation": toolbox.metadata.generation,
        "allocated": _allocated(servers),
        "servers": len(servers),
        "ready": sum(is_true(each.status.conditions, "Ready") for each in servers),
        "disowned": _disowned(world, seen, situations),
    }
    if isinstance(seen, Snapshot):
        fields |= {
            "agent_version": seen.agent_version,
            "dialect": "toolkeeper",
            "features": seen.features,
            "runtime": seen.runtime,
            "capacity": _capacity(toolbox.spec, seen),
            "foreign": seen.foreign,
            "orphans": orphans.names[:MOST_NAMED],
        }
    conditions = changed_conditions(status.conditions, _conditions(toolbox, seen), world.now)
    if conditions is None and all(getattr(status, name) == value for name, value in fields.items()):
        return toolbox
    update = {**fields, "conditions": status.conditions if conditions is None else conditions}
    return toolbox.model_copy(update={"status": status.model_copy(update=update)})


def _conditions(toolbox: Toolbox, seen: Snapshot | Unreachable) -> list[Said]:
    generation = toolbox.metadata.generation
    why = seen if isinstance(seen, Unreachable) else None
    answered = why is None or why.reason in ANSWERED
    reason, message = (
        ("Ready", "it answers, and so does its runtime") if why is None else (why.reason, why.message)
    )
    unasked = why is not None and (why.reason in UNASKED or why.reason == "NeverSeen")
    authenticated = why is None or why.reason == "RuntimeUnavailable"
    runtime = True if why is None else False if why.reason == "RuntimeUnavailable" else None
    said = [
        Said(
            "Reachable",
            "Unknown" if unasked else word(answered),
            "Answers" if answered else reason,
            "the node agent answers" if answered else message,
            generation,
        ),
        Said("Authenticated", *_authenticated(authenticated, why), generation),
        Said("AgentSecure", *_agent_secure(toolbox.spec, why), generation),
        Said("GatewayIsolated", "Unknown", "NoGateway", "no gateway runs on this toolbox yet", generation),
        Said(
            "RuntimeReady",
            word(runtime),
            "Answers" if runtime else reason,
            "the runtime answers" if runtime else message,
            generation,
        ),
        Said("Ready", "Unknown" if reason == "NeverSeen" else word(why is None), reason, message, generation),
    ]
    if toolbox.metadata.deletion_timestamp is not None:
        waits = f"it stays until the servers deleted with it are cleaned up{misspelt(toolbox.metadata)}"
        said.append(Said("Reconciling", "True", "Deleting", waits, generation))
    elif why is not None:
        mood = "Stalled" if why.reason in HOPELESS else "Reconciling"
        said.append(Said(mood, "True", reason, message, generation))
    if toolbox.spec.paused:
        said.append(Said("Paused", "True", "Paused", "observed and reported, not acted upon", generation))
    idle = ", ".join(field for field, asked in NOT_YET if asked(toolbox.spec))
    if idle:
        said.append(
            Said("Enforced", "False", "NoEffectYet", f"no effect in this version: {idle}", generation)
        )
    return said


def _authenticated(authenticated: bool, why: Unreachable | None) -> tuple[Status, str, str]:
    if authenticated:
        return "True", "Accepted", "the node agent accepts our token"
    assert why is not None
    return ("False" if why.reason == "AuthenticationFailed" else "Unknown"), why.reason, why.message


def _agent_secure(spec: ToolboxSpec, why: Unreachable | None) -> tuple[Status, str, str]:
    """Whether what is sent to the node agent can be read or answered by somebody else."""
    if why is not None and why.reason == "CertificateMismatch":
        return "False", why.reason, why.message
    promised = _promised(spec)
    if why is None or why.reason in ANSWERED or promised[0] == "False":
        return promised
    return "Unknown", why.reason, why.message


def _promised(spec: ToolboxSpec) -> tuple[Status, str, str]:
    """How secure every connection is that comes about under this spec."""
    scheme, _, rest = spec.endpoint.partition("://")
    host = rest.partition("/")[0].rpartition("@")[2]
    if scheme == "unix":
        return "True", "LocalSocket", "a socket of this machine"
    if scheme == "https":
        if spec.tls.fingerprints:
            return "True", "Fingerprint", "TLS with the pinned certificate"
        if spec.tls.ca_ref:
            return "True", "CertificateAuthority", "TLS with a certificate of spec.tls.caRef"
        return "True", "SystemTrust", "TLS with a certificate that this machine trusts"
    if host in LOOPBACK or host.startswith(tuple(f"{each}:" for each in LOOPBACK)):
        return "True", "Loopback", "the connection does not leave this machine"
    return "False", "PlainHTTP", "the token and all secrets cross the network in the clear; use https"


def _allocated(servers: Sequence[MCPServer]) -> dict[str, int]:
    wanted = [each.spec.resources for each in servers]
    return {
        "memory": sum(memory_bytes(each.memory) for each in wanted),
        "nanoCpus": sum(nano_cpus(each.cpu) for each in wanted),
    }


def _capacity(spec: ToolboxSpec, seen: Snapshot) -> dict[str, int]:
    """What was declared, else what the host has."""
    declared = spec.capacity
    found = {
        "memory": memory_bytes(declared.memory) if declared.memory else seen.capacity_memory,
        "nanoCpus": nano_cpus(declared.cpu) if declared.cpu else seen.capacity_nano_cpus,
    }
    return found if declared.servers is None else {**found, "servers": declared.servers}


def _disowned(world: World, seen: Snapshot | Unreachable, situations: Sequence[Situation]) -> tuple[str, ...]:
    """Deleted servers whose containers stay, as long as there are any and nobody declares the server again."""
    names = set(world.toolbox.status.disowned)
    for s in situations:
        meta = s.wanted.server.metadata
        name = f"{meta.namespace}/{meta.name}"
        if meta.deletion_timestamp is None:
            names.discard(name)
        elif s.spec.deletion_policy == "Orphan" and (s.present or isinstance(seen, Unreachable)):
            names.add(name)
    if names and isinstance(seen, Snapshot):
        names &= {f"{each.namespace}/{each.server}" for each in seen.containers}
    return tuple(sorted(names))
