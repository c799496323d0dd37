"""Conditions in plain values: compared first, built only when something changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from toolkeeper.resources.conditions import Condition, Status, carry

LONGEST = 2048


class Said(NamedTuple):
    """A condition before it is one."""

    type: str
    status: Status
    reason: str
    message: str
    generation: int


def word(status: bool | None) -> Status:
    """The Kubernetes word for a truth value; None = unknown."""
    return "Unknown" if status is None else "True" if status else "False"


def changed_conditions(
    before: tuple[Condition, ...], said: Sequence[Said], now: datetime
) -> tuple[Condition, ...] | None:
    """The new conditions with transition times carried over; None when they say what is there already."""
    if len(before) == len(said) and all(map(_says, before, said)):
        return None
    return carry(before, map(_condition, said), now)


def _says(old: Condition, new: Said) -> bool:
    return (
        old.type == new.type
        and old.status == new.status
        and old.reason == new.reason
        and old.message == new.message
        and old.observed_generation == new.generation
    )


def _condition(said: Said) -> Condition:
    return Condition(
        type=said.type,
        status=said.status,
        reason=said.reason,
        message=said.message,
        observed_generation=said.generation,
    )
