"""Events: transitions that a person may want to read later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from toolkeeper.resources.meta import Key


@dataclass(frozen=True, slots=True)
class Event:
    """One transition of one resource. Never written for what merely continues."""

    key: Key
    type: Literal["Normal", "Warning"]
    reason: str
    """UpperCamelCase: a reason of `toolkeeper.resources.reasons`, or a deed such as Created, DriftRepaired."""
    message: str
    uid: str = ""
    at: datetime | None = None
