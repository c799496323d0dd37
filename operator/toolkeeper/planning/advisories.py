"""Fields that have no effect on this host. Said once, never silently ignored."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from toolkeeper.resources.mcpserver import MCPServerSpec

Asked = Callable[[MCPServerSpec], bool]

NEEDS: tuple[tuple[str, str, Asked], ...] = (
    # field, the feature of the host that enforces it, whether this spec asks for it
    ("spec.resources.memory", "memory", lambda spec: True),
    ("spec.resources.cpu", "cpu", lambda spec: True),
    ("spec.resources.pids", "pids", lambda spec: True),
    ("spec.security (capabilities)", "capabilities", lambda spec: True),
    (
        "spec.security (read-only root)",
        "read-only-root",
        lambda spec: spec.security.profile == "restricted" and not spec.security.writable_root,
    ),
    (
        "spec.security (user)",
        "user",
        lambda spec: spec.security.profile == "restricted" or spec.security.run_as_user is not None,
    ),
    ("spec.network", "network", lambda spec: spec.network.egress.default == "deny"),
    ("spec.network.egress.allow", "egress-allow", lambda spec: bool(spec.network.egress.allow)),
    ("spec.network.peers", "peers", lambda spec: bool(spec.network.peers)),
    ("spec.volumes", "volumes", lambda spec: bool(spec.volumes)),
    ("spec.files", "files", lambda spec: bool(spec.files)),
    (
        "spec.package.system",
        "system-packages",
        lambda spec: spec.package is not None and bool(spec.package.system),
    ),
    ("spec.health.credentialsRef", "probe-credentials", lambda spec: spec.health.credentials_ref is not None),
    ("spec.access", "access", lambda spec: bool(spec.access.agents or spec.access.tools)),
    ("spec.sessions", "sessions", lambda spec: spec.sessions == "shared"),
    ("spec.tools.pin (calls)", "access", lambda spec: spec.tools.pin == "Enforce"),
)


def not_enforced(spec: MCPServerSpec, features: tuple[str, ...]) -> tuple[str, ...]:
    """The fields of this spec that this host does not enforce, in the order of the table."""
    missing = _rows_without(features)
    return tuple(field for field, asked in missing if asked(spec))


@lru_cache(maxsize=256)
def _rows_without(features: tuple[str, ...]) -> tuple[tuple[str, Asked], ...]:
    return tuple((field, asked) for field, feature, asked in NEEDS if feature not in features)
