"""A container that somebody edited is replaced, under the same name, by what is wanted."""

from __future__ import annotations

from toolkeeper.planning.drift import drifts
from toolkeeper.planning.situation import Situation, Verdict

LONGEST = 1000
"""Characters of a drift that are remembered and told."""


def drifted(s: Situation) -> Verdict | None:
    """Remember what was found, and remove the container; its absence brings the new one."""
    found = found_drift(s)
    if not found or s.match is None or _repaired_in_vain(s, found):
        return None
    memory = s.memory.model_copy(update={"drift": found, "drift_container": s.match.container_id})
    steps = s.remove([s.match], f"it was edited ({found})")
    return Verdict(False, "Drifted", found, steps=steps, memory=memory)


def found_drift(s: Situation) -> str:
    """What is not as it was made, in words; empty if nothing, or nothing that can be known."""
    match = s.match
    if match is None or match.live is None or match.state not in ("running", "exited"):
        return ""
    instance = s.wanted.instances.get(match.renderer)
    if instance is None:
        return ""
    return "; ".join(map(str, drifts(instance, match)))[:LONGEST]


def persisting_drift(s: Situation) -> str:
    """What a fresh container shows again: the host cannot do what is wanted, and replacing would never end."""
    if not s.memory.drift:
        return ""
    found = found_drift(s)
    return found if found and _repaired_in_vain(s, found) else ""


def _repaired_in_vain(s: Situation, found: str) -> bool:
    return (
        s.match is not None and s.memory.drift == found and s.memory.drift_container != s.match.container_id
    )
