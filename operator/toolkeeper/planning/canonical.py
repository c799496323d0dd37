"""The canonical form of an instance, and its hash.

The form must never change for a renderer version that is in use: every container would be replaced by an upgrade.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict

from toolkeeper.planning.instance import Instance

SINCE: Mapping[str, int] = {}
"""Fields that `Instance` got later (`field` or `part.field`) → the first renderer version whose form has them."""

NOT_HASHED = frozenset({"pull_policy"})
"""How the container comes into being, not what it is: editing it restarts nothing."""


def canonical(instance: Instance) -> str:
    """JSON with sorted keys and every default written out."""
    form = {name: value for name, value in asdict(instance).items() if name not in NOT_HASHED}
    for path, version in SINCE.items():
        if instance.renderer < version:
            part, _, name = path.rpartition(".")
            (form[part] if part else form).pop(name, None)
    return json.dumps(form, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def spec_hash(instance: Instance) -> str:
    """`v<renderer>:sha256:<64 hex>`."""
    digest = hashlib.sha256(canonical(instance).encode()).hexdigest()
    return f"v{instance.renderer}:sha256:{digest}"
