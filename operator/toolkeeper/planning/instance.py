"""The exact container wanted: the one value that what creates and what compares both read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Short = Annotated[str, Field(max_length=512)]
Line = Annotated[str, Field(max_length=65536)]


@dataclass(frozen=True, slots=True)
class SecretUse:
    """A secret value that the container needs. `version` is a keyed digest, so a rotation changes the hash."""

    name: Short
    key: Short
    version: Short


@dataclass(frozen=True, slots=True)
class EnvEntry:
    """One variable: `value`, or `secret` whose value travels beside the instance, never in it."""

    name: Short
    value: Line | None = None
    secret: SecretUse | None = None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file in memory."""

    path: Short
    value: Line | None = None
    secret: SecretUse | None = None


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """One named volume; `volume` is the host's name for it."""

    volume: Short
    path: Short
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A package to build an image from, or to install into a cached environment."""

    registry: Literal["pypi", "npm"]
    name: Short
    version: Short
    companions: tuple[Short, ...] = ()
    system: tuple[Short, ...] = ()


@dataclass(frozen=True, slots=True)
class Hardening:
    """The resolved security profile: numbers and switches, no preset names to interpret on the host."""

    profile: Short = "restricted"
    cap_drop: tuple[Short, ...] = ("ALL",)
    cap_add: tuple[Short, ...] = ()
    no_new_privileges: bool = True
    read_only_root: bool = True
    tmpfs: tuple[tuple[Short, Short], ...] = (("/tmp", "rw,noexec,nosuid,nodev,size=64m"),)
    user: Short = "65532:65532"
    """`uid:gid`; empty means the user of the image."""
    init: bool = True
    nofile: int = 1024
    log_max_size: Short = "10m"
    log_max_files: int = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """Hard limits: bytes, billionths of a CPU, processes."""

    memory: int = 512 * 1024 * 1024
    nano_cpus: int = 1_000_000_000
    pids: int = 256


@dataclass(frozen=True, slots=True)
class Reach:
    """Whom the container may talk to. `egress` open means the network with a way out."""

    egress: Literal["deny", "allow"] = "deny"
    allow: tuple[Short, ...] = ()
    peers: tuple[Short, ...] = ()
    """Names of the servers (same namespace) that it may reach."""


@dataclass(frozen=True, slots=True)
class Instance:
    """The exact container wanted. Its canonical form is hashed; nothing here may change by itself."""

    renderer: int
    transport: Literal["stdio", "streamable-http", "sse"]
    image: Short = ""
    package: PackageSource | None = None
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    port: int = 0
    path: Short = ""
    host_header: Short = ""
    command: tuple[Line, ...] = ()
    args: tuple[Line, ...] = ()
    env: tuple[EnvEntry, ...] = ()
    files: tuple[FileEntry, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()
    limits: Limits = Limits()
    hardening: Hardening = Hardening()
    reach: Reach = Reach()
    restart: Literal["Always", "OnFailure", "Never"] = "Always"
    probe_interval: int = 15
    """Seconds between probes of an HTTP server."""
    restart_token: Short = ""
    """Opaque: a requested restart changes it, and with it the hash."""
