"""Where Docker is, and what this node may use of the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path

DAY = 86400.0
ADDRESSES = IPv4Network("10.201.0.0/16")


@dataclass(frozen=True, slots=True)
class DockerSettings:
    """All that the Docker runtime is told. Paths must be the same for the daemon as for the node agent."""

    socket: Path = Path("/var/run/docker.sock")
    addresses: IPv4Network = ADDRESSES
    """Where all addresses of containers come from: /18 or larger, and nobody else's."""
    run: Path = Path("/run/toolkeeper")
    """In memory: files of servers, settings of builds."""
    state: Path = Path("/var/lib/toolkeeper")
    """Survives a reboot: which images this node brought."""
    python_bases: tuple[str, ...] = ("toolkeeper/base-python:bookworm", "python:3.12-slim-bookworm")
    node_bases: tuple[str, ...] = ("toolkeeper/base-node:24", "node:24-bookworm-slim")
    """Base images for packages, best first; the last one is pulled when none is there."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The node's own variables: certificates, proxies and package indexes for builds."""
    keep_images_seconds: float = 7 * DAY
    """How long an image that this node brought stays without a container."""
    only: frozenset[str] = frozenset()
    """The installations that this agent looks after, if it is not the only agent on the host; empty = all."""
    check_seconds: float = 60.0
    """Between looks at what no event tells of, such as a flushed firewall."""
