"""The names of what is on a host. `_` cannot occur in the parts (DNS labels), so no two names can collide."""

from __future__ import annotations

NAME_PARTS = 5


def hash8(spec_hash: str) -> str:
    """The first eight hex digits of a spec hash `v1:sha256:<64 hex>`."""
    return spec_hash.rpartition(":")[2][:8]


def container_name(installation: str, namespace: str, name: str, spec_hash: str) -> str:
    """`tk_<installation>_<namespace>_<name>_<hash8>`: deterministic, so a lost reply to a create is harmless."""
    return f"tk_{installation}_{namespace}_{name}_{hash8(spec_hash)}"


def installation_of(container: str) -> str:
    """The installation that a container's name speaks of; empty if it is no name of ours."""
    parts = container.split("_")
    return parts[1] if len(parts) == NAME_PARTS and parts[0] == "tk" else ""


def volume_prefix(installation: str, namespace: str, name: str) -> str:
    """What the names of all volumes of one server begin with, and of no other."""
    return f"tk_{installation}_{namespace}_{name}_"


def volume_name(installation: str, namespace: str, name: str, volume: str) -> str:
    """The host's name of a volume; it outlives containers, so it carries no hash."""
    return volume_prefix(installation, namespace, name) + volume
