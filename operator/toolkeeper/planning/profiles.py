"""The security presets, as one table. Changing a row needs a new renderer version: see `desired.RENDERERS`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from toolkeeper.planning.instance import Hardening
from toolkeeper.resources.mcpserver import Profile, Security

PROFILES: Mapping[Profile, Hardening] = {
    "restricted": Hardening(profile="restricted"),
    # For images that write beside their code or start as root and drop to a user of their own.
    "baseline": Hardening(
        profile="baseline",
        cap_add=("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"),
        read_only_root=False,
        tmpfs=(),
        user="",
    ),
    # What plain `docker run` gives, but for raw sockets, with which one container could pass for another on their
    # bridge; limits on processes, files and logs stay.
    "permissive": Hardening(
        profile="permissive",
        cap_drop=("NET_RAW",),
        no_new_privileges=False,
        read_only_root=False,
        tmpfs=(),
        user="",
    ),
}


def hardening(security: Security) -> Hardening:
    """The preset with the spec's explicit exceptions."""
    preset = PROFILES[security.profile]
    added = {*preset.cap_add, *(each.removeprefix("CAP_") for each in security.cap_add)}
    user = preset.user if security.run_as_user is None else f"{security.run_as_user}:{security.run_as_user}"
    return replace(
        preset,
        cap_drop=() if "ALL" in added else tuple(each for each in preset.cap_drop if each not in added),
        cap_add=tuple(sorted(added)),
        read_only_root=preset.read_only_root and not security.writable_root,
        user=user,
    )
