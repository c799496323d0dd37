"""What a probe returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from toolkeeper.planning.observed import Handshake


@dataclass(frozen=True, slots=True)
class ProbeOutcome:
    """The handshake for the node's state, and the definitions, which are too long for it, for its API."""

    handshake: Handshake
    definitions: tuple[dict[str, Any], ...] = ()
    """The tool objects as the server sent them, unknown fields included, in its order."""
