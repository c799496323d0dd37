"""Builders of resources, observations and worlds. What a test does not name has a sensible value."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from toolkeeper.planning.desired import Rendered, container_name, probe_use, render, secret_uses
from toolkeeper.planning.drift import expected
from toolkeeper.planning.instance import SecretUse
from toolkeeper.planning.observed import Container, DockerState, Handshake, Observation, Snapshot
from toolkeeper.planning.world import Policy, Wanted, World
from toolkeeper.resources.mcpserver import MCPServer, MCPServerSpec, MCPServerStatus
from toolkeeper.resources.meta import Metadata
from toolkeeper.resources.toolbox import Toolbox, ToolboxSpec, ToolboxStatus

INSTALLATION = "test"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENFORCED = (
    "memory",
    "cpu",
    "pids",
    "capabilities",
    "read-only-root",
    "user",
    "network",
    "peers",
    "images",
    "packages",
    "system-packages",
    "volumes",
    "files",
    "stdio",
    "logs",
    "stats",
    "probe-credentials",
)
"""What a Docker host enforces."""
WITHOUT_CONTAINER = frozenset({"pending", "pulling", "building", "failed"})


def make_server(  # noqa: PLR0913  # a test names what matters to it
    name: str = "time",
    *,
    namespace: str = "default",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    generation: int = 1,
    uid: str = "",
    deleted: bool = False,
    status: MCPServerStatus | None = None,
    **spec: Any,
) -> MCPServer:
    """An MCPServer; `spec` takes fields by either spelling. By default one image on toolbox `box`."""
    sources = {"image", "package", "catalog", "remote"}
    places = {"toolbox_ref", "toolboxRef", "toolbox_selector", "toolboxSelector", "remote"}
    defaults: dict[str, Any] = {}
    if not sources & spec.keys():
        defaults["image"] = f"registry.example/{name}:1"
    if not places & spec.keys():
        defaults["toolbox_ref"] = "box"
    return MCPServer(
        metadata=Metadata(
            name=name,
            namespace=namespace,
            labels=dict(labels or {}),
            annotations=dict(annotations or {}),
            generation=generation,
            uid=uid or f"uid-{namespace}-{name}"[:64],
            deletion_timestamp=NOW if deleted else None,
        ),
        spec=MCPServerSpec.model_validate({**defaults, **spec}),
        status=status or MCPServerStatus(),
    )


def make_toolbox(
    name: str = "box",
    *,
    namespace: str = "default",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    generation: int = 1,
    deleted: bool = False,
    status: ToolboxStatus | None = None,
    **spec: Any,
) -> Toolbox:
    """A Toolbox on loopback."""
    return Toolbox(
        metadata=Metadata(
            name=name,
            namespace=namespace,
            labels=dict(labels or {}),
            annotations=dict(annotations or {}),
            generation=generation,
            uid=f"uid-{namespace}-{name}",
            deletion_timestamp=NOW if deleted else None,
        ),
        spec=ToolboxSpec.model_validate({"endpoint": "http://127.0.0.1:30000", **spec}),
        status=status or ToolboxStatus(),
    )


def versions_of(server: MCPServer) -> Mapping[str, str]:
    """A version for every secret value that the server or its probe needs."""
    return dict.fromkeys(references(server), "1")


def references(server: MCPServer) -> tuple[str, ...]:
    """`<secret>/<key>` of every secret value that the server or its probe needs."""
    probe = probe_use(server.spec)
    uses = (*secret_uses(server.spec), *(() if probe is None else (probe,)))
    return tuple(dict.fromkeys(f"{name}/{key}" for name, key in uses))


def rendered(
    server: MCPServer, *, installation: str = INSTALLATION, secrets: Mapping[str, str] | None = None
) -> Rendered:
    """The server rendered, by default with all its secrets resolved."""
    return render(
        server, installation=installation, secrets=versions_of(server) if secrets is None else secrets
    )


def make_wanted(
    server: MCPServer,
    *,
    installation: str = INSTALLATION,
    secrets: Mapping[str, str] | None = None,
    **fields: Any,
) -> Wanted:
    """The server as a toolbox should see it; `fields` are those of Wanted."""
    drawn = rendered(server, installation=installation, secrets=secrets)
    versions, use = versions_of(server) if secrets is None else secrets, probe_use(server.spec)
    probe = None if use is None else SecretUse(*use, versions.get("/".join(use), ""))
    unread = () if probe is None or probe.version else (f"{probe.name}/{probe.key}",)
    return Wanted(
        **{
            "server": server,
            "instance": drawn.instance,
            "hash": drawn.hash,
            "hashes": drawn.hashes,
            "instances": drawn.instances,
            "missing_secrets": tuple(dict.fromkeys((*drawn.missing_secrets, *unread))),
            "probe": probe,
            "refused": drawn.refused,
            **fields,
        }
    )


def make_handshake(
    ok: bool = True, reason: str = "", *, tools: Sequence[str] = ("echo",), **fields: Any
) -> Handshake:
    """A handshake that succeeded, or one that failed with a refused connection."""
    if not ok:
        return Handshake(
            ok=False, reason=reason or "ConnectionRefused", **{"message": "nothing listens", **fields}
        )
    given: dict[str, Any] = {
        "reason": reason or "Reachable",
        "era": "modern",
        "protocol_version": "2026-07-28",
        "server_name": "example",
        "server_version": "1.0",
        "capabilities": ("tools",),
        "tools": tuple(tools),
        "tools_hash": "sha256:" + hashlib.sha256("\n".join(tools).encode()).hexdigest(),
        **fields,
    }
    return Handshake(ok=True, **given)


def make_container(
    server: MCPServer,
    *,
    installation: str = INSTALLATION,
    state: DockerState = "running",
    secrets: Mapping[str, str] | None = None,
    **fields: Any,
) -> Container:
    """A container made from exactly this server, running and answering unless told otherwise."""
    drawn = rendered(server, installation=installation, secrets=secrets)
    instance = drawn.instance
    assert instance is not None, "a server that cannot be rendered has no container"
    meta, made = server.metadata, state not in WITHOUT_CONTAINER
    name = container_name(installation, meta.namespace, meta.name, drawn.hash)
    given: dict[str, Any] = {
        "name": name,
        "installation": installation,
        "namespace": meta.namespace,
        "server": meta.name,
        "hash": drawn.hash,
        "renderer": instance.renderer,
        "state": state,
        "container_id": f"id-{name[-8:]}" if made else "",
        "run_id": "run-1" if made else "",
        "image": instance.image,
        "age": 600.0,
        "live": expected(instance) if made else None,
        "handshake": make_handshake() if state == "running" else None,
        "address": f"http://10.0.0.2:{instance.port}{instance.path}" if made and instance.port else "",
        "exit_code": 143 if state == "exited" else None,
        "volumes": tuple(each.volume for each in instance.volumes),
        **fields,
    }
    return Container(**given)


def make_snapshot(*containers: Container, **fields: Any) -> Snapshot:
    """A Docker host with these containers."""
    given: dict[str, Any] = {
        "revision": "boot:1",
        "runtime": "docker",
        "agent_version": "0.1.0",
        "features": ENFORCED,
        "capacity_memory": 64 << 30,
        "capacity_nano_cpus": 16_000_000_000,
        "volumes": tuple(sorted({volume for each in containers for volume in each.volumes})),
        **fields,
    }
    return Snapshot(containers=containers, **given)


def make_world(
    *servers: MCPServer | Wanted,
    observation: Observation | None = None,
    toolbox: Toolbox | None = None,
    policy: Policy | None = None,
    **fields: Any,
) -> World:
    """One toolbox (`box`) with these servers; nothing runs there unless `observation` says so."""
    given: dict[str, Any] = {"now": NOW, "clock": 1000.0, **fields}
    policy = policy or Policy(INSTALLATION)
    return World(
        toolbox=toolbox or make_toolbox(),
        servers=tuple(
            each if isinstance(each, Wanted) else make_wanted(each, installation=policy.installation)
            for each in servers
        ),
        observation=make_snapshot() if observation is None else observation,
        policy=policy,
        **given,
    )


def edited(container: Container, **live: Any) -> Container:
    """The container after somebody changed what is live about it."""
    assert container.live is not None, "there is nothing live to edit"
    return replace(container, live=replace(container.live, **live))
