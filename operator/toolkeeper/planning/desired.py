"""From what people declare to the exact container wanted. What creates and what compares read this one value."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from toolkeeper.planning.canonical import spec_hash
from toolkeeper.planning.instance import (
    EnvEntry,
    FileEntry,
    Instance,
    Limits,
    PackageSource,
    Reach,
    SecretUse,
    VolumeMount,
)
from toolkeeper.planning.naming import container_name, volume_name
from toolkeeper.planning.profiles import hardening
from toolkeeper.planning.refusals import refusal
from toolkeeper.resources.mcpserver import MCPServer, MCPServerSpec, SecretKeyRef
from toolkeeper.resources.meta import RESTARTED_AT
from toolkeeper.resources.quantity import memory_bytes, nano_cpus

__all__ = ["NEWEST", "RENDERERS", "Rendered", "container_name", "probe_use", "render", "secret_uses"]

DEFAULT_PORT = 8000
DEFAULT_PATHS = {"streamable-http": "/mcp", "sse": "/sse"}
WRITABLE_HOME = EnvEntry("HOME", "/tmp")
"""A share of servers writes to its home, which a read-only root forbids; the tmpfs takes it."""

Versions = Mapping[str, str]
"""`<secret>/<key>` → digest of its current value."""
Renderer = Callable[[MCPServer, str, Versions], Instance]


@dataclass(frozen=True, slots=True)
class Rendered:
    """The container wanted, or why there is none."""

    instance: Instance | None
    hash: str = ""
    hashes: Mapping[int, str] = field(default_factory=dict)
    """The hash under every known renderer version."""
    instances: Mapping[int, Instance] = field(default_factory=dict)
    """The instance under every known renderer version."""
    missing_secrets: tuple[str, ...] = ()
    """`<secret>/<key>` of each value that could not be resolved."""
    refused: tuple[str, str] | None = None
    """(reason, message) of a spec that cannot run at all."""


def secret_uses(spec: MCPServerSpec) -> tuple[tuple[str, str], ...]:
    """All (secret, key) pairs that must resolve before the server may start, sorted, each once."""
    return tuple(sorted({(ref.name, ref.key) for ref in _references(spec)}))


def probe_use(spec: MCPServerSpec) -> tuple[str, str] | None:
    """The (secret, key) that probes of the server show. It is no part of the container, and nothing waits for it."""
    ref = spec.health.credentials_ref
    return None if ref is None or spec.transport == "stdio" else (ref.name, ref.key)


def _references(spec: MCPServerSpec) -> Iterator[SecretKeyRef]:
    yield from (each.value_from.secret_key_ref for each in spec.env if each.value_from is not None)
    yield from (each.secret_ref for each in spec.files if each.secret_ref is not None)
    if spec.pull_secret_ref is not None:
        yield from (SecretKeyRef(name=spec.pull_secret_ref, key=key) for key in ("username", "password"))


def _render_1(server: MCPServer, installation: str, secrets: Versions) -> Instance:
    spec, http = server.spec, server.spec.transport != "stdio"
    identity = (installation, server.metadata.namespace, server.metadata.name)
    secured = hardening(spec.security)
    return Instance(
        renderer=1,
        transport=spec.transport,
        image=spec.image or "",
        package=_package(spec),
        pull_policy=spec.pull_policy,
        port=(spec.port or DEFAULT_PORT) if http else 0,
        path=(spec.path or DEFAULT_PATHS[spec.transport]) if http else "",
        host_header=spec.host_header or "",
        command=spec.command,
        args=spec.args,
        env=_environment(spec, secrets, writable_home=secured.read_only_root),
        files=_files(spec, secrets),
        volumes=tuple(
            VolumeMount(volume_name(*identity, each.name), each.path, each.read_only)
            for each in sorted(spec.volumes, key=lambda each: each.path)
        ),
        limits=Limits(
            memory=memory_bytes(spec.resources.memory),
            nano_cpus=nano_cpus(spec.resources.cpu),
            pids=spec.resources.pids,
        ),
        hardening=secured,
        reach=Reach(
            egress=spec.network.egress.default,
            allow=tuple(sorted(set(spec.network.egress.allow))),
            peers=tuple(sorted(set(spec.network.peers))),
        ),
        restart=spec.restart_policy,
        probe_interval=spec.health.interval_seconds if http else 0,
        restart_token=_opaque(server.metadata.annotations.get(RESTARTED_AT, "")),
    )


def _package(spec: MCPServerSpec) -> PackageSource | None:
    wanted = spec.package
    if wanted is None:
        return None
    companions, system = tuple(sorted(set(wanted.with_))), tuple(sorted(set(wanted.system)))
    return PackageSource(wanted.registry, wanted.name, wanted.version, companions, system)


def _environment(spec: MCPServerSpec, secrets: Versions, *, writable_home: bool) -> tuple[EnvEntry, ...]:
    """Sorted by name: the order of variables means nothing, so it must not restart anything."""
    entries = [
        EnvEntry(each.name, each.value)
        if each.value_from is None
        else EnvEntry(each.name, secret=_use(each.value_from.secret_key_ref, secrets))
        for each in spec.env
    ]
    if writable_home and all(each.name != WRITABLE_HOME.name for each in entries):
        entries.append(WRITABLE_HOME)
    return tuple(sorted(entries, key=lambda entry: entry.name))


def _files(spec: MCPServerSpec, secrets: Versions) -> tuple[FileEntry, ...]:
    entries = [
        FileEntry(each.path, each.value)
        if each.secret_ref is None
        else FileEntry(each.path, secret=_use(each.secret_ref, secrets))
        for each in spec.files
    ]
    return tuple(sorted(entries, key=lambda entry: entry.path))


def _use(ref: SecretKeyRef, secrets: Versions) -> SecretUse:
    return SecretUse(ref.name, ref.key, secrets[f"{ref.name}/{ref.key}"])


def _opaque(text: str) -> str:
    """Annotations may be long; only whether they changed matters."""
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


RENDERERS: Mapping[int, Renderer] = {1: _render_1}
"""Every version that a container out there may carry. New defaults are a new version, never an edit of an old one:
they reach a container with its next rollout, not by an upgrade of Toolkeeper."""
NEWEST = max(RENDERERS)


def render(
    server: MCPServer,
    *,
    installation: str,
    secrets: Versions,
    node_features: frozenset[str] = frozenset(),
    renderers: Mapping[int, Renderer] = RENDERERS,
) -> Rendered:
    """The exact container wanted, under every renderer version.

    `node_features` is what the toolbox announces (empty: unknown). It can refuse a spec but never changes the value:
    an upgrade of a node would otherwise restart its servers.
    """
    refused = refusal(server, installation, node_features)
    if refused is not None:
        return Rendered(None, refused=refused)
    needed = (f"{name}/{key}" for name, key in secret_uses(server.spec))
    missing = tuple(each for each in needed if each not in secrets)
    if missing:
        return Rendered(None, missing_secrets=missing)
    instances = {version: draw(server, installation, secrets) for version, draw in renderers.items()}
    hashes = {version: spec_hash(instance) for version, instance in instances.items()}
    newest = max(instances)
    return Rendered(instances[newest], hashes[newest], hashes, instances)
